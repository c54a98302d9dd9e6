// SPDX-License-Identifier: Apache-2.0

package render

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/abot-trace/abot-trace/internal/wire"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares got with testdata/<test>.golden.
func golden(t *testing.T, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", strings.ReplaceAll(strings.TrimPrefix(t.Name(), "Test"), "/", "_")+".golden")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

var now = time.Date(2026, 1, 15, 12, 0, 0, 0, time.UTC)

func ago(d time.Duration) *time.Time { at := now.Add(-d); return &at }

func ptr[T any](v T) *T { return &v }

// hostile is what a process may call itself to fool whoever looks.
const hostile = "evil\x1b[2J\n  1 root  /sbin/init\xff\u202e"

// sample is a tree with everything that a drawing has to show.
func sample() *wire.Tree {
	process := func(pid, ppid, spawner int32, comm string, args ...string) wire.Process {
		p := wire.Process{PID: pid, StartNS: uint64(pid), PPID: ppid, Comm: comm, Cmdline: args, User: "root",
			State: wire.StateRunning, Lineage: wire.LineageObserved, StartedAt: ago(time.Hour + time.Duration(pid)*time.Second),
			RSSBytes: ptr(uint64(pid) << 16), SwapBytes: ptr(uint64(0))}
		if spawner != 0 {
			p.SpawnedBy = &wire.Ref{PID: spawner, StartNS: uint64(spawner)}
		}
		return p
	}
	killed := &wire.Exit{Signal: "SIGKILL", KilledBy: &wire.Ref{PID: 99, Comm: "bash"}}
	leaker := &wire.Leaker{PID: 20, StartNS: 20, Comm: "gunicorn", Exit: killed}
	dead := process(20, 0, 10, "gunicorn", "gunicorn", "app:wsgi")
	dead.State, dead.Exit, dead.ExitedAt, dead.RSSBytes, dead.SwapBytes = wire.StateDead, killed, ago(90*time.Minute), nil, nil
	direct := process(21, 1, 20, "python3", "python3", "-c", "from multiprocessing import spawn; main()", "--key=a b")
	direct.Orphan = &wire.Orphan{Since: ago(90 * time.Minute), Direct: true, Verdict: wire.VerdictLeaked, Leaker: leaker,
		Adopter: &wire.Adopter{PID: 1, Comm: "systemd", Kind: "init", Confirmed: true}, Evidence: []string{"one"}, Leak: "L0123456789ab",
		Tree: &wire.Usage{Processes: 2, RSSBytes: ptr(uint64(25) << 30), SwapBytes: ptr(uint64(7) << 30)}}
	stranded := process(22, 21, 21, "node", "node", "server.js")
	stranded.Orphan = &wire.Orphan{Since: ago(90 * time.Minute), Verdict: wire.VerdictLeaked, Leaker: leaker, Leak: "L0123456789ab",
		Tree: &wire.Usage{Processes: 1}}
	older := process(23, 1, 0, "old")
	older.Orphan = &wire.Orphan{Direct: true, Verdict: wire.VerdictUnknown, Tree: &wire.Usage{Processes: 1}}
	deliberate := process(24, 1, 20, "tmux: server", "tmux")
	deliberate.Truncated = true
	deliberate.Orphan = &wire.Orphan{Since: ago(50 * 24 * time.Hour), Direct: true, Verdict: wire.VerdictDeliberate,
		Leaker: &wire.Leaker{PID: 20, Comm: hostile, Exit: &wire.Exit{Code: ptr(0)}}, Tree: &wire.Usage{Processes: 1}}
	kthread := process(2, 0, 0, "kthreadd")
	kthread.Kthread = true
	below := process(3, 2, 2, "kworker/0:0")
	below.Kthread = true
	evil := process(4194304, 10, 10, hostile, hostile, "two\nlines", "")
	evil.User = hostile
	return &wire.Tree{Schema: 1, Time: now, Processes: []wire.Process{
		process(1, 0, 0, "systemd", "/sbin/init"), kthread, below, process(10, 1, 1, "bash", "-bash"),
		dead, direct, stranded, older, deliberate, evil, process(30, 22, 22, "sleep"),
	}}
}

func TestTree(t *testing.T) {
	for _, tt := range []struct {
		name string
		opt  TreeOptions
	}{
		{"lineage", TreeOptions{}},
		{"kernel", TreeOptions{Kernel: true}},
		{"orphans", TreeOptions{Orphans: true}},
		{"one", TreeOptions{Root: 22}},
		{"kernel threads", TreeOptions{Threads: true}},
		{"100 columns", TreeOptions{Style: Style{Width: 100}}},
		{"40 columns", TreeOptions{Style: Style{Width: 40}}},
		{"1 column", TreeOptions{Style: Style{Width: 1}}},
		{"colour", TreeOptions{Style: Style{Color: true, Width: 120}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var b bytes.Buffer
			if err := Tree(&b, sample(), tt.opt); err != nil {
				t.Fatal(err)
			}
			harmless(t, b.String(), tt.opt.Color)
			golden(t, b.Bytes())
		})
	}
}

// harmless fails the test where text of a process could act on a terminal.
func harmless(t *testing.T, out string, color bool) {
	t.Helper()
	if color {
		out = regexp.MustCompile("\x1b\\[[0-9]+m").ReplaceAllString(out, "")
	}
	if !utf8.ValidString(out) || strings.ContainsFunc(out, func(r rune) bool { return r < ' ' && r != '\n' || r == '\u202e' || r == 0x7f }) {
		t.Errorf("not harmless: %q", out)
	}
	for line := range strings.Lines(out) {
		if strings.HasPrefix(strings.TrimLeft(line, " "), "1 root  /sbin") {
			t.Errorf("a process forged a line: %q", line)
		}
	}
}

// BenchmarkTree draws the children of one process, on a terminal and in a file.
func BenchmarkTree(b *testing.B) {
	for _, width := range []int{120, 0} {
		for _, processes := range []int{1000, 10000} {
			b.Run(fmt.Sprintf("%d processes in %d columns", processes, width), func(b *testing.B) {
				doc := &wire.Tree{Time: now, Complete: true}
				for i := range processes {
					doc.Processes = append(doc.Processes, wire.Process{PID: int32(i + 1), StartNS: 1, Comm: "worker",
						Cmdline: []string{"/usr/lib/worker", "--config", "/etc/worker.conf", "--name", "a name"}, User: "root",
						State: wire.StateRunning, StartedAt: ago(time.Hour), RSSBytes: ptr(uint64(i) << 12),
						SpawnedBy: &wire.Ref{PID: 1, StartNS: 1}})
				}
				b.ReportAllocs()
				for b.Loop() {
					if err := Tree(io.Discard, doc, TreeOptions{Style: Style{Width: width}}); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func TestTreeKeepsToItsWidth(t *testing.T) {
	const width = 120
	var b bytes.Buffer
	if err := Tree(&b, sample(), TreeOptions{Style: Style{Width: width}}); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(b.String()) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(line, "\n")); n > width {
			t.Errorf("%d columns: %q", n, line)
		}
	}
}

func TestSelect(t *testing.T) {
	for _, tt := range []struct {
		name            string
		root            int32
		orphans, kernel bool
		want            []int32
	}{
		{"one with its line", 22, false, false, []int32{1, 10, 20, 21, 22, 30}},
		{"one as the kernel has it", 22, false, true, []int32{1, 21, 22, 30}},
		{"orphans with who made them and what they made", 0, true, false, []int32{1, 10, 20, 21, 22, 23, 24, 30}},
		{"nobody", 4711, false, false, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var got []int32
			for _, p := range Select(sample(), TreeOptions{Root: tt.root, Orphans: tt.orphans, Kernel: tt.kernel}) {
				got = append(got, p.PID)
			}
			if diff := cmp.Diff(tt.want, slices.Sorted(slices.Values(got))); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestOrphans(t *testing.T) {
	var list []wire.Process
	for _, p := range sample().Processes {
		if p.Orphan != nil {
			list = append(list, p)
		}
	}
	for _, tt := range []struct {
		name  string
		list  []wire.Process
		style Style
	}{
		{"none", nil, Style{}},
		{"all", list, Style{}},
		{"40 columns", list, Style{Width: 40}},
		{"colour", list, Style{Color: true, Width: 150}},
		{"of leaks", orphansOfLeaks(), Style{}},
		{"60 columns", orphansOfLeaks(), Style{Width: 60}},
		{"80 columns", placed(list), Style{Width: 80}},
		{"120 columns", placed(list), Style{Width: 120}},
		{"wide", placed(list), Style{Width: 80, Wide: true}},
		{"chosen", placed(orphansOfLeaks()), Style{Columns: []string{"pid", "left-by", "leak", "verdict"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var b bytes.Buffer
			if err := Orphans(&b, tt.list, now, tt.style); err != nil {
				t.Fatal(err)
			}
			harmless(t, b.String(), tt.style.Color)
			golden(t, b.Bytes())
		})
	}
}

// placed gives the first of them a place: a unit, a container, a directory, a port.
func placed(list []wire.Process) []wire.Process {
	list = slices.Clone(list)
	list[0].Unit, list[0].Container = "web.service", strings.Repeat("0123456789abcdef", 4)
	list[0].Cwd, list[0].Ports = "/srv/app", []wire.Port{{Proto: "tcp", Addr: "127.0.0.1", Port: 8000}, {Proto: "tcp6", Addr: "::", Port: 8001}}
	return list
}

// orphansOfLeaks are those of two leaks and of none, mixed; in one of the leaks a second
// process has died, and the name of the other's leaker is hostile.
func orphansOfLeaks() (list []wire.Process) {
	add := func(pid int32, leak string, leaker *wire.Leaker, verdict string, minutes int) {
		since := ago(time.Duration(minutes) * time.Minute)
		list = append(list, wire.Process{PID: pid, Comm: "worker", User: "bob", State: wire.StateRunning, Orphan: &wire.Orphan{Since: since,
			SinceNS: uint64(1e15 - int64(minutes)*6e10), Direct: pid%2 == 0, Verdict: verdict, Leaker: leaker, Leak: leak,
			Tree: &wire.Usage{Processes: 1, RSSBytes: ptr(uint64(1) << 30), SwapBytes: ptr(uint64(1) << 29)}}})
	}
	first := &wire.Leaker{PID: 20, StartNS: 20, Comm: "python3", Cmdline: []string{"python3", "train.py"}, Exit: &wire.Exit{OOM: true, Signal: "SIGKILL"}}
	later := &wire.Leaker{PID: 26, StartNS: 26, Comm: "python3", Exit: &wire.Exit{Code: ptr(1)}}
	evil := &wire.Leaker{PID: 40, StartNS: 40, Comm: hostile, Cmdline: []string{hostile}}
	add(42, "Lba9876543210", evil, wire.VerdictUnknown, 180)
	add(28, "L0123456789ab", later, wire.VerdictUnknown, 5)
	add(50, "", &wire.Leaker{PID: 49, Comm: "sh", Exit: &wire.Exit{Code: ptr(0)}}, wire.VerdictDeliberate, 100)
	add(22, "L0123456789ab", first, wire.VerdictLeaked, 60)
	add(23, "L0123456789ab", first, wire.VerdictUnknown, 60)
	return list
}

func TestEvents(t *testing.T) {
	doc := sample()
	byPID := make(map[int32]*wire.Process)
	for i := range doc.Processes {
		byPID[doc.Processes[i].PID] = &doc.Processes[i]
	}
	aborted := &wire.Process{PID: 30, StartNS: 300, Comm: "app", Exit: &wire.Exit{Signal: "SIGABRT", KilledBy: &wire.Ref{PID: 30, StartNS: 300, Comm: "app"}}}
	events := []wire.Event{
		{Type: wire.TypeFork, Process: byPID[22]},
		{Type: wire.TypeExec, Process: byPID[4194304]},
		{Type: wire.TypeExit, Process: byPID[20]},
		{Type: wire.TypeExit, Process: &wire.Process{PID: 7, Comm: "x"}},
		{Type: wire.TypeOrphan, Process: byPID[21]},
		{Type: wire.TypeOrphan, Process: byPID[22]},
		{Type: wire.TypeSignal, Process: byPID[20], Signal: &wire.Signal{Signal: "SIGTERM", Sender: &wire.Sender{PID: 5, Comm: hostile}}},
		{Type: wire.TypeSignal, Process: byPID[20], Signal: &wire.Signal{Signal: "SIGSEGV"}},
		{Type: wire.TypeSignal, Process: aborted, Signal: &wire.Signal{Signal: "SIGABRT", Sender: &wire.Sender{PID: 30, StartNS: 300, Comm: "app"}}},
		{Type: wire.TypeExit, Process: aborted},
		{Type: wire.TypeSignal, Process: aborted, Signal: &wire.Signal{Signal: "SIGABRT", Sender: &wire.Sender{PID: 30, StartNS: 299, Comm: "gone"}}},
		{Type: wire.TypeOrphan, Process: &wire.Process{PID: 31, Comm: "worker", Orphan: &wire.Orphan{Direct: true, Verdict: wire.VerdictLeaked,
			Leaker: &wire.Leaker{PID: 30, StartNS: 300, Comm: "app", Exit: aborted.Exit}}}},
		{Type: wire.TypeOOM, Process: byPID[21], OOM: &wire.OOM{RSSBytes: 3 << 30}},
		{Type: wire.TypeOOM, Process: byPID[21], OOM: &wire.OOM{}},
		{Type: wire.TypeLost, Lost: &wire.Lost{Records: 12}},
		{Type: wire.TypeResync, Resync: &wire.Resync{Reason: "12 records lost", Found: 2, Vanished: 1}},
		{Type: wire.TypeAlert, Alert: &wire.Alert{Name: "memory", State: wire.AlertWarning, Message: "memory is at 90 %\n" + hostile}},
		{Type: wire.TypeKill, Kill: &wire.Kill{Rule: "stale", Mode: "enforce", Outcome: wire.KillPartial, FreedBytes: 5 << 20,
			Processes: []wire.Killed{{Outcome: wire.OutcomeDied}, {Outcome: wire.OutcomeDied}, {Outcome: wire.OutcomeIdentityChanged}}}},
		{Type: "novel"},
	}
	for _, style := range []struct {
		name string
		Style
	}{{"plain", Style{}}, {"60 columns", Style{Width: 60}}} {
		t.Run(style.name, func(t *testing.T) {
			var b bytes.Buffer
			for i := range events {
				e := events[i]
				e.Time = now.In(time.Local)
				if err := Event(&b, &e, style.Style); err != nil {
					t.Fatal(err)
				}
			}
			harmless(t, b.String(), false)
			golden(t, regexp.MustCompile(`(?m)^2026-01-\d\d \d\d:\d\d:00.000`).ReplaceAll(b.Bytes(), []byte("2026-01-15 12:00:00.000")))
		})
	}
}
