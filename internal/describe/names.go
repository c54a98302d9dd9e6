// SPDX-License-Identifier: Apache-2.0

package describe

import (
	"maps"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/boottime"
	"github.com/abot-trace/abot-trace/internal/container"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/procfs"
	"github.com/abot-trace/abot-trace/internal/rawsys"
	"github.com/abot-trace/abot-trace/internal/tracker"
)

// Names turns the kernel's numbers into the names that people know: users,
// control groups, units, containers. It belongs to one goroutine.
type Names struct {
	proc  procfs.FS
	users *users
	// unified says that cgroup v2 is all there is, so that a cgroup id tells the path.
	unified bool
	// root is where the unified hierarchy is mounted, where unified is.
	root   string
	byID   map[uint64]Group
	byProc map[event.ID]place
	roomAt int // see makeRoom
	// lastAnswers are some of the last answers of inherited, by pid: most processes are asked
	// about three times in a row. Nothing of it is older than the last move.
	lastAnswers [64]groupAnswer
	// tree is asked in whose groups a process began; nil where every process is asked
	// for itself. Of those that began before since it is not known whether they were
	// moved.
	tree  *tracker.Tree
	since uint64
	// now is the time of the last look at the ring; zero where there is no tree.
	now time.Time
	// kept, unless it is nil, is called with each answer.
	kept func(*KnownGroup)
	past bool // nobody is asked
	// containers knows their names; nil in the past.
	containers *container.Book
}

// A Group is the control group that a process is in.
type Group struct {
	Path      string
	Unit      procfs.Unit
	Container procfs.ContainerGroup
}

func groupAt(path string) Group {
	return Group{path, procfs.UnitOf(path), procfs.ContainerGroupOf(path)}
}

// A place is what is known of one process's groups.
type place struct {
	Group
	known uint64 // since this instant (CLOCK_BOOTTIME, ns); 0 says that it is not, after a move
}

// groupAnswer is where a process was told to stand.
type groupAnswer struct {
	id    event.ID
	group Group
}

// cgroupRoot is where systemd and everyone else mounts control groups.
const cgroupRoot = "/sys/fs/cgroup"

// NewNames returns names for who reads the tree's records in their order, or for
// who has no tree.
func NewNames(tree *tracker.Tree) *Names {
	var st unix.Statfs_t
	err := unix.Statfs(cgroupRoot, &st)
	return &Names{
		unified: err == nil && st.Type == unix.CGROUP2_SUPER_MAGIC,
		root:    cgroupRoot,
		byID:    make(map[uint64]Group),
		byProc:  make(map[event.ID]place),
		users:   newUsers(passwd),
		tree:    tree,
		since:   boottime.Now(),

		containers: container.Host,
	}
}

// SetNow says what time it is, for as long as the loop does not say otherwise: to ask the
// clock for each name takes longer than to find it. Names without a tree ask it.
func (r *Names) SetNow(now time.Time) { r.now = now }

// maxGroups bounds what the caches hold; a full one starts again.
const maxGroups = 16384

// User returns the name of uid, or its number where it has none.
func (r *Names) User(uid uint32) string {
	if r.past {
		return r.users.known(uid)
	}
	now := r.now
	if r.tree == nil {
		now = time.Now()
	}
	return r.users.name(uid, now)
}

// Group returns where the process stands: from what is known of its cgroup, or of whom it
// was copied from, else by asking procfs when it is alive.
func (r *Names) Group(id event.ID, cgroup uint64, alive bool) Group {
	if r.unified {
		return r.groupOf(id, cgroup, alive)
	}
	last := &r.lastAnswers[uint32(id.PID)%uint32(len(r.lastAnswers))]
	if last.id == id && !id.IsZero() {
		return last.group
	}
	g, ok, from := r.inherited(id)
	if ok {
		*last = groupAnswer{id, g}
	}
	if ok || !alive {
		return g
	}
	if !from.IsZero() {
		// For those that it forks from now on.
		r.place(from)
	}
	return r.place(id)
}

// groupOf returns the group with that id of the unified hierarchy, in which the process
// stood when a record was made: by now it may stand in another. So what procfs says counts
// for that id only where the directory has it for its number. Of the one that it was copied
// from the same is asked. Where nobody stands there any more, a living process is told to
// be where it is.
func (r *Names) groupOf(id event.ID, cgroup uint64, alive bool) Group {
	if g, ok := r.byID[cgroup]; ok {
		return g
	}
	var now Group
	if alive {
		g, ok := r.learn(id)
		if known, found := r.byID[cgroup]; found {
			return known
		}
		if ok {
			now = g
		}
	}
	if r.tree == nil {
		return now
	}
	if from, ok := r.tree.Begun(id); ok && r.tree.Has(from) {
		if _, ok := r.learn(from); ok {
			if g, found := r.byID[cgroup]; found {
				return g
			}
		}
	}
	return now
}

