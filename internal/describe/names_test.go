// SPDX-License-Identifier: Apache-2.0

package describe

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/boottime"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/procfs"
	"github.com/abot-trace/abot-trace/internal/tracker"
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
			if got := (Group{Path: c.path, Unit: procfs.UnitOf(c.path)}).UserService(); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

// TestInheritedGroup wants a process that cannot be asked, because it does not exist, told
// to be where it began exactly where that is certain.
func TestInheritedGroup(t *testing.T) {
	self := event.ID{PID: int32(os.Getpid())}
	stat, err := procfs.FS{}.Stat(self.PID)
	if err != nil {
		t.Fatal(err)
	}
	self.Start = stat.StartTicks * 10_000_000
	tree := tracker.New(0)
	pid := int32(1 << 23) // above every pid that Linux gives
	fork := func(from event.ID, put bool) event.ID {
		pid++
		id := event.ID{PID: pid, Start: boottime.Now()}
		tree.Apply(&event.Event{Kind: event.KindFork, Subject: id, Time: id.Start, Fork: event.Fork{Spawner: from, Caller: from, Moved: put}})
		return id
	}
	r := NewNames(tree)
	r.unified = false
	early := fork(self, false)
	if g := r.Group(early, 0, true); g.Path != "" {
		t.Errorf("forked before its spawner was asked: %+v", g)
	}
	own := r.byProc[self].Group
	if own.Path == "" {
		t.Fatal("its spawner was not asked")
	}
	child := fork(self, false)
	grandchild := fork(child, false)
	put := fork(child, true)
	tree.Apply(&event.Event{Kind: event.KindExit, Subject: child, Time: boottime.Now()})
	moved := fork(self, false)
	before := fork(moved, false)
	r.Moved(moved, 0)
	after := fork(moved, false)
	for _, c := range []struct {
		name string
		id   event.ID
		want Group
	}{
		{"child", child, own},
		{"grandchild", grandchild, own},
		{"put elsewhere at its fork", put, Group{}},
		{"moved later", moved, Group{}},
		{"forked before its spawner was moved", before, Group{}}, // true, but not certain any more
		{"forked after that", after, Group{}},
		{"not of the tree", event.ID{PID: pid + 1, Start: boottime.Now()}, Group{}},
	} {
		if got := r.Group(c.id, 0, true); got != c.want {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
	r.Forget()
	if got := r.Group(grandchild, 0, true); got != (Group{}) {
		t.Errorf("after a loss: %+v", got)
	}
}

// TestPlacesOfTheForgotten: where processes stood does not stay when the tree has forgotten
// them, or without a tree when they are gone, however many there were.
func TestPlacesOfTheForgotten(t *testing.T) {
	tree := tracker.New(1)
	known := event.ID{PID: 1 << 23, Start: 1}
	tree.Apply(&event.Event{Kind: event.KindFork, Subject: known, Time: 1, Fork: event.Fork{Spawner: event.ID{PID: 1}, Caller: event.ID{PID: 1}}})
	for name, c := range map[string]struct {
		names *Names
		kept  event.ID
	}{
		"of a tree":      {NewNames(tree), known},
		"without a tree": {NewNames(nil), event.ID{PID: int32(os.Getpid()), Start: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			r := c.names
			r.unified = false
			r.Moved(c.kept, 0)
			for i := range 10 * leastPlaces {
				r.Moved(event.ID{PID: 1<<23 + 1, Start: uint64(i + 2)}, 0)
			}
			if n := len(r.byProc); n > leastPlaces {
				t.Errorf("%d are kept", n)
			}
			if _, kept := r.byProc[c.kept]; !kept {
				t.Error("that of a known process is not kept")
			}
		})
	}
}

// TestGroupNeverGuessed wants a group's id told by the name of the directory that has it for
// its number, and not by where a process of the record stands by now.
func TestGroupNeverGuessed(t *testing.T) {
	root, proc := t.TempDir(), t.TempDir()
	ids := map[string]uint64{}
	for _, path := range []string{"/starter", "/web.service", "/other.service"} {
		if err := os.Mkdir(filepath.Join(root, path), 0o755); err != nil {
			t.Fatal(err)
		}
		var st unix.Stat_t
		if err := unix.Stat(filepath.Join(root, path), &st); err != nil {
			t.Fatal(err)
		}
		ids[path] = st.Ino
	}
	// Both have pids that are in use: who is gone is not asked.
	child, starter := event.ID{PID: int32(os.Getpid()), Start: 2e9}, event.ID{PID: int32(os.Getppid()), Start: 1e9}
	stand := func(id event.ID, path string) {
		dir := filepath.Join(proc, strconv.Itoa(int(id.PID)))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		stat := strconv.Itoa(int(id.PID)) + " (x) S" + strings.Repeat(" 0", 18) + " " + strconv.FormatUint(id.Start/1e7, 10) + strings.Repeat(" 0", 30) + "\n"
		for name, text := range map[string]string{"stat": stat, "cgroup": "0::" + path + "\n"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	tree := tracker.New(0)
	for _, e := range []event.Event{
		{Kind: event.KindFork, Subject: starter, Fork: event.Fork{Spawner: event.ID{PID: 1}, Caller: event.ID{PID: 1}, Cgroup: ids["/starter"]}},
		{Kind: event.KindFork, Subject: child, Fork: event.Fork{Spawner: starter, Caller: starter, Cgroup: ids["/starter"]}},
	} {
		tree.Apply(&e)
	}
	r := NewNames(tree)
	r.unified, r.root, r.proc = true, root, procfs.FS{Root: proc}
	stand(starter, "/starter")
	stand(child, "/web.service") // it was moved since the record of its fork

	if g := r.Group(child, ids["/starter"], true); g.Path != "/starter" {
		t.Errorf("at its fork: %q", g.Path)
	}
	if g := r.Group(child, ids["/web.service"], true); g.Path != "/web.service" {
		t.Errorf("after its move: %q", g.Path)
	}
	// Nobody stands there that could be asked: what is told is where it is, and not kept.
	if g := r.Group(child, ids["/other.service"], true); g.Path != "/web.service" {
		t.Errorf("of a group that nobody is known in: %q", g.Path)
	}
	if g := r.Group(event.ID{}, ids["/other.service"], false); g.Path != "" {
		t.Errorf("what was only told of the process is kept for the group: %q", g.Path)
	}
	if g := r.Group(event.ID{}, ids["/web.service"], false); g.Path != "/web.service" {
		t.Errorf("of the dead: %q", g.Path)
	}
	stand(child, "/other.service")
	r.Moved(child, ids["/other.service"])
	if g := r.Group(event.ID{}, ids["/other.service"], false); g.Path != "/other.service" {
		t.Errorf("after a move: %q", g.Path)
	}
}
