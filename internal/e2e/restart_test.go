// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/proctest"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// newKept prepares a daemon whose programs and state outlive it, in places of its own.
func newKept(t testing.TB, config string) *daemon {
	t.Helper()
	bpf := t.TempDir()
	if err := unix.Mount("bpf", bpf, "bpf", 0, "mode=0700"); err != nil {
		t.Fatalf("mount bpffs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(bpf, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount bpffs: %v", err)
		}
	})
	d := newDaemon(t, config)
	d.bpf = bpf
	d.args = []string{"--state", d.state(), "--pins", d.pins()}
	return d
}

func (d *daemon) state() string { return filepath.Join(d.dir, "state") }
func (d *daemon) pins() string  { return filepath.Join(d.bpf, "pins") }

// A pair is a shell and a child that does not end by itself.
type pair struct {
	*family
	name  string
	child *process
}

func newPair(t testing.TB, name string) *pair {
	t.Helper()
	return newPairOf(t, name, "sleep 300")
}

// newPairOf is newPair with a child that runs the command. It returns when the child has been
// executed: a test may keep the daemon from seeing that.
func newPairOf(t testing.TB, name, command string) *pair {
	t.Helper()
	f := startShell(t, nil, command+" & echo child $! >&3; wait")
	p := &pair{f, name, f.await("child", 1)[0]}
	words := func(pid int) []byte {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	proctest.Eventually(t, name+" is executed", func() bool { return !bytes.Equal(words(p.child.pid), words(int(p.parent()))) })
	return p
}

func (p *pair) parent() int32 { return int32(p.cmd.Process.Pid) }

// reported waits until the daemon has judged the pair's orphan, and returns it.
func (d *daemon) reported(p *pair) wire.Process {
	d.t.Helper()
	var found []wire.Process
	d.await(p.name+" is reported and judged", func() bool {
		orphans, err := d.client.Orphans(d.t.Context())
		if err != nil {
			d.t.Fatal(err)
		}
		found = found[:0]
		for _, o := range orphans {
			if int(o.PID) == p.child.pid {
				found = append(found, o)
			}
		}
		return len(found) > 0 && len(found[0].Orphan.Evidence) > 0
	})
	if len(found) > 1 {
		d.t.Errorf("%s: reported %d times", p.name, len(found))
	}
	return found[0]
}

// wantLeak looks at all that is told of a leaked child.
func wantLeak(t testing.TB, f *pair, p wire.Process) {
	t.Helper()
	o := p.Orphan
	leaker := f.parent()
	if p.Lineage != wire.LineageObserved || p.SpawnedBy == nil || p.SpawnedBy.PID != leaker {
		t.Errorf("%s: lineage %s, spawned by %+v; want observed, %d", f.name, p.Lineage, p.SpawnedBy, leaker)
	}
	if o.Leaker == nil || o.Leaker.PID != leaker || o.Leaker.Exit == nil || o.Leaker.Exit.Signal != "SIGKILL" {
		t.Errorf("%s: leaker %+v, want %d by SIGKILL", f.name, o.Leaker, leaker)
	}
	if o.Verdict != wire.VerdictLeaked || !o.Direct || o.SinceNS == 0 {
		t.Errorf("%s: %+v", f.name, o)
	}
}

// TestRestart ends daemons in every way, lets parents die while none runs, and looks
// whether the next one knows all that happened.
func TestRestart(t *testing.T) {
	d := newKept(t, ruleless)
	d.start()
	before := newPair(t, "before")
	before.killMain()
	first := d.reported(before)
	wantLeak(t, before, first)

	ends := []struct {
		name string
		how  unix.Signal
	}{{"killed", unix.SIGKILL}, {"terminated", unix.SIGTERM}, {"killed again", unix.SIGKILL}}
	families := []*pair{before}
	for _, end := range ends {
		across := newPair(t, end.name+", across")
		state := d.endBy(end.how)
		if end.how == unix.SIGTERM && state.ExitCode() != 0 {
			t.Errorf("ended by SIGTERM: %v", state)
		}
		within := newPair(t, end.name+", within")
		within.killMain()
		across.killMain()
		after := newPair(t, end.name+", after")
		d.start()
		after.killMain()
		families = append(families, across, within, after)
		for _, f := range families {
			wantLeak(t, f, d.reported(f))
		}
	}
	if again := d.reported(before); again.Orphan.SinceNS != first.Orphan.SinceNS || again.StartNS != first.StartNS {
		t.Errorf("an orphan's age was lost: since %d, was %d", again.Orphan.SinceNS, first.Orphan.SinceNS)
	}
	wantOnceEach(t, d, families)

	// At a terminal nothing stays attached.
	if state := d.endBy(unix.SIGINT); state.ExitCode() != 0 {
		t.Errorf("interrupted: %v", state)
	}
	if _, err := os.Stat(d.pins()); !os.IsNotExist(err) {
		t.Errorf("pins are left: %v", err)
	}
}

// wantOnceEach looks for each child in the tree, once.
func wantOnceEach(t testing.TB, d *daemon, families []*pair) {
	t.Helper()
	tree, err := d.client.Tree(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	times := make(map[int32]int)
	for _, p := range tree.Processes {
		if p.State != "dead" {
			times[p.PID]++
		}
	}
	for _, f := range families {
		if times[int32(f.child.pid)] != 1 {
			t.Errorf("%s: %d times in the tree, want once", f.name, times[int32(f.child.pid)])
		}
	}
}

// TestUpgrade finds the programs of another build, whose records it reads first, and of
// another layout, whose records it cannot read and tells as lost.
func TestUpgrade(t *testing.T) {
	for _, test := range []struct {
		name    string
		part    int // of the pins' names
		value   string
		says    string
		lineage string
	}{
		{"another build", 2, "0123456789ab", "replaced=1 records_lost=0", wire.LineageObserved},
		{"another layout", 1, "01234567", "replaced=0 records_lost=[1-9]", wire.LineageInferred},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := newKept(t, ruleless)
			d.start()
			across := newPair(t, "across")
			d.endBy(unix.SIGTERM)
			within := newPair(t, "within")
			pins, err := os.ReadDir(d.pins())
			if err != nil {
				t.Fatal(err)
			}
			for _, pin := range pins {
				parts := strings.Split(pin.Name(), "-")
				parts[test.part] = test.value
				if err := os.Rename(filepath.Join(d.pins(), pin.Name()), filepath.Join(d.pins(), strings.Join(parts, "-"))); err != nil {
					t.Fatal(err)
				}
			}
			d.start()
			d.wantLog(test.says)
			// What the state knows is kept; what only the old ring knew depends.
			across.killMain()
			wantLeak(t, across, d.reported(across))
			p, err := d.client.Process(t.Context(), int32(within.child.pid))
			if err != nil {
				t.Fatal(err)
			}
			if p.Lineage != test.lineage || p.SpawnedBy == nil || p.SpawnedBy.PID != within.parent() {
				t.Errorf("within: lineage %s, spawned by %+v; want %s, %d", p.Lineage, p.SpawnedBy, test.lineage, within.parent())
			}
			lost := 0
			err = d.client.Events(t.Context(), []string{wire.TypeLost}, 0, false, func(*wire.Event) error { lost++; return nil })
			if err != nil || (lost > 0) != (test.lineage != wire.LineageObserved) {
				t.Errorf("%d losses told, %v", lost, err)
			}
			d.endBy(unix.SIGKILL)
			left, err := filepath.Glob(d.pins() + "/*" + test.value + "*")
			if err != nil || len(left) > 0 && test.part == 1 {
				t.Errorf("left: %v, %v", left, err)
			}
		})
	}
}

