// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/api"
	"github.com/abot-trace/abot-trace/internal/proctest"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// A service is the daemon as it is stopped and started again: its socket, its state,
// and pins in a BPF file system of its own.
type service struct {
	dir    string
	client *api.Client
	cmd    *exec.Cmd
}

func newService(t *testing.T) *service {
	t.Helper()
	proctest.NeedRoot(t)
	if err := proctest.Adopt(); err != nil {
		t.Fatal(err)
	}
	s := &service{dir: t.TempDir()}
	s.client = api.NewClient(s.path("socket"))
	if err := os.WriteFile(s.path("config.yaml"), []byte("rules: []\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(s.path("bpf"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("bpf", s.path("bpf"), "bpf", 0, "mode=0700"); err != nil {
		t.Fatalf("mount bpffs: %v", err)
	}
	t.Cleanup(func() {
		if s.cmd != nil {
			s.end(t, unix.SIGKILL)
		}
		proctest.EndDescendants(t)
		if err := unix.Unmount(s.path("bpf"), unix.MNT_DETACH); err != nil {
			t.Errorf("unmount bpffs: %v", err)
		}
		if t.Failed() {
			log, _ := os.ReadFile(s.path("log"))
			t.Logf("the daemons said:\n%s", log)
		}
	})
	return s
}

func (s *service) path(name string) string { return filepath.Join(s.dir, name) }

func (s *service) pins() string { return filepath.Join(s.dir, "bpf", "pins") }

// command is abot-trace without a service manager.
func (s *service) command(args ...string) *exec.Cmd {
	cmd := exec.Command("abot-trace", args...)
	for _, v := range os.Environ() {
		switch name, _, _ := strings.Cut(v, "="); name {
		case "NOTIFY_SOCKET", "JOURNAL_STREAM", "INVOCATION_ID", "LISTEN_FDS", "STATE_DIRECTORY":
		default:
			cmd.Env = append(cmd.Env, v)
		}
	}
	return cmd
}

// launch starts a daemon and does not wait for it.
func (s *service) launch(t *testing.T) {
	t.Helper()
	log, err := os.OpenFile(s.path("log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	s.cmd = s.command("daemon", "--config", s.path("config.yaml"), "--socket", s.path("socket"),
		"--state", s.path("state"), "--pins", s.pins())
	s.cmd.Stderr = log
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
}

// start starts a daemon and waits until it answers.
func (s *service) start(t *testing.T) {
	t.Helper()
	s.launch(t)
	s.ready(t)
}

func (s *service) ready(t *testing.T) {
	t.Helper()
	proctest.Eventually(t, "the daemon answers", func() bool {
		if err := unix.Kill(s.cmd.Process.Pid, 0); err != nil {
			return true
		}
		_, err := s.client.Status(t.Context())
		return err == nil
	})
}

// end ends the daemon by a signal and returns its state.
func (s *service) end(t *testing.T, sig unix.Signal) *os.ProcessState {
	t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
	_ = s.cmd.Wait()
	state := s.cmd.ProcessState
	s.cmd = nil
	return state
}

// log returns what the daemons have said.
func (s *service) log(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(s.path("log"))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// A family is a shell and a child that does not end by itself.
type family struct {
	name   string
	parent *exec.Cmd
	child  int32
}

func newFamily(t *testing.T, name string) *family {
	t.Helper()
	f := &family{name: name, parent: exec.Command("/bin/sh", "-c", "sleep 600 & echo $!; wait", name)}
	out, err := f.parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := f.parent.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.ParseInt(strings.TrimSpace(line), 10, 32)
	if err != nil {
		t.Fatal(err)
	}
	f.child = int32(pid)
	return f
}

// leak kills the parent.
func (f *family) leak(t *testing.T) {
	t.Helper()
	if err := f.parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = f.parent.Wait()
}

// reported waits until the daemon has judged the family's orphan, and returns it.
func (s *service) reported(t *testing.T, f *family) wire.Process {
	t.Helper()
	var found []wire.Process
	proctest.Eventually(t, f.name+" is reported and judged", func() bool {
		orphans, err := s.client.Orphans(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		found = found[:0]
		for _, p := range orphans {
			if p.PID == f.child {
				found = append(found, p)
			}
		}
		return len(found) > 0 && len(found[0].Orphan.Evidence) > 0
	})
	if len(found) > 1 {
		t.Errorf("%s: reported %d times", f.name, len(found))
	}
	return found[0]
}

// wantLeak looks at all that is told of a leaked child.
func wantLeak(t *testing.T, f *family, p wire.Process) {
	t.Helper()
	o := p.Orphan
	leaker := int32(f.parent.Process.Pid)
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
	s := newService(t)
	s.start(t)
	before := newFamily(t, "before")
	before.leak(t)
	first := s.reported(t, before)
	wantLeak(t, before, first)

	ends := []struct {
		name string
		how  unix.Signal
	}{{"killed", unix.SIGKILL}, {"terminated", unix.SIGTERM}, {"killed again", unix.SIGKILL}}
	families := []*family{before}
	for _, end := range ends {
		across := newFamily(t, end.name+", across")
		state := s.end(t, end.how)
		if end.how == unix.SIGTERM && state.ExitCode() != 0 {
			t.Errorf("ended by SIGTERM: %v", state)
		}
		within := newFamily(t, end.name+", within")
		within.leak(t)
		across.leak(t)
		after := newFamily(t, end.name+", after")
		s.start(t)
		after.leak(t)
		families = append(families, across, within, after)
		for _, f := range families {
			wantLeak(t, f, s.reported(t, f))
		}
	}
	if again := s.reported(t, before); again.Orphan.SinceNS != first.Orphan.SinceNS || again.StartNS != first.StartNS {
		t.Errorf("an orphan's age was lost: since %d, was %d", again.Orphan.SinceNS, first.Orphan.SinceNS)
	}
	wantOnceEach(t, s, families)

	// At a terminal nothing stays attached.
	if state := s.end(t, unix.SIGINT); state.ExitCode() != 0 {
		t.Errorf("interrupted: %v", state)
	}
	if _, err := os.Stat(s.pins()); !os.IsNotExist(err) {
		t.Errorf("pins are left: %v", err)
	}
}

// wantOnceEach looks for each child in the tree, once.
func wantOnceEach(t *testing.T, s *service, families []*family) {
	t.Helper()
	tree, err := s.client.Tree(t.Context())
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
		if times[f.child] != 1 {
			t.Errorf("%s: %d times in the tree, want once", f.name, times[f.child])
		}
	}
}

// chaosKills is how often TestKilledInStorm kills the daemon; `make test-chaos` asks for 50.
var chaosKills = flag.Int("kills", 6, "how often the daemon is killed in a storm")

// TestKilledInStorm kills daemons at random moments while a shell forks without pause
// and parents die. No orphan is missed, and each has its leaker and its verdict.
func TestKilledInStorm(t *testing.T) {
	const perKill = 3
	kills := *chaosKills
	forks := 1000 * kills
	s := newService(t)
	s.start(t)
	storm := exec.Command("/bin/sh", "-c", `i=0; while [ $i -lt $1 ]; do (:); i=$((i+1)); done`, "storm", strconv.Itoa(forks))
	if err := storm.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = storm.Wait() }()
	var families []*family
	for kill := range kills {
		for i := range perKill {
			families = append(families, newFamily(t, fmt.Sprintf("kill %d, family %d", kill, i)))
		}
		<-time.After(time.Duration(rand.IntN(300)) * time.Millisecond)
		families[len(families)-1].leak(t)
		s.end(t, unix.SIGKILL)
		families[len(families)-2].leak(t)
		s.launch(t)
		families[len(families)-3].leak(t)
	}
	s.ready(t)
	for _, f := range families {
		wantLeak(t, f, s.reported(t, f))
	}
	wantOnceEach(t, s, families)
	if status, err := s.client.Status(t.Context()); err != nil || status.Refused != 0 {
		t.Errorf("lost: %+v, %v", status, err)
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
			s := newService(t)
			s.start(t)
			across := newFamily(t, "across")
			s.end(t, unix.SIGTERM)
			within := newFamily(t, "within")
			pins, err := os.ReadDir(s.pins())
			if err != nil {
				t.Fatal(err)
			}
			for _, pin := range pins {
				parts := strings.Split(pin.Name(), "-")
				parts[test.part] = test.value
				if err := os.Rename(filepath.Join(s.pins(), pin.Name()), filepath.Join(s.pins(), strings.Join(parts, "-"))); err != nil {
					t.Fatal(err)
				}
			}
			s.start(t)
			if log := s.log(t); !regexp.MustCompile(test.says).MatchString(log) {
				t.Errorf("want %s in the log", test.says)
			}
			// What the state knows is kept; what only the old ring knew depends.
			across.leak(t)
			wantLeak(t, across, s.reported(t, across))
			p, err := s.client.Process(t.Context(), within.child)
			if err != nil {
				t.Fatal(err)
			}
			if p.Lineage != test.lineage || p.SpawnedBy == nil || p.SpawnedBy.PID != int32(within.parent.Process.Pid) {
				t.Errorf("within: lineage %s, spawned by %+v; want %s, %d", p.Lineage, p.SpawnedBy, test.lineage, within.parent.Process.Pid)
			}
			lost := 0
			err = s.client.Events(t.Context(), []string{wire.TypeLost}, 0, false, func(*wire.Event) error { lost++; return nil })
			if err != nil || (lost > 0) != (test.lineage != wire.LineageObserved) {
				t.Errorf("%d losses told, %v", lost, err)
			}
			s.end(t, unix.SIGKILL)
			left, err := filepath.Glob(s.pins() + "/*" + test.value + "*")
			if err != nil || len(left) > 0 && test.part == 1 {
				t.Errorf("left: %v, %v", left, err)
			}
		})
	}
}

