// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/wire"
)

// bomb is a shell that starts four of its kind, and so on: to so many generations, or as
// far as it gets. One that cannot start all four ends.
const bomb = `bomb() { [ $1 = 0 ] || for i in 1 2 3 4; do bomb $(($1-1)) & done; exec sleep 333; }; bomb 5`

// TestChaosForkBomb lets a bounded fork bomb meet the limit of its cgroup. Forks that
// failed are nowhere; whoever lives is in the tree with its lineage, and is told as an
// orphan, once, where one above it gave up.
func TestChaosForkBomb(t *testing.T) {
	const limit = 100
	d := startDaemon(t, ruleless)
	g := newCgroup(t, "pids")
	g.set("pids.max", limit)
	before := d.status().Living
	argv := append(g.enter(), "sh", "-c", bomb)
	f := startCommand(t, nil, exec.Command(argv[0], argv[1:]...))
	refused := func() int {
		var n int
		_, _ = fmt.Sscanf(g.read("pids.events"), "max %d", &n)
		return n
	}
	d.await("the limit is reached, and all is quiet", func() bool {
		if refused() == 0 {
			return false
		}
		for _, pid := range g.members() {
			if !strings.Contains(about(pid), "(sleep)") {
				return false
			}
		}
		return true
	})
	f.killMain()
	d.await("the tree has as many", func() bool { return d.status().Living == before+len(g.members()) })
	tree, err := d.client.Tree(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	known := make(map[int]*wire.Process)
	for i := range tree.Processes {
		known[int(tree.Processes[i].PID)] = &tree.Processes[i]
	}
	orphans := 0
	for _, pid := range g.members() {
		p := known[pid]
		if p == nil || p.State != wire.StateRunning || p.Lineage != wire.LineageObserved || p.SpawnedBy == nil {
			t.Errorf("%d: %+v", pid, p)
			continue
		}
		spawner := known[int(p.SpawnedBy.PID)]
		left := spawner == nil || spawner.State != wire.StateRunning
		if left != (p.Orphan != nil && p.Orphan.Direct) {
			t.Errorf("%d of %d, which has ended: %v; orphan %+v", pid, p.SpawnedBy.PID, left, p.Orphan)
		}
		if p.Orphan == nil {
			continue
		}
		orphans++
		if l := p.Orphan.Leaker; l == nil || !descends(known, p, l.PID) || known[int(l.PID)] != nil && known[int(l.PID)].State == wire.StateRunning {
			t.Errorf("%d: left by %+v", pid, l)
		}
		d.wantLog(fmt.Sprintf("-orphan-%d-", pid))
		if n := strings.Count(d.log.String(), fmt.Sprintf("-orphan-%d-", pid)); n != 1 {
			t.Errorf("%d was told %d times", pid, n)
		}
	}
	if orphans == 0 {
		t.Error("nobody is an orphan")
	}
	d.wantComplete()
	t.Logf("%d forks refused, %d processes live, %d of them orphans", refused(), len(g.members()), orphans)
	if *long {
		t.Run("for a minute", bombForAMinute)
	}
}

// churn is a program whose processes fork as fast as they can, and end a moment later; the
// first goes on. Who gets no fork tries again.
const churn = `import os, signal, time
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
print("up", os.getpid(), file=open(3, "w", closefd=False), flush=True)
end = time.monotonic() + 600
while time.monotonic() < end:
    try:
        if os.fork() == 0:
            end = time.monotonic() + os.getpid() % 200 / 1000
    except OSError:
        time.sleep(0.001)
os._exit(0)
`

// bombForAMinute has a fork bomb run against the limit of its cgroup, while leaks are made
// beside it: each is seen, judged and ended. Nothing of the bomb stays in the tree when it is
// over.
func bombForAMinute(t *testing.T) {
	d := startDaemon(t, marked)
	g := newCgroup(t, "pids")
	g.set("pids.max", 20)
	argv := append(g.enter(), "/usr/bin/python3", "-c", churn)
	f := startCommand(t, nil, exec.Command(argv[0], argv[1:]...))
	f.await("up", 1)
	full := func() bool { return !strings.HasPrefix(g.read("pids.events"), "max 0\n") }
	d.await("the limit is reached", full)
	known := func() (n int) {
		tree, err := d.client.Tree(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for i := range tree.Processes {
			if p := &tree.Processes[i]; p.State != wire.StateDead && slices.Contains(p.Cmdline, churn) {
				n++
			}
		}
		return n
	}
	d.await("the tree has it", func() bool { return known() > 0 })
	var victims []*pair
	for until := time.Now().Add(time.Minute); len(victims) == 0 || time.Now().Before(until); {
		v := newPairOf(t, fmt.Sprint("victim ", len(victims)), mark)
		victims = append(victims, v)
		v.killMain()
		d.kill(v.child.pid, outcomeIs(wire.KillDone))
	}
	s := d.status()
	g.set("pids.max", 0)
	d.await("the bomb is over", func() bool {
		for _, pid := range g.members() {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		return len(g.members()) == 0
	})
	d.wantKilled(victims, nil)
	d.await("nothing of it is in the tree", func() bool { return known() == 0 })
	t.Logf("%d leaks ended beside %d forks, %d records lost", len(victims), s.Events[wire.TypeFork], s.Refused)
}

// descends reports whether ancestor is among those who spawned p, one the other.
func descends(known map[int]*wire.Process, p *wire.Process, ancestor int32) bool {
	for p != nil && p.SpawnedBy != nil && p.SpawnedBy.PID != ancestor {
		p = known[int(p.SpawnedBy.PID)]
	}
	return p != nil && p.SpawnedBy != nil
}

// TestChaosNoPIDs has the daemon itself reach a limit of tasks, where neither a canary
// nor the helper that runs hooks can be made. It says so, of the stream that it is well,
// and traces and ends as before; when there is room again it makes both.
func TestChaosNoPIDs(t *testing.T) {
	g := newCgroup(t, "pids")
	d := newDaemon(t, marked)
	d.before = g.enter()
	d.start()
	busy(d)
	d.configure(marked + "\nnotify: {exec: [{command: [/usr/bin/touch, DIR/hooked], min_severity: info, user: root}]}\n")
	g.set("pids.max", g.get("pids.current"))
	d.signal(hangUp)
	victim, spared := newPairOf(t, "victim", mark), newPair(t, "unmarked")
	killMains([]*pair{victim, spared})
	d.wantKilled([]*pair{victim}, []*process{spared.child})
	d.await("the helper's trouble is told", func() bool {
		return strings.Contains(d.log.String(), "notify helper") && strings.Contains(d.log.String(), syscall.EAGAIN.Error())
	})
	canary := func() bool {
		list := d.status().Conditions
		return len(list) == 1 && strings.Contains(list[0], "canary cannot be made") && strings.Contains(list[0], syscall.EAGAIN.Error())
	}
	if *long { // it comes every ten seconds
		d.await("the canary's trouble is told", canary)
	}
	g.set("pids.max", "max")
	d.await("the canary is back", func() bool { return len(d.status().Conditions) == 0 })
	later := newPair(t, "later")
	later.killMain()
	d.wantLeaks([]*pair{spared, later}, 0)
	d.await("the hook runs", func() bool { return exists(filepath.Join(d.dir, "hooked")) })
	d.wantComplete()
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// busy has the daemon make the threads that it will need: it keeps them.
func busy(d *daemon) {
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			for range 20 {
				_, _ = d.client.Tree(d.t.Context())
			}
		})
	}
	all.Wait()
}

// TestChaosNoMemory has readers drive the daemon into the limit of its cgroup, of which
// it dies. The next one knows all that happened.
func TestChaosNoMemory(t *testing.T) {
	g := newCgroup(t, "memory")
	d := newKept(t, ruleless)
	d.before = g.enter()
	d.start()
	before := newPair(t, "before")
	before.killMain()
	d.reported(before)
	across := pairsOf(t, 3, "across")
	startStorm(t, 300, bulky).wait()
	use, limit, none := g.memory()
	g.set(limit, g.get(use)+(4<<20))
	across[0].killMain()
	for range 100 {
		if _, err := tryStall(t, d, "/v1/events?follow=1"); err != nil || d.gone() {
			break
		}
	}
	d.await("it has died", d.gone)
	across[1].killMain()
	if state := d.ended(); state.Sys().(syscall.WaitStatus).Signal() != unix.SIGKILL {
		t.Errorf("the daemon: %v, want it killed", state)
	}
	within := newPair(t, "within")
	killMains([]*pair{within, across[2]})
	g.set(limit, none)
	d.start()
	after := newPair(t, "after")
	after.killMain()
	d.wantLeaks(append(across, before, within, after), 1)
	d.wantComplete()
	if n := unsaved(d.log.String()); n != 0 {
		t.Errorf("%d bytes are said to be unsaved", n)
	}
}
