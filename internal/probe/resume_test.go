// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/dirlock"
	"github.com/abot-trace/abot-trace/internal/event"
)

// mountPins returns a directory in a BPF file system of the test's own.
func mountPins(t testing.TB) string {
	t.Helper()
	needRoot(t)
	root := t.TempDir()
	if err := unix.Mount("bpf", root, "bpf", 0, "mode=0700"); err != nil {
		t.Fatalf("mount bpffs: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(root, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount bpffs: %v", err)
		}
	})
	return filepath.Join(root, "pins")
}

// session opens a probe on pins, as one process does; end is its death.
func session(t testing.TB, dir string, opt Options) (p *Probe, end func()) {
	t.Helper()
	store, err := NewPinStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	opt.Store = store
	p, err = Open(opt)
	if err != nil {
		_ = store.Close()
		t.Fatal(err)
	}
	return p, func() {
		t.Helper()
		if err := errors.Join(p.Close(), store.Close()); err != nil {
			t.Error(err)
		}
	}
}

// make runs n processes, one after the other, and returns their pids.
func makeProcesses(t testing.TB, n int) []int32 {
	t.Helper()
	pids := make([]int32, n)
	for i := range pids {
		cmd := exec.Command("/bin/true")
		if err := cmd.Run(); err != nil {
			t.Fatal(err)
		}
		pids[i] = int32(cmd.Process.Pid)
	}
	return pids
}

// ownForks reads until this process's fork of the last pid has come, and returns how often
// each of its forks did.
func ownForks(t testing.TB, p *Probe, last int32) map[int32]int {
	t.Helper()
	seen := make(map[int32]int)
	until(t, p, func(e *event.Event) bool {
		if e.Kind != event.KindFork || e.Fork.Spawner.PID != int32(os.Getpid()) {
			return false
		}
		seen[e.Subject.PID]++
		return e.Subject.PID == last
	})
	return seen
}

func wantOnce(t testing.TB, seen map[int32]int, pids []int32) {
	t.Helper()
	for _, pid := range pids {
		if seen[pid] != 1 {
			t.Errorf("fork of %d came %d times, want once", pid, seen[pid])
		}
	}
}

func TestContinue(t *testing.T) {
	dir := mountPins(t)
	p, end := session(t, dir, Options{})
	if past := p.Past(); past.Continued || past.Notes != nil {
		t.Errorf("first: %+v", past)
	}
	before := makeProcesses(t, 3)
	wantOnce(t, ownForks(t, p, before[2]), before)
	end()

	gap := makeProcesses(t, 50)
	p, end = session(t, dir, Options{})
	defer end()
	if past := p.Past(); !past.Continued || past.Notes != nil || past.Replaced != 0 {
		t.Errorf("second: %+v", past)
	}
	if err := p.ArgsError(); err != nil {
		t.Errorf("arguments are lost: %v", err)
	}
	seen := ownForks(t, p, gap[49])
	wantOnce(t, seen, gap)
	for _, pid := range before {
		if seen[pid] != 0 {
			t.Errorf("fork of %d came again", pid)
		}
	}
	if tasks, err := p.Tasks(); err != nil || len(tasks) == 0 {
		t.Errorf("tasks: %d, %v", len(tasks), err)
	}
}

// TestHold proves that what was handled comes again until it is committed, and that a
// saved position leaves out what it covers.
func TestHold(t *testing.T) {
	dir := mountPins(t)
	opt := Options{Hold: 1 << 20}
	p, end := session(t, dir, opt)
	first := makeProcesses(t, 2)
	ownForks(t, p, first[1])
	committed := p.Position()
	p.Commit(committed)
	second := makeProcesses(t, 2)
	ownForks(t, p, second[1])
	saved := p.Position()
	third := makeProcesses(t, 2)
	ownForks(t, p, third[1])
	end()

	for _, test := range []struct {
		name string
		from Position
		want []int32
		not  []int32
	}{
		{"no state", Position{}, append(second, third...), first},
		{"a state not committed", saved, third, second},
		{"a state of another ring", Position{Ring: 1, At: saved.At}, append(second, third...), first},
		{"a position in the middle of a record", Position{Ring: saved.Ring, At: saved.At + 8}, append(second, third...), first},
	} {
		t.Run(test.name, func(t *testing.T) {
			opt.From = test.from
			p, end := session(t, dir, opt)
			defer end()
			seen := ownForks(t, p, third[1])
			wantOnce(t, seen, test.want)
			for _, pid := range test.not {
				if seen[pid] != 0 {
					t.Errorf("fork of %d came again", pid)
				}
			}
		})
	}

	t.Run("a state that is too old", func(t *testing.T) {
		opt.From = Position{Ring: saved.Ring, At: 0}
		p, end := session(t, dir, opt)
		defer end()
		if p.Past().Missing != committed.At {
			t.Errorf("missing %d bytes, want %d", p.Past().Missing, committed.At)
		}
	})
}

