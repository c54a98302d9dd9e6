// SPDX-License-Identifier: Apache-2.0

package systemd

import (
	"os"
	"path/filepath"
	"testing"
)

func TestEnabled(t *testing.T) {
	const unit = "abot-trace.service"
	for _, tt := range []struct {
		name  string
		links map[string]string
		want  bool
	}{
		{"nothing", nil, false},
		{"installed", map[string]string{"usr/lib/systemd/system/abot-trace.service": "/dev/zero"}, false},
		{"wanted", map[string]string{"etc/systemd/system/multi-user.target.wants/abot-trace.service": "/usr/lib/systemd/system/abot-trace.service"}, true},
		{"required, until the next boot", map[string]string{"run/systemd/system/basic.target.requires/abot-trace.service": "x"}, true},
		{"wanted by its package", map[string]string{"usr/lib/systemd/system/multi-user.target.wants/abot-trace.service": "../abot-trace.service"}, true},
		{"another is wanted", map[string]string{"etc/systemd/system/multi-user.target.wants/abot-trace-notify.service": "x"}, false},
		{"masked", map[string]string{"etc/systemd/system/abot-trace.service": "/dev/null",
			"etc/systemd/system/multi-user.target.wants/abot-trace.service": "x"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			for path, target := range tt.links {
				path = filepath.Join(root, path)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.Symlink(target, path); err != nil {
					t.Fatal(err)
				}
			}
			if got := Enabled(root, unit); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}
