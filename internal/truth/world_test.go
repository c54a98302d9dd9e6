// SPDX-License-Identifier: Apache-2.0

package truth

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/probe"
	"github.com/abot-trace/abot-trace/internal/proctest"
	"github.com/abot-trace/abot-trace/internal/tracker"
)

// patience bounds every wait for a fact. It is no measure of speed.
const patience = 90 * time.Second

// python is the interpreter itself: a version manager's wrapper makes families of its own.
var python = sync.OnceValues(func() (string, error) {
	out, err := exec.Command("python3", "-c", "import sys; print(sys.executable)").Output()
	return strings.TrimSpace(string(out)), err
})

// A world is the live stream and the tree that follows it, narrowed to what the
// test's own process has made: the machine does other things meanwhile.
type world struct {
	t     testing.TB
	probe *probe.Probe
	tree  *tracker.Tree

	mine    map[event.ID]bool
	pids    map[int32][]event.ID // of mine with that pid, the latest last
	living  map[event.ID]bool    // of mine
	forked  map[event.ID]uint64  // when
	counts  map[event.Kind]int   // records about mine
	all     map[event.Kind]int   // records
	orphans []announcement
	lost    uint64
	peak    int // processes in the tree at once, living and dead
}

// An announcement is one orphaning as it was reported.
type announcement struct {
	id     event.ID
	orphan tracker.Orphan
}

func newWorld(t testing.TB, opt probe.Options) *world {
	t.Helper()
	proctest.NeedRoot(t)
	_, err := python() // before anything counts
	proctest.Need(t, err)
	p, err := probe.Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	w := &world{t: t, probe: p, tree: tracker.New(0), mine: map[event.ID]bool{}, living: map[event.ID]bool{},
		pids: map[int32][]event.ID{}, forked: map[event.ID]uint64{}, counts: map[event.Kind]int{}, all: map[event.Kind]int{}}
	w.resync()
	return w
}

func boottime(t testing.TB) uint64 {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		t.Fatal(err)
	}
	return uint64(ts.Nano())
}

// resync merges a snapshot, as a start and a recovery do.
func (w *world) resync() (found, vanished int) {
	w.t.Helper()
	began := boottime(w.t)
	tasks, err := w.probe.Tasks()
	if err != nil {
		w.t.Fatal(err)
	}
	merge := w.tree.Begin(tasks, began)
	w.drain()
	found, vanished, changes := merge.End()
	w.take(changes)
	maps.DeleteFunc(w.living, func(id event.ID, _ bool) bool { return !w.tree.Has(id) })
	return found, vanished
}

// drain applies what waits in the ring now.
func (w *world) drain() int {
	total := 0
	for {
		n := w.probe.Read(1024, w.apply)
		if total += n; n == 0 {
			return total
		}
	}
}

func (w *world) apply(e *event.Event) {
	if e.Kind == event.KindFork && (e.Fork.Spawner.PID == int32(os.Getpid()) || w.mine[e.Fork.Spawner] || w.mine[e.Fork.Caller]) {
		w.mine[e.Subject], w.living[e.Subject] = true, true
		w.pids[e.Subject.PID] = append(w.pids[e.Subject.PID], e.Subject)
		w.forked[e.Subject] = e.Time
	}
	w.all[e.Kind]++
	if w.mine[e.Subject] {
		w.counts[e.Kind]++
		if e.Kind == event.KindExit {
			delete(w.living, e.Subject)
		}
	}
	w.take(w.tree.Apply(e))
	w.peak = max(w.peak, w.tree.Living()+w.tree.Remembered())
}

func (w *world) take(changes []tracker.Change) {
	for _, c := range changes {
		switch {
		case c.Kind == tracker.Lost:
			w.lost += c.Records
		case c.Kind == tracker.Orphaned && w.mine[c.ID]:
			p, ok := w.tree.Get(c.ID)
			if !ok || p.Orphan == nil {
				w.t.Errorf("%v is announced, and is no orphan", c.ID)
				continue
			}
			w.orphans = append(w.orphans, announcement{c.ID, *p.Orphan})
		}
	}
}

// until applies records until ok, and fails with what returns if that never comes.
func (w *world) until(ok func() bool, what func() string) {
	w.t.Helper()
	for deadline := time.Now().Add(patience); !ok(); {
		if w.drain() > 0 {
			continue
		}
		if time.Now().After(deadline) {
			w.t.Fatalf("not seen in %v: %s", patience, what())
		}
		if err := w.probe.Wait(5 * time.Millisecond); err != nil {
			w.t.Fatal(err)
		}
	}
}

