// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/wire"
)

// shown is what commands print of a test's own processes.
type shown struct {
	Orphans []wire.Process
	Tree    []wire.Process
	Explain wire.Explain
	Leaks   []wire.Leak
}

// An asker answers about now, or about a time.
type asker interface {
	Tree(ctx context.Context, facts ...string) (*wire.Tree, error)
	Orphans(ctx context.Context, facts ...string) ([]wire.Process, error)
	Explain(ctx context.Context, pid int32, config string) (*wire.Explain, error)
	Leaks(ctx context.Context, id string) (*wire.Leaks, error)
}

// show asks about the family of a leaked pair.
func show(t testing.TB, f *pair, leaker int32, from asker) shown {
	t.Helper()
	tree, err := from.Tree(t.Context())
	orphans, err2 := from.Orphans(t.Context())
	explain, err3 := from.Explain(t.Context(), int32(f.child.pid), "")
	leaks, err4 := from.Leaks(t.Context(), "")
	if err := errors.Join(err, err2, err3, err4); err != nil {
		t.Fatal(err)
	}
	return pick(f, leaker, tree, orphans, explain, leaks)
}

// showIn asks commands, which read a history.
func showIn(t testing.TB, f *pair, leaker int32, flags ...string) shown {
	t.Helper()
	ask := func(into any, args ...string) {
		t.Helper()
		out, _ := wantRun(t, 0, slices.Concat(args, []string{"--json"}, flags)...)
		if err := json.Unmarshal([]byte(out), into); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	var orphans []wire.Process
	var tree wire.Tree
	var explain wire.Explain
	var leaks wire.Leaks
	ask(&orphans, "orphans")
	ask(&tree, "tree")
	ask(&explain, "explain", strconv.Itoa(f.child.pid))
	ask(&leaks, "leaks")
	return pick(f, leaker, &tree, orphans, &explain, &leaks)
}

// pick leaves what is of the family.
func pick(f *pair, leaker int32, tree *wire.Tree, orphans []wire.Process, explain *wire.Explain, leaks *wire.Leaks) shown {
	mine := func(list []wire.Process) []wire.Process {
		return slices.DeleteFunc(list, func(p wire.Process) bool { return p.PID != leaker && int(p.PID) != f.child.pid })
	}
	s := shown{Orphans: mine(orphans), Tree: mine(tree.Processes), Explain: *explain}
	for _, l := range leaks.Leaks {
		if l.Leaker.PID == leaker {
			s.Leaks = append(s.Leaks, l)
		}
	}
	return s
}

// notKept are the figures of a process that change while it rests, and what is known of the
// dead by chance alone.
var notKept = cmp.Options{
	cmpopts.EquateApproxTime(time.Millisecond),
	cmpopts.IgnoreFields(wire.Process{}, "RSSBytes", "SwapBytes", "CPUSeconds", "CPUPercent", "Threads"),
	cmpopts.IgnoreFields(wire.Usage{}, "RSSBytes", "SwapBytes", "CPUPercent"),
	cmpopts.IgnoreFields(wire.Explain{}, "Holds"),
	cmpopts.IgnoreFields(wire.Leak{}, "Holds", "RSSBytes", "SwapBytes", "PeakBytes", "ByteSeconds", "CPUSeconds", "Trust"),
	cmp.FilterPath(func(p cmp.Path) bool {
		return slices.Contains([]string{".Cgroup", ".Unit", ".Container"}, p.Last().String())
	}, cmp.FilterValues(func(a, b string) bool { return a == "" || b == "" }, cmp.Ignore())),
}

// TestThePastIsWhatWasShown asks about a time when a leak was open, when nothing of it is left,
// after the daemon was killed, and without a daemon: the answers are those that the daemon gave
// then.
func TestThePastIsWhatWasShown(t *testing.T) {
	d := newKept(t, ruleless)
	d.start()
	before := time.Now()
	f := newPair(t, "past")
	f.killMain()
	leaker := d.settledOrphan(f.child.pid).Leaker.PID
	d.leakOf(f.child, wire.LeakOpened)
	var then shown
	var at time.Time
	d.await("two looks that are the same", func() bool {
		a := show(t, f, leaker, d.client)
		at = time.Now()
		then = show(t, f, leaker, d.client)
		return cmp.Equal(a, then, notKept) && len(a.Orphans) == 1 && len(a.Leaks) == 1
	})
	f.child.end()
	d.leakOf(f.child, wire.LeakEnded)
	T := at.Format(time.RFC3339Nano)
	compare := func(what string, again shown) {
		t.Helper()
		if diff := cmp.Diff(then, again, notKept); diff != "" {
			t.Errorf("%s: %s", what, diff)
		}
	}
	compare("by the daemon", show(t, f, leaker, d.client.At(at)))
	d.endBy(unix.SIGKILL)
	d.start()
	compare("by the next daemon", show(t, f, leaker, d.client.At(at)))
	_, notes := wantRun(t, 0, "orphans", "--socket", d.socket(), "--at", T)
	wantText(t, notes, "note: ")
	out, _ := wantRun(t, 0, "tree", "--socket", d.socket(), "--at", T, strconv.Itoa(f.child.pid))
	wantText(t, out, fmt.Sprint(f.child.pid), "leaked")
	out, _ = wantRun(t, 0, "explain", "--socket", d.socket(), "--at", "0s", strconv.Itoa(f.child.pid))
	wantText(t, out, "SIGKILL")
	wantRun(t, 1, "tree", "--socket", d.socket(), "--at", before.Add(-time.Hour).Format(time.RFC3339))

	story := eventsOf(t, "--pid", strconv.Itoa(f.child.pid), "--socket", d.socket())
	for _, kind := range []string{wire.TypeFork, wire.TypeExec, wire.TypeOrphan, wire.TypeLeak, wire.TypeSignal, wire.TypeExit} {
		if !slices.ContainsFunc(story, func(e wire.Event) bool { return e.Type == kind }) {
			t.Errorf("the story of %d lacks %s: %+v", f.child.pid, kind, story)
		}
	}
	all := eventsOf(t, "--cursor", "oldest", "--scope", "all", "--socket", d.socket())
	for _, e := range story {
		if !slices.ContainsFunc(all, func(a wire.Event) bool { return cmp.Equal(a, e) }) {
			t.Errorf("by cursors it lacks %+v", e)
		}
	}
	until := eventsOf(t, "--pid", strconv.Itoa(f.child.pid), "--until", T, "--socket", d.socket())
	if slices.ContainsFunc(until, func(e wire.Event) bool { return e.Type == wire.TypeExit || e.Time.After(at) }) {
		t.Errorf("until %s: %+v", T, until)
	}
	out, _ = wantRun(t, 0, "leaks", "--since", before.Format(time.RFC3339), "--by", "program", "--socket", d.socket())
	wantText(t, out, "PROGRAM")

	rules := writeConfig(t, "rules:\n  - name: past\n    match: {verdict: [leaked], cmdline: sleep}\n")
	would := func(flags ...string) {
		t.Helper()
		out, notes := wantRun(t, 0, slices.Concat([]string{"replay", rules}, flags)...)
		wantText(t, out, fmt.Sprintf("past: would kill pid %d (sleep), leaked", f.child.pid), "afterwards it ended otherwise")
		wantText(t, notes, ": 1 tree would have been ended", "1 of them ended otherwise")
	}
	would("--since", before.Format(time.RFC3339), "--socket", d.socket())

	wantRun(t, 0, "history", "export", "--until", T, "--socket", d.socket(), filepath.Join(t.TempDir(), "export.tar"))

	d.endBy(unix.SIGTERM)
	dir := filepath.Join(d.state(), "history")
	compare("without a daemon", showIn(t, f, leaker, "--history", dir, "--at", T))
	would("--history", dir)
	file := filepath.Join(t.TempDir(), "export.tar")
	wantRun(t, 0, "history", "export", "--since", before.Format(time.RFC3339), "--history", dir, file)
	out, _ = wantRun(t, 0, "orphans", "--history", file, "--at", T)
	wantText(t, out, fmt.Sprint(f.child.pid), "leaked")
	if again := eventsOf(t, "--pid", strconv.Itoa(f.child.pid), "--history", dir); !cmp.Equal(story, again) {
		t.Errorf("without a daemon: %s", cmp.Diff(story, again))
	}
}

func eventsOf(t testing.TB, flags ...string) (list []wire.Event) {
	t.Helper()
	out, _ := wantRun(t, 0, slices.Concat([]string{"events", "--json"}, flags)...)
	for line := range strings.Lines(out) {
		var e wire.Event
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		list = append(list, e)
	}
	return list
}
