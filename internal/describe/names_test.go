// SPDX-License-Identifier: Apache-2.0

package describe

import (
	"os"
	"testing"

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
	r.Moved(moved)
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
