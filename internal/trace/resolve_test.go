// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"testing"

	"github.com/abot-trace/abot-trace/internal/procfs"
)

func TestUserService(t *testing.T) {
	const manager = "/user.slice/user-1000.slice/user@1000.service/"
	for _, c := range []struct {
		name, path string
		want       bool
	}{
		{"service of a user", manager + "app.slice/agent.service", true},
		{"below it", manager + "app.slice/agent.service/payload", true},
		{"scope of a user", manager + "app.slice/app-terminal-77.scope", false},
		{"the manager itself", manager + "init.scope", false},
		{"service of the system", "/system.slice/web.service", false},
		{"login session", "/user.slice/user-1000.slice/session-3.scope", false},
		{"a service that only begins like a manager", "/system.slice/user@.service/agent.service", false},
		{"nothing", "/", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := (group{path: c.path, unit: procfs.UnitOf(c.path)}).userService(); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}
