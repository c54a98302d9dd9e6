// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"bytes"
	"slices"
	"strings"
)

// Cgroups is where a process stands in the control group hierarchies. Paths are
// as its reader's cgroup namespace shows them; empty where there is no such
// hierarchy.
type Cgroups struct {
	Unified string // cgroup v2
	Systemd string // the v1 hierarchy name=systemd: v1 and hybrid hosts
	Other   string // a v1 controller's, where neither of the two says anything
}

// Path is the one that systemd's unit and the container's id can be read from.
func (c Cgroups) Path() string {
	for _, path := range [...]string{c.Systemd, c.Unified, c.Other} {
		if path != "" && path != "/" {
			return path
		}
	}
	if c == (Cgroups{}) {
		return ""
	}
	return "/"
}

// maxCgroup bounds the file: a path is at most 4 KiB, hierarchies are about a dozen.
const maxCgroup = 64 << 10

// Cgroups reads the process's control groups.
func (p *Process) Cgroups() (Cgroups, error) {
	buf, err := p.readAll("cgroup", 4<<10, maxCgroup)
	if err != nil {
		return Cgroups{}, err
	}
	c, err := parseCgroups(buf)
	if err != nil {
		return Cgroups{}, p.fail("cgroup", err)
	}
	return c, nil
}

// Cgroups reads the control groups of the process that has pid now.
func (f FS) Cgroups(pid int32) (Cgroups, error) {
	p, err := f.open(pid)
	if err != nil {
		return Cgroups{}, err
	}
	defer p.Close()
	return p.Cgroups()
}

// parseCgroups reads lines "id:controllers:path". The kernel refuses a newline in
// a cgroup's name; colons it allows.
func parseCgroups(b []byte) (c Cgroups, err error) {
	for line := range bytes.Lines(b) {
		part := strings.SplitN(strings.TrimSuffix(string(line), "\n"), ":", 3)
		if len(part) != 3 || !strings.HasPrefix(part[2], "/") {
			return Cgroups{}, errSyntax
		}
		path := strings.TrimSuffix(part[2], " (deleted)")
		controllers := strings.Split(part[1], ",")
		switch {
		case part[0] == "0" && part[1] == "":
			c.Unified = path
		case slices.Contains(controllers, "name=systemd"):
			c.Systemd = path
		case c.Other == "" || c.Other == "/":
			c.Other = path
		}
	}
	return c, nil
}