// renamePins makes the pins look as if another version had made them.
func renamePins(t *testing.T, dir string, change func(*version)) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		v, began, object, ok := parseKept(e.Name())
		if !ok {
			t.Fatalf("pin %s", e.Name())
		}
		change(&v)
		if err := os.Rename(filepath.Join(dir, e.Name()), filepath.Join(dir, keptName(v, began, object))); err != nil {
			t.Fatal(err)
		}
	}
}

// TestHandover replaces programs of another build: what they saw comes first, what
// both saw comes once, and they are gone afterwards.
func TestHandover(t *testing.T) {
	for _, hold := range []uint64{0, 1 << 20} {
		t.Run(fmt.Sprintf("hold %d", hold), func(t *testing.T) {
			dir := mountPins(t)
			_, end := session(t, dir, Options{Hold: hold})
			end()
			renamePins(t, dir, func(v *version) { v.build = "0123456789ab" })

			gap := makeProcesses(t, 20)
			p, end := session(t, dir, Options{Hold: hold})
			if past := p.Past(); past.Continued || past.Replaced != 1 || past.Lost != 0 || past.Notes != nil {
				t.Errorf("%+v", past)
			}
			both := makeProcesses(t, 20) // before the old ones are read to their end
			seen := ownForks(t, p, both[19])
			after := makeProcesses(t, 20)
			for pid, n := range ownForks(t, p, after[19]) {
				seen[pid] += n
			}
			wantOnce(t, seen, append(append(gap, both...), after...))
			p.Commit(p.Position())
			names, err := p.store.Names()
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range names {
				if strings.Contains(name, "0123456789ab") {
					t.Errorf("%s is still kept", name)
				}
			}
			end()

			p, end = session(t, dir, Options{Hold: hold})
			defer end()
			if past := p.Past(); !past.Continued || past.Replaced != 0 || past.Notes != nil {
				t.Errorf("afterwards: %+v", past)
			}
		})
	}
}

// TestRefusedGoesOn counts what found no room through restarts and replaced programs: a
// reader that has been told of so many is told of the others, once.
func TestRefusedGoesOn(t *testing.T) {
	dir := mountPins(t)
	opt := Options{RingBytes: uint32(os.Getpagesize())}
	var told uint64
	for i, change := range []func(*version){nil, nil, func(v *version) { v.build = "0123456789ab" }, nil} {
		if change != nil {
			renamePins(t, dir, change)
		}
		p, end := session(t, dir, opt)
		if n := p.Refused(); n < told {
			t.Errorf("session %d begins with %d refused, had %d", i, n, told)
		}
		makeProcesses(t, 30) // far more than a page holds
		last := told
		for p.Read(1, func(e *event.Event) {
			if e.Refused < last {
				t.Errorf("session %d: a record tells of %d refused after %d", i, e.Refused, last)
			}
			last = e.Refused
		}) > 0 {
		}
		n := p.Refused()
		if n < last || n <= told {
			t.Errorf("session %d: %d refused in all, had %d, records told %d", i, n, told, last)
		}
		opt.From = p.Position()
		told = opt.From.Refused
		end()
	}
}

