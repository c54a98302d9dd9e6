// SPDX-License-Identifier: Apache-2.0

// Package clock has a test that sets the wall clock under a running daemon. It is built
// for test guests only, with the tag vm: no other machine's clock is ours to set.
package clock
