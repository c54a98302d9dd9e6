// SPDX-License-Identifier: Apache-2.0

package enforce

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// leakScript has two spawned workers with a shared memory segment, and therefore a
// resource tracker. The workers say when they have it.
const leakScript = `
import multiprocessing, signal, sys
from multiprocessing import shared_memory

def work(name, ready):
    segment = shared_memory.SharedMemory(name=name)
    ready.wait()
    signal.pause()

if __name__ == "__main__":
    name = sys.argv[1]
    segment = shared_memory.SharedMemory(create=True, size=4096, name=name)
    context = multiprocessing.get_context("spawn")
    ready = context.Barrier(3)
    workers = [context.Process(target=work, args=(name, ready)) for _ in range(2)]
    for worker in workers:
        worker.start()
    ready.wait()
    print("ready", flush=True)
    signal.pause()
`

// leak starts the script and kills it. It returns the path of the segment, and what
// is left: the workers and the tracker.
func (w *world) leak() (segment string, orphans []Target) {
	w.Helper()
	script := filepath.Join(w.TempDir(), "leak.py")
	if err := os.WriteFile(script, []byte(leakScript), 0o600); err != nil {
		w.Fatal(err)
	}
	// The directory is the host's: the name tells ours apart, and only it is touched.
	name := fmt.Sprintf("abot-trace-test-%d-%d", unix.Getpid(), w.nonce())
	segment = "/dev/shm/" + name
	w.Cleanup(func() { os.Remove(segment) })
	cmd := exec.Command("python3", script, name)
	cmd.Stderr = os.Stderr
	line, err := startSaying(cmd)
	if err != nil || line != "ready" {
		w.Fatalf("python3 says %q, %v", line, err)
	}
	if _, err := os.Stat(segment); err != nil {
		w.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		w.Fatal(err)
	}
	cmd.Wait()
	orphans = w.targets()
	if trackers := slices.DeleteFunc(slices.Clone(orphans), func(t Target) bool { return !t.Last }); len(orphans) != 3 || len(trackers) != 1 {
		w.Fatalf("got %+v, want two workers and a tracker", orphans)
	}
	return segment, orphans
}

// nonce is a number that no other test run on the host has: its namespaces number
// their processes alike.
func (w *world) nonce() int64 {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_REALTIME, &now); err != nil {
		w.Fatal(err)
	}
	return now.Nano()
}

// TestPython ends a leaked multiprocessing tree: the tracker, left to last, ends by
// itself and takes the shared memory with it.
func TestPython(t *testing.T) {
	inNamespace(t, func(w *world) {
		segment, _ := w.leak()
		kill := w.enforcer().Do(context.Background(), w.request(longGrace))
		w.check(kill, wire.KillDone, map[string]int{wire.OutcomeDied: 3})
		w.empty()
		for _, p := range kill.Processes {
			if p.Signal == "SIGKILL" {
				t.Errorf("got %+v, want nobody killed", p)
			}
		}
		if _, err := os.Stat(segment); !os.IsNotExist(err) {
			t.Errorf("shared memory: got %v, want it unlinked", err)
		}
	})
}

// TestPythonHelperByItsFacts ends a tree of workers that are deaf to SIGTERM, and a resource tracker
// that nobody knows by its name: it is left to last all the same, and takes the shared memory
// with it.
func TestPythonHelperByItsFacts(t *testing.T) {
	inNamespace(t, func(w *world) {
		signal.Ignore(unix.SIGTERM) // they inherit it
		segment, _ := w.leak()
		req := w.request(300 * time.Millisecond)
		for i := range req.Targets {
			req.Targets[i].Last = false
		}
		kill := w.enforcer().Do(context.Background(), req)
		w.check(kill, wire.KillDone, map[string]int{wire.OutcomeDied: 3})
		w.empty()
		killed := 0
		for _, p := range kill.Processes {
			if p.Signal == "SIGKILL" {
				killed++
			}
		}
		if killed != 2 {
			t.Errorf("%d killed, want the workers: %+v", killed, kill.Processes)
		}
		if _, err := os.Stat(segment); !os.IsNotExist(err) {
			t.Errorf("shared memory: got %v, want it unlinked", err)
		}
	})
}

// TestPythonIsCaught proves that TestPython can fail: ended like any other process
// and before the others, the tracker leaves the segment behind.
func TestPythonIsCaught(t *testing.T) {
	inNamespace(t, func(w *world) {
		segment, orphans := w.leak()
		tracker := orphans[slices.IndexFunc(orphans, func(t Target) bool { return t.Last })]
		tracker.Last = false
		first := w.request(0) // SIGTERM alone it ignores
		first.Scope, first.Targets = wire.ScopeProcess, []Target{tracker}
		w.check(w.enforcer().Do(context.Background(), first), wire.KillDone, map[string]int{wire.OutcomeDied: 1})
		w.check(w.enforcer().Do(context.Background(), w.request(longGrace)), wire.KillDone, map[string]int{wire.OutcomeDied: 2})
		w.empty()
		if _, err := os.Stat(segment); err != nil {
			t.Errorf("shared memory: got %v, want it left behind", err)
		}
	})
}

// TestLastIsKilled has one that does not end by itself, as it has promised to: it
// outlives the others and the grace, and no more.
func TestLastIsKilled(t *testing.T) {
	inNamespace(t, func(w *world) {
		last := w.start("obey")
		w.start("obey")
		e := w.enforcer()
		e.LastWait = 1
		req := w.request(1)
		for i := range req.Targets {
			req.Targets[i].Last = req.Targets[i].ID.PID == last
		}
		others := true
		w.recheck = func(asked event.ID, sig unix.Signal) error {
			if asked.PID != last {
				return nil
			}
			others = others && len(w.targets()) > 1
			if sig != unix.SIGKILL {
				t.Errorf("asks for %v for the last one", sig)
			}
			return nil
		}
		kill := e.Do(context.Background(), req)
		w.check(kill, wire.KillDone, map[string]int{wire.OutcomeDied: 2})
		w.empty()
		if others {
			t.Error("the last one was signalled while the other lived")
		}
	})
}
