// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"strings"
	"testing"

	"github.com/abot-trace/abot-trace/internal/event"
)

func TestProtection(t *testing.T) {
	additions := Protect{Users: []string{"backup", "33"}, Units: []string{"postgresql*.service"}, Cmdline: []string{"--precious"},
		Containers: []string{"db-*", "registry/*", "0123*"}}
	in := func(c Container) Process { return Process{Comm: "x", Container: c} }
	tests := []struct {
		name    string
		process Process
		want    string
	}{
		{"plain worker", Process{Comm: "python3", Exe: "/usr/bin/python3.11", Cmdline: "python3 -c x"}, ""},
		{"pid 1", Process{ID: id(1), Comm: "tini"}, "it is pid 1"},
		{"outside our pid namespace", Process{ID: id(-1)}, "it has no pid that could be signalled"},
		{"kernel thread", Process{Kthread: true, Comm: "kworker/0:1"}, "it is a kernel thread"},
		{"ourselves", Process{Ours: Ourselves}, "it is abot-trace itself"},
		{"our ancestor", Process{Ours: OurAncestor, Comm: "bash"}, "it is an ancestor of abot-trace"},
		{"our descendant", Process{Ours: OurDescendant}, "it is a descendant of abot-trace"},
		{"oom_score_adj", Process{OOMScoreAdj: -1000}, "its oom_score_adj is -1000"},
		{"lower oom_score_adj", Process{OOMScoreAdj: -999}, ""},
		{"main process", Process{MainPID: true, Unit: "a.service"}, "it is the main process of the active unit a.service"},
		{"user manager", Process{Comm: "systemd", Exe: "/usr/lib/systemd/systemd", Cmdline: "/usr/lib/systemd/systemd --user"},
			"it is init or a user manager"},
		{"user manager's helper", Process{Comm: "(sd-pam)", Cmdline: "(sd-pam)"}, "it is init or a user manager"},
		{"containerd shim, comm is cut at 15", Process{Comm: "containerd-shim", Exe: "/usr/bin/containerd-shim-runc-v2"},
			"it is a container runtime or shim"},
		{"conmon by its program", Process{Comm: "renamed", Exe: "/usr/libexec/podman/conmon"}, "it is a container runtime or shim"},
		{"upgraded runtime", Process{Comm: "x", Exe: "/usr/bin/dockerd (deleted)"}, "it is a container runtime or shim"},
		{"sshd session by its title", Process{Comm: "x", Cmdline: "sshd: root@pts/0"}, "it is part of the login path"},
		{"sshd session process", Process{Comm: "sshd-session"}, "it is part of the login path"},
		{"login", Process{Comm: "login", Cmdline: "login -- root"}, "it is part of the login path"},
		{"dbus", Process{Comm: "dbus-broker-lau"}, "it is part of D-Bus"},
		{"resolved", Process{Comm: "systemd-resolve", Exe: "/usr/lib/systemd/systemd-resolved"}, "it is part of systemd"},
		{"a title that merely holds a name", Process{Comm: "python3", Cmdline: "python3 sshd-report.py --systemd"}, ""},
		{"a sibling program", Process{Comm: "sshd-report", Exe: "/opt/sshd/sshd-report"}, ""},
		{"user", Process{Comm: "tar", User: "backup", UID: 34}, "its user is protected by the configuration"},
		{"user by number", Process{Comm: "php", UID: 33}, "its user is protected by the configuration"},
		{"user who lends it his rights", Process{Comm: "nginx", UIDsKnown: true, UIDs: event.UIDs{Effective: 33}},
			"its user is protected by the configuration"},
		{"user whom it can become again", Process{Comm: "nginx", UIDsKnown: true, UIDs: event.UIDs{Real: 7, Effective: 7, Saved: 33}},
			"its user is protected by the configuration"},
		{"user as it was at the exec", Process{Comm: "nginx", AskUIDs: func(p *Process) { p.UIDs, p.UIDsKnown = event.UIDs{Real: 33, Effective: 33, Saved: 33}, true }},
			"its user is protected by the configuration"},
		{"user that nobody can tell", Process{Comm: "nginx", AskUIDs: func(*Process) {}},
			"its user is not known, and the configuration protects some"},
		{"unit", Process{Comm: "postgres", Unit: "postgresql@15-main.service"},
			"its unit postgresql@15-main.service is protected by the configuration"},
		{"command line", Process{Comm: "x", Cmdline: "x --precious"},
			"its command line matches --precious, which the configuration protects"},
	}
	for _, tt := range []struct {
		name string
		c    Container
		want string
	}{
		{"container by name", Container{ContainerID: "9f", ContainerName: "db-1", RootsContainer: true}, "its container db-1 is protected by the configuration"},
		{"container by id", Container{ContainerID: "0123ab", RootsContainer: true}, "its container 0123ab is protected by the configuration"},
		{"container whose name has a slash", Container{ContainerID: "9f", ContainerName: "registry/a/b", RootsContainer: true}, "its container registry/a/b is protected by the configuration"},
		{"other container", Container{ContainerID: "9f", ContainerName: "web", RootsContainer: true}, ""},
		{"a group that a user has named like a container", Container{ContainerID: "0123ab"}, ""},
		{"container that is being looked at", Container{ContainerID: "9f", ContainerPending: true},
			"its container's name is not known yet, and the configuration protects some"},
		{"no container", Container{}, ""},
	} {
		tests = append(tests, struct {
			name    string
			process Process
			want    string
		}{tt.name, in(tt.c), tt.want})
	}
	protection, err := NewProtection(additions)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.process.ID.PID == 0 {
				tt.process.ID = id(500)
			}
			if p := &tt.process; !p.UIDsKnown && p.AskUIDs == nil {
				p.UIDsKnown, p.UIDs = true, event.UIDs{Real: p.UID, Effective: p.UID, Saved: p.UID}
			}
			if got := protection.Reason(&tt.process); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestProtectionErrors(t *testing.T) {
	for _, tt := range []struct {
		spec Protect
		want string
	}{
		{Protect{Units: []string{"a["}}, `protect: units: "a[": syntax error in pattern`},
		{Protect{Containers: []string{"a["}}, `protect: containers: "a[": syntax error in pattern`},
		{Protect{Cmdline: []string{"("}}, "protect: cmdline: missing closing )"},
	} {
		if _, err := NewProtection(tt.spec); err == nil || !strings.HasPrefix(err.Error(), tt.want) {
			t.Errorf("got %v, want %q", err, tt.want)
		}
		if _, err := NewEngine(Options{Protect: tt.spec}); err == nil {
			t.Errorf("the engine accepts %+v", tt.spec)
		}
	}
}