// learn asks where the process stands now, and keeps that under the id of the group, where
// it can be told.
func (r *Names) learn(id event.ID) (g Group, ok bool) {
	g, ok = r.ask(id)
	if !ok {
		return g, false
	}
	var st unix.Stat_t
	if err := unix.Lstat(filepath.Join(r.root, g.Path), &st); err == nil {
		if len(r.byID) > maxGroups {
			clear(r.byID)
		}
		r.byID[st.Ino] = g
		r.keep(&KnownGroup{Cgroup: st.Ino, Path: g.Path})
	}
	return g, true
}

// place asks where the process stands, and keeps the answer.
func (r *Names) place(id event.ID) Group {
	g, ok := r.ask(id)
	if ok {
		r.makeRoom()
		now := boottime.Now()
		r.byProc[id] = place{g, now}
		r.keep(&KnownGroup{ID: id, Path: g.Path, Known: now})
	}
	return g
}

// leastPlaces is how many places are kept before anybody looks whose processes are forgotten.
const leastPlaces = 1024

// makeRoom has places for whom the tree knows, without a tree for who lives, and for few
// others.
func (r *Names) makeRoom() {
	if len(r.byProc) < r.roomAt {
		return
	}
	maps.DeleteFunc(r.byProc, func(id event.ID, _ place) bool {
		if r.tree == nil {
			return !rawsys.Exists(id.PID)
		}
		_, known := r.tree.Get(id)
		return !known
	})
	if len(r.byProc) > maxGroups {
		r.Forget()
	}
	r.roomAt = min(max(2*len(r.byProc), leastPlaces), maxGroups+1)
}

// ask has procfs say where the process stands.
func (r *Names) ask(id event.ID) (g Group, ok bool) {
	// A short-lived process is often reaped before its records are read, and this takes a
	// tenth of what procfs takes to say so.
	if r.past || !rawsys.Exists(id.PID) {
		return g, false
	}
	p, err := r.proc.OpenID(id)
	if err != nil {
		return g, false
	}
	defer p.Close()
	groups, err := p.Cgroups()
	if err != nil {
		return g, false
	}
	g = groupAt(groups.Path())
	// Asked for early: who asks for the names of its container gets them at once.
	r.containers.Get(g.Container)
	return g, true
}

// maxCopies is how far inherited goes up.
const maxCopies = 16

// inherited returns where the process stands as far as that can be told without asking:
// a process begins where the one stands that it is copied from, and stays there until its
// move is recorded. What is known of the other counts if it was known before the copy was
// made: any move between the two was then recorded before the fork. Where it cannot be
// told, from is the living process that is worth asking, too, if there is one.
func (r *Names) inherited(id event.ID) (g Group, ok bool, from event.ID) {
	var copied event.ID
	for range maxCopies {
		if p, found := r.byProc[id]; found {
			if p.known != 0 && (copied.IsZero() || p.known < copied.Start) {
				return p.Group, true, from
			}
			return g, false, event.ID{}
		}
		if !copied.IsZero() && from.IsZero() && r.tree.Has(id) {
			from = id
		}
		if r.tree == nil || id.Start < r.since {
			break
		}
		in, observed := r.tree.Begun(id)
		if !observed {
			break
		}
		copied, id = id, in
	}
	return g, false, from
}

// Moved takes note of a process's move into the group with that id of the unified
// hierarchy: where it stands now is to be asked.
func (r *Names) Moved(id event.ID, cgroup uint64) {
	if r.unified {
		// While somebody stands there it can be told: by the time that somebody asks, the
		// group may be gone.
		if _, ok := r.byID[cgroup]; !ok {
			r.learn(id)
		}
		return
	}
	r.makeRoom()
	r.byProc[id] = place{}
	r.lastAnswers = [len(r.lastAnswers)]groupAnswer{}
}

// Forget is for when records were lost, those of moves perhaps: whoever lives now may have
// been moved.
func (r *Names) Forget() { r.ForgetAt(boottime.Now()) }

// ForgetAt is Forget at a CLOCK_BOOTTIME instant.
func (r *Names) ForgetAt(now uint64) {
	clear(r.byProc)
	r.lastAnswers = [len(r.lastAnswers)]groupAnswer{}
	r.since = now
}

// UnitName is the unit that the process belongs to, a user's own where there is one.
func (g Group) UnitName() string {
	if g.Unit.UserUnit != "" {
		return g.Unit.UserUnit
	}
	return g.Unit.Name
}

// UserService reports whether the unit is a service of a user manager. A scope has no
// main process that could be handed over, and is not.
func (g Group) UserService() bool { return strings.HasSuffix(g.Unit.UserUnit, ".service") }

// containerWait is how long who has no tree, and so can wait, waits for a container's names.
const containerWait = 200 * time.Millisecond

// Container returns what is known of the container that a group is in. Known is false while
// that is being found out; of the past nothing is found out.
func (r *Names) Container(g Group) (info container.Info, known bool) {
	switch {
	case r.containers == nil || g.Container.ID == "":
		return info, true
	case r.tree == nil:
		return r.containers.Await(g.Container, containerWait)
	default:
		return r.containers.Get(g.Container)
	}
}
