// SPDX-License-Identifier: Apache-2.0

package systemd

import (
	"os"
	"path/filepath"
)

// unitDirs are where systemd looks for what is to be started (systemd.unit(5), "Unit File
// Load Path").
var unitDirs = []string{"etc/systemd/system", "run/systemd/system", "usr/local/lib/systemd/system", "usr/lib/systemd/system", "lib/systemd/system"}

// Enabled reports whether something wants or requires the unit, and it is not masked. It
// asks nobody: links say so, also to an ordinary user and where systemd does not run. root
// stands for "/"; "" is the real one.
func Enabled(root, unit string) bool {
	enabled := false
	for _, dir := range unitDirs {
		dir = filepath.Join(root, "/", dir)
		if target, err := os.Readlink(filepath.Join(dir, unit)); err == nil && target == os.DevNull {
			return false
		}
		for _, kind := range []string{"wants", "requires"} {
			links, _ := filepath.Glob(filepath.Join(dir, "*."+kind, unit))
			enabled = enabled || len(links) > 0
		}
	}
	return enabled
}