// latest returns the last of mine that had the pid.
func (w *world) latest(pid int32) event.ID {
	ids := w.pids[pid]
	if len(ids) == 0 {
		return event.ID{}
	}
	return ids[len(ids)-1]
}

// settle applies everything that has happened until now: the stream is in order, so
// a process that begins and ends now is seen last.
func (w *world) settle() {
	w.t.Helper()
	cmd := exec.Command("/bin/true")
	if err := cmd.Run(); err != nil {
		w.t.Fatal(err)
	}
	pid := int32(cmd.Process.Pid)
	w.until(func() bool {
		id := w.latest(pid)
		return !id.IsZero() && !w.living[id]
	}, func() string { return fmt.Sprintf("the end of %d", pid) })
}

// A family is one tester program at work.
type family struct {
	*world
	cmd     *exec.Cmd
	release *os.File // closing it ends all who hold
	lines   chan string
	said    map[string][]event.ID // by role
	stderr  bytes.Buffer
}

// start runs a family of testdata/families.py, with more in its environment.
func (w *world) start(name string, env ...string) *family {
	w.t.Helper()
	interpreter, err := python()
	proctest.Need(w.t, err)
	r, release, err := os.Pipe()
	if err != nil {
		w.t.Fatal(err)
	}
	f := &family{world: w, release: release, lines: make(chan string, 4096), said: map[string][]event.ID{}}
	f.cmd = exec.Command(interpreter, "testdata/families.py", name)
	// The holder of the pipe's read end is this process, so that nobody inherits it.
	f.cmd.Env = append(append(os.Environ(), env...), fmt.Sprintf("HOLD=/proc/%d/fd/%d", os.Getpid(), r.Fd()))
	f.cmd.Stderr = &f.stderr
	out, write, err := os.Pipe()
	if err != nil {
		w.t.Fatal(err)
	}
	f.cmd.Stdout = write
	w.orphans = nil
	if err := f.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	write.Close()
	go func() {
		defer close(f.lines)
		for scan := bufio.NewScanner(out); scan.Scan(); {
			f.lines <- scan.Text()
		}
	}()
	w.t.Cleanup(func() {
		f.finish()
		r.Close()
		out.Close()
	})
	return f
}

// listen takes in what the processes have said of themselves.
func (f *family) listen() {
	for {
		select {
		case line, ok := <-f.lines:
			if !ok {
				f.lines = nil
				return
			}
			role, number, _ := strings.Cut(line, " ")
			pid, err := strconv.Atoi(number)
			if err != nil {
				f.t.Fatalf("a process says %q", line)
			}
			// It may have spoken before its record was read.
			f.drain()
			id := f.latest(int32(pid))
			if id.IsZero() && pid != 0 {
				f.t.Fatalf("a stranger says %q", line)
			}
			f.said[role] = append(f.said[role], id)
		default:
			return
		}
	}
}

// await applies records until each role has spoken so many times.
func (f *family) await(roles map[string]int) {
	f.t.Helper()
	f.until(func() bool {
		f.listen()
		for role, n := range roles {
			if len(f.said[role]) < n {
				return false
			}
		}
		return true
	}, func() string { return fmt.Sprintf("roles %v, have %v\n%s", roles, f.said, f.stderr.String()) })
}

// finish ends the family and waits until all of it is seen dead.
func (f *family) finish() {
	f.t.Helper()
	if f.release == nil {
		return
	}
	f.release.Close()
	f.release = nil
	_ = f.cmd.Wait() // most mains die on purpose
	f.until(func() bool {
		if f.probe.Refused() > 0 {
			f.resync() // their exits may be lost too
		}
		return len(f.living) == 0
	}, func() string {
		return fmt.Sprintf("the end of %v", slices.Collect(maps.Keys(f.living)))
	})
}

// role names an identity for messages.
func (f *family) role(id event.ID) string {
	for role, ids := range f.said {
		if slices.Contains(ids, id) {
			return role
		}
	}
	return id.String()
}

// parentOf asks procfs for the kernel's parent of pid now.
func parentOf(pid int32) (int32, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	var state string
	var ppid int32
	if _, err := fmt.Fscan(io.Reader(bytes.NewReader(b[bytes.LastIndexByte(b, ')')+1:])), &state, &ppid); err != nil {
		return 0, err
	}
	return ppid, nil
}
