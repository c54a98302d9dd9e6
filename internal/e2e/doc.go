// SPDX-License-Identifier: Apache-2.0

// Package e2e holds the tests of the program as a whole: a real daemon, real families
// of processes, and what became of them. All of it runs in a pid namespace of its own,
// so that nothing else can be reached.
package e2e
