// SPDX-License-Identifier: Apache-2.0

// Package live has tests of a running daemon that no machine but a guest is to suffer: they
// set the wall clock. It is built with the tag vm.
package live
