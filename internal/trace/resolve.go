// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"bufio"
	"bytes"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/procfs"
)

// A resolver turns the kernel's numbers into the names that people know: users,
// control groups, units, containers. It belongs to one goroutine.
type resolver struct {
	proc    procfs.FS
	users   map[uint32]string
	usersAt time.Time
	// unified says that cgroup v2 is all there is, so that a cgroup id tells the path.
	unified bool
	byID    map[uint64]group
	byProc  map[event.ID]group
	// assumed is where the spawner stood at the fork, which is where a child begins.
	assumed map[event.ID]group
}

// A group is where a process stands.
type group struct {
	path string
	unit procfs.Unit
}

func newResolver() *resolver {
	var st unix.Statfs_t
	err := unix.Statfs("/sys/fs/cgroup", &st)
	return &resolver{
		unified: err == nil && st.Type == unix.CGROUP2_SUPER_MAGIC,
		byID:    make(map[uint64]group),
		byProc:  make(map[event.ID]group),
		assumed: make(map[event.ID]group),
	}
}

// Bounds on what the caches hold; a full one starts again.
const (
	maxGroups = 16384
	usersFor  = time.Minute
)

// user returns the name of uid, or its number where it has none.
func (r *resolver) user(uid uint32) string {
	if now := time.Now(); r.users == nil || now.Sub(r.usersAt) > usersFor {
		r.users, r.usersAt = readUsers("/etc/passwd"), now
	}
	if name, ok := r.users[uid]; ok {
		return name
	}
	return strconv.FormatUint(uint64(uid), 10)
}

// readUsers reads passwd(5). The daemon asks no network directory: it has no network.
func readUsers(path string) map[uint32]string {
	users := make(map[uint32]string)
	b, err := os.ReadFile(path)
	if err != nil {
		return users
	}
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		fields := strings.Split(s.Text(), ":")
		if len(fields) < 3 {
			continue
		}
		if uid, err := strconv.ParseUint(fields[2], 10, 32); err == nil {
			if _, taken := users[uint32(uid)]; !taken {
				users[uint32(uid)] = fields[0]
			}
		}
	}
	return users
}

// group returns where the process stands: from what is known of its cgroup, else by
// asking procfs when it is alive.
func (r *resolver) group(id event.ID, cgroup uint64, alive bool) group {
	if r.unified {
		if g, ok := r.byID[cgroup]; ok {
			return g
		}
	} else if g, ok := r.byProc[id]; ok {
		return g
	}
	if !alive || gone(id.PID) {
		return group{}
	}
	p, err := r.proc.OpenID(id)
	if err != nil {
		return group{}
	}
	defer p.Close()
	groups, err := p.Cgroups()
	if err != nil {
		return group{}
	}
	g := group{path: groups.Path()}
	g.unit = procfs.UnitOf(g.path)
	if len(r.byID) > maxGroups {
		clear(r.byID)
	}
	if len(r.byProc) > maxGroups {
		clear(r.byProc)
	}
	if r.unified {
		r.byID[cgroup] = g
	} else {
		r.byProc[id] = g
	}
	return g
}

// gone reports whether nobody has the pid: a short-lived process is often reaped before
// its records are read, and this takes a tenth of what procfs takes to say so.
func gone(pid int32) bool {
	_, _, errno := unix.RawSyscall(unix.SYS_KILL, uintptr(pid), 0, 0)
	return errno == unix.ESRCH
}

// shown is group for those who read the stream: where the path cannot be told from the
// cgroup's id, a child that has not executed anything is shown where its spawner stood.
// Asking procfs for each short-lived process would take longer than all the rest.
func (r *resolver) shown(id event.ID, cgroup uint64, alive bool) group {
	if g, ok := r.assumed[id]; ok {
		return g
	}
	return r.group(id, cgroup, alive)
}

// forked lets shown assume of a child what it knows of its spawner.
func (r *resolver) forked(child, spawner event.ID) {
	if r.unified {
		return
	}
	g, ok := r.byProc[spawner]
	if !ok {
		if g, ok = r.assumed[spawner]; !ok {
			return
		}
	}
	if len(r.assumed) > maxGroups {
		clear(r.assumed)
	}
	r.assumed[child] = g
}

// moved forgets where a process stood: an exec may come with a new control group.
func (r *resolver) moved(id event.ID) {
	delete(r.byProc, id)
	delete(r.assumed, id)
}

// unitName is the unit that the process belongs to, a user's own where there is one.
func (g group) unitName() string {
	if g.unit.UserUnit != "" {
		return g.unit.UserUnit
	}
	return g.unit.Name
}

// userService reports whether the unit is a service of a user manager. A scope has no
// main process that could be handed over, and is not.
func (g group) userService() bool { return strings.HasSuffix(g.unit.UserUnit, ".service") }
