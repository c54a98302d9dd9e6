// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"cmp"
	"fmt"
	"path"
	"regexp"
	"strings"
)

// Protect is what an operator adds to the protected set.
type Protect struct {
	Users      []string // names or numeric ids
	Units      []string // globs
	Containers []string // globs on name or id, in which * matches a slash
	Cmdline    []string // RE2
}

// Protection is the protected set: what is never signalled, by any rule, in any
// mode. It is immutable and safe for concurrent use.
type Protection struct {
	users      []string
	units      []glob
	containers []wideGlob
	cmdline    []*regexp.Regexp
}

// NewProtection compiles the operator's additions to the built-in set. Its errors
// are a [FieldError] without a rule.
func NewProtection(spec Protect) (*Protection, error) {
	p := &Protection{users: spec.Users}
	var err error
	if p.units, err = parseGlobs(spec.Units); err != nil {
		return nil, &FieldError{Field: "units", Err: err}
	}
	if p.containers, err = parseWideGlobs(spec.Containers); err != nil {
		return nil, &FieldError{Field: "containers", Err: err}
	}
	for _, pattern := range spec.Cmdline {
		re, err := compileRE2(pattern)
		if err != nil {
			return nil, &FieldError{Field: "cmdline", Err: err}
		}
		p.cmdline = append(p.cmdline, re)
	}
	return p, nil
}

// guardians are programs whose death takes others with it, by role. A name ends in *
// where versions or runtimes follow.
var guardians = []struct {
	role  string
	names []string
}{
	{"init or a user manager", []string{"systemd", "(sd-pam)", "init", "openrc-init", "runit", "s6-svscan"}},
	{"a container runtime or shim", []string{"containerd", "containerd-shim*", "dockerd", "docker-proxy",
		"docker-init", "podman", "conmon", "crio", "crun", "runc", "youki", "kubelet", "lxc-start", "lxcfs",
		"systemd-nspawn", "kata-*"}},
	{"part of the login path", []string{"sshd", "sshd-session", "sshd-auth", "dropbear", "mosh-server", "login",
		"agetty", "getty", "mingetty", "systemd-logind", "elogind", "elogind-daemon", "gdm*", "sddm*", "lightdm"}},
	{"part of D-Bus", []string{"dbus-daemon", "dbus-broker", "dbus-broker-launch", "dbus-broker-lau"}},
	{"part of systemd", []string{"systemd-*"}},
}

// Reason says in one phrase why p is protected, or returns the empty string. It
// judges by the facts given, which whoever is about to signal refreshes
// first. A process that takes a guardian's name saves itself; that errs on the safe
// side.
func (t *Protection) Reason(p *Process) string {
	p.complete()
	switch {
	case p.ID.PID == 1:
		return "it is pid 1"
	case p.ID.PID < 1:
		return "it has no pid that could be signalled"
	case p.Kthread:
		return "it is a kernel thread"
	case p.Ours == Ourselves:
		return "it is abot-trace itself"
	case p.Ours == OurAncestor:
		return "it is an ancestor of abot-trace"
	case p.Ours == OurDescendant:
		return "it is a descendant of abot-trace"
	case p.OOMScoreAdj <= -1000:
		return "its oom_score_adj is -1000"
	case p.MainPID:
		return "it is the main process of the active unit " + p.Unit
	}
	if role := guardian(p); role != "" {
		return "it is " + role
	}
	return t.configured(p)
}

func (t *Protection) configured(p *Process) string {
	if len(t.users) > 0 {
		if !p.KnowsUIDs() {
			return "its user is not known, and the configuration protects some"
		}
		if p.isAnyOf(t.users) {
			return "its user is protected by the configuration"
		}
	}
	if p.Unit != "" && matchAny(t.units, p.Unit) {
		return fmt.Sprintf("its unit %s is protected by the configuration", p.Unit)
	}
	if why := t.container(&p.Container); why != "" {
		return why
	}
	for _, re := range t.cmdline {
		if re.MatchString(p.Cmdline) {
			return fmt.Sprintf("its command line matches %s, which the configuration protects", re)
		}
	}
	return ""
}

// container says why the configuration protects what is in a container, or nothing. Whoever
// can name a control group of his own is not protected by that.
func (t *Protection) container(c *Container) string {
	switch {
	case len(t.containers) == 0 || c.ContainerID == "":
		return ""
	case c.ContainerPending:
		return "its container's name is not known yet, and the configuration protects some"
	case c.RootsContainer && matchesAny(t.containers, c.ContainerName, c.ContainerID):
		return fmt.Sprintf("its container %s is protected by the configuration", cmp.Or(c.ContainerName, c.ContainerID))
	}
	return ""
}

// guardian returns the role of a guardian, by its name, its program or its title.
func guardian(p *Process) string {
	title, _, _ := strings.Cut(p.Cmdline, " ")
	// sshd and login rewrite their titles: "sshd: user@pts/0", "-login".
	title = strings.TrimSuffix(strings.TrimPrefix(title, "-"), ":")
	names := [...]string{p.Comm, base(strings.TrimSuffix(p.Exe, " (deleted)")), base(title)}
	for _, g := range guardians {
		for _, want := range g.names {
			for _, name := range names {
				if isNamed(name, want) {
					return g.role
				}
			}
		}
	}
	return ""
}

func isNamed(name, want string) bool {
	if prefix, ok := strings.CutSuffix(want, "*"); ok {
		return strings.HasPrefix(name, prefix)
	}
	return name == want
}

func base(p string) string {
	if p == "" {
		return ""
	}
	return path.Base(p)
}