// TestStateOfNoUse starts over from a snapshot, says so, and keeps the file.
func TestStateOfNoUse(t *testing.T) {
	d := newKept(t, ruleless)
	d.start()
	f := newPair(t, "before")
	d.endBy(unix.SIGTERM)
	if err := os.WriteFile(filepath.Join(d.state(), "state"), []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	d.start()
	d.wantLog("state: corrupt")
	aside, err := filepath.Glob(filepath.Join(d.state(), "state.corrupt-*"))
	if err != nil || len(aside) != 1 {
		t.Errorf("set aside: %v, %v", aside, err)
	}
	p, err := d.client.Process(t.Context(), int32(f.child.pid))
	if err != nil {
		t.Fatal(err)
	}
	if p.State == "dead" || p.SpawnedBy == nil || p.SpawnedBy.PID != f.parent() {
		t.Errorf("after a snapshot: %+v", p)
	}
}

// TestSecondDaemon is refused by each of the places that one daemon at a time can use,
// with the pid of the first.
func TestSecondDaemon(t *testing.T) {
	d := newKept(t, ruleless)
	d.start()
	pid := strconv.Itoa(d.cmd.Process.Pid)
	for name, args := range map[string][]string{
		"socket": {"--socket", d.socket(), "--state", d.state() + "2", "--pins", d.pins() + "2"},
		"state":  {"--socket", d.socket() + "2", "--state", d.state(), "--pins", d.pins() + "2"},
		"pins":   {"--socket", d.socket() + "2", "--state", d.state() + "2", "--pins", d.pins()},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			second := exec.Command(binary(), append([]string{"daemon", "--config", d.config()}, args...)...)
			second.Env = alone()
			var told bytes.Buffer
			second.Stderr = &told
			if err := second.Start(); err != nil {
				t.Fatal(err)
			}
			defer context.AfterFunc(ctx, func() { _ = second.Process.Kill() })()
			if err := second.Wait(); err == nil || second.ProcessState.ExitCode() != 1 {
				t.Errorf("ended with %v", err)
			}
			if !strings.Contains(told.String(), "another daemon") || !strings.Contains(told.String(), "pid "+pid) {
				t.Errorf("said %q, want the pid %s", told.String(), pid)
			}
		})
	}
	if _, err := d.client.Status(t.Context()); err != nil {
		t.Errorf("the first does not answer any more: %v", err)
	}
}

// TestUninstallProbes is refused while a daemon runs, and leaves nothing afterwards.
func TestUninstallProbes(t *testing.T) {
	d := newKept(t, ruleless)
	d.start()
	uninstall := func() (string, error) {
		cmd := exec.Command(binary(), "uninstall-probes", "--pins", d.pins(), "--state", d.state())
		cmd.Env = alone()
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	out, err := uninstall()
	if want := fmt.Sprintf("kill %d", d.cmd.Process.Pid); err == nil || !strings.Contains(out, want) {
		t.Errorf("while a daemon runs: %v, %q; want %q", err, out, want)
	}
	d.endBy(unix.SIGKILL)
	if out, err := uninstall(); err != nil || !strings.Contains(out, "pins removed") || !strings.Contains(out, "state removed") {
		t.Errorf("afterwards: %v, %q", err, out)
	}
	for _, path := range []string{d.pins(), filepath.Join(d.state(), "state")} {
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Errorf("%s is left: %v", path, err)
		}
	}
}
