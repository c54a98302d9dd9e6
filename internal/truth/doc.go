// SPDX-License-Identifier: Apache-2.0

// Package truth holds no code, only tests: families of processes made for real on the
// running kernel, and what probe and tracker together must say of them.
package truth