// TestStateOfNoUse starts over from a snapshot, says so, and keeps the file.
func TestStateOfNoUse(t *testing.T) {
	s := newService(t)
	s.start(t)
	f := newFamily(t, "before")
	s.end(t, unix.SIGTERM)
	if err := os.WriteFile(s.path("state/state"), []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.start(t)
	if !strings.Contains(s.log(t), "state: corrupt") {
		t.Error("nothing was said")
	}
	aside, err := filepath.Glob(s.path("state/state.corrupt-*"))
	if err != nil || len(aside) != 1 {
		t.Errorf("set aside: %v, %v", aside, err)
	}
	p, err := s.client.Process(t.Context(), f.child)
	if err != nil {
		t.Fatal(err)
	}
	if p.State == "dead" || p.SpawnedBy == nil || p.SpawnedBy.PID != int32(f.parent.Process.Pid) {
		t.Errorf("after a snapshot: %+v", p)
	}
}

// TestSecondDaemon is refused by each of the places that one daemon at a time can use,
// with the pid of the first.
func TestSecondDaemon(t *testing.T) {
	s := newService(t)
	s.start(t)
	pid := strconv.Itoa(s.cmd.Process.Pid)
	for name, args := range map[string][]string{
		"socket": {"--socket", s.path("socket"), "--state", s.path("state2"), "--pins", s.pins() + "2"},
		"state":  {"--socket", s.path("socket2"), "--state", s.path("state"), "--pins", s.pins() + "2"},
		"pins":   {"--socket", s.path("socket2"), "--state", s.path("state2"), "--pins", s.pins()},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), proctest.Patience)
			defer cancel()
			second := s.command(append([]string{"daemon", "--config", s.path("config.yaml")}, args...)...)
			var told bytes.Buffer
			second.Stderr = &told
			if err := second.Start(); err != nil {
				t.Fatal(err)
			}
			defer context.AfterFunc(ctx, func() { _ = second.Process.Kill() })()
			if err := second.Wait(); err == nil || second.ProcessState.ExitCode() != exitFailed {
				t.Errorf("ended with %v", err)
			}
			if !strings.Contains(told.String(), "another daemon") || !strings.Contains(told.String(), "pid "+pid) {
				t.Errorf("said %q, want the pid %s", told.String(), pid)
			}
		})
	}
	if _, err := s.client.Status(t.Context()); err != nil {
		t.Errorf("the first does not answer any more: %v", err)
	}
}

// TestUninstallProbes is refused while a daemon runs, and leaves nothing afterwards.
func TestUninstallProbes(t *testing.T) {
	s := newService(t)
	s.start(t)
	uninstall := func() (string, error) {
		out, err := s.command("uninstall-probes", "--pins", s.pins(), "--state", s.path("state")).CombinedOutput()
		return string(out), err
	}
	out, err := uninstall()
	if want := fmt.Sprintf("kill %d", s.cmd.Process.Pid); err == nil || !strings.Contains(out, want) {
		t.Errorf("while a daemon runs: %v, %q; want %q", err, out, want)
	}
	s.end(t, unix.SIGKILL)
	if out, err := uninstall(); err != nil || !strings.Contains(out, "pins removed") || !strings.Contains(out, "state removed") {
		t.Errorf("afterwards: %v, %q", err, out)
	}
	for _, path := range []string{s.pins(), s.path("state/state")} {
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Errorf("%s is left: %v", path, err)
		}
	}
}
