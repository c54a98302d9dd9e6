// SPDX-License-Identifier: Apache-2.0

//go:build !race

package e2e

// race says that the program under test is to be built with the race detector, too.
const race = false