// TestOtherLayout says exactly how many records it had to discard.
func TestOtherLayout(t *testing.T) {
	dir := mountPins(t)
	p, end := session(t, dir, Options{})
	for p.Read(1<<20, func(*event.Event) {}) > 0 {
	}
	end()
	makeProcesses(t, 10)
	renamePins(t, dir, func(v *version) { v.layout = "01234567" })
	p, end = session(t, dir, Options{})
	defer end()
	past := p.Past()
	// A fork, an exec and an exit of each, and whatever else the machine did.
	if past.Continued || past.Replaced != 0 || past.Lost < 30 || len(past.Notes) != 1 {
		t.Errorf("%+v", past)
	}
	pids := makeProcesses(t, 1)
	wantOnce(t, ownForks(t, p, pids[0]), pids)
}

// TestIncomplete discards what cannot be used, and starts anew.
func TestIncomplete(t *testing.T) {
	for _, object := range []string{keptEvents, keptState} {
		t.Run(object, func(t *testing.T) {
			dir := mountPins(t)
			p, end := session(t, dir, Options{})
			if err := p.store.Drop(p.now.name(object)); err != nil {
				t.Fatal(err)
			}
			end()
			p, end = session(t, dir, Options{})
			defer end()
			if past := p.Past(); past.Continued || len(past.Notes) != 1 {
				t.Errorf("%+v", past)
			}
			names, err := p.store.Names()
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range names {
				if _, began, _, _ := parseKept(name); began != p.now.began {
					t.Errorf("%s is still kept", name)
				}
			}
		})
	}
	t.Run("a link of the old programs", func(t *testing.T) {
		dir := mountPins(t)
		p, end := session(t, dir, Options{})
		if err := p.store.Drop(p.now.name("on_fork")); err != nil {
			t.Fatal(err)
		}
		end()
		p, end = session(t, dir, Options{})
		defer end()
		if past := p.Past(); past.Continued || past.Replaced != 1 {
			t.Errorf("%+v", past)
		}
		pids := makeProcesses(t, 1)
		wantOnce(t, ownForks(t, p, pids[0]), pids)
	})
}

func TestForget(t *testing.T) {
	dir := mountPins(t)
	_, end := session(t, dir, Options{})
	end()
	store, err := NewPinStore(dir)
	if err != nil {
		t.Fatal(err)
	}
	// A name that is none of ours stays.
	if n, err := Forget(store); err != nil || n < 8 {
		t.Errorf("forgot %d, %v", n, err)
	}
	if names, err := store.Names(); err != nil || len(names) != 0 {
		t.Errorf("left %v, %v", names, err)
	}
	if err := store.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory is still there: %v", err)
	}
}

func TestPinStoreRefuses(t *testing.T) {
	t.Run("another file system", func(t *testing.T) {
		dir := filepath.Join(t.TempDir(), "pins")
		if _, err := NewPinStore(dir); !errors.Is(err, ErrNoBPFFS) {
			t.Errorf("got %v, want %v", err, ErrNoBPFFS)
		}
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("it left %s behind", dir)
		}
	})
	t.Run("a second reader", func(t *testing.T) {
		dir := mountPins(t)
		_, end := session(t, dir, Options{})
		defer end()
		var busy *dirlock.BusyError
		if _, err := NewPinStore(dir); !errors.As(err, &busy) || busy.PID != os.Getpid() {
			t.Errorf("got %v, want a BusyError with pid %d", err, os.Getpid())
		}
	})
	t.Run("a directory that others can write to", func(t *testing.T) {
		dir := mountPins(t)
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, 0o777); err != nil {
			t.Fatal(err)
		}
		if _, err := NewPinStore(dir); err == nil {
			t.Error("accepted")
		}
	})
}

func TestKeptNames(t *testing.T) {
	v := version{layout: "01234567", build: "0123456789ab", namespace: 0xf0000001}
	name := keptName(v, 0x123456789abcdef, "on_fork")
	got, began, object, ok := parseKept(name)
	if !ok || got != v || began != 0x123456789abcdef || object != "on_fork" {
		t.Errorf("%s: got %+v %x %s %v", name, got, began, object, ok)
	}
	for _, name := range []string{"", "abot-", "abot-a-b-c-d-", "abot-a-b-x-1-o", "abot-a-b-1-x-o",
		"abot-a-b-1ffffffff-1-o", "other-a-b-1-1-o", name + "-more"} {
		if _, _, _, ok := parseKept(name); ok {
			t.Errorf("%q was taken for ours", name)
		}
	}
}
