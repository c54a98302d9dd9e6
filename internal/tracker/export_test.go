// SPDX-License-Identifier: Apache-2.0

package tracker

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/abot-trace/abot-trace/internal/event"
)

func anyID() *rapid.Generator[event.ID] {
	return rapid.Custom(func(t *rapid.T) event.ID {
		return event.ID{PID: rapid.Int32Range(0, 9).Draw(t, "pid"), Start: rapid.Uint64Range(0, 6).Draw(t, "start")}
	})
}

// anyTree returns a tree after a stream that no kernel would send.
func anyTree(t *rapid.T, history int) *Tree {
	tree := New(history)
	tell(t, tree)
	return tree
}

// tell tells a tree what no kernel would send.
func tell(t *rapid.T, tree *Tree) {
	id := anyID()
	for range rapid.IntRange(0, 60).Draw(t, "records") {
		switch rapid.IntRange(0, 9).Draw(t, "step") {
		case 0:
			tree.Begin(anyTasks(t, id), rapid.Uint64Range(0, 8).Draw(t, "began")).End()
		case 1:
			tree.ConfirmParent(id.Draw(t, "confirm"), rapid.Int32Range(0, 9).Draw(t, "ppid"))
		case 2:
			tree.SetVerdict(id.Draw(t, "verdict"), "leaked", rapid.Bool().Draw(t, "provisional"), []string{"one", "another"})
			tree.Tie(id.Draw(t, "tie"))
		case 3:
			tree.SetCmdline(id.Draw(t, "words"), "/bin/x", "x\x00y\x00", true)
		default:
			e := anyEvent(t, id)
			tree.Apply(&e)
		}
	}
}

func mustExport(t complainer, tree *Tree) []byte {
	t.Helper()
	b, err := tree.Export(nil)
	if err != nil {
		t.Errorf("export: %v", err)
	}
	return b
}

// TestExportImport proves that a tree comes back as it was, and goes on as it would
// have gone on.
func TestExportImport(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		history := rapid.SampledFrom([]int{1, 3, 100}).Draw(t, "history")
		tree := anyTree(t, history)
		b := mustExport(t, tree)
		again, err := Import(b, history)
		if err != nil {
			t.Fatal(err)
		}
		check(t, again)
		if !bytes.Equal(b, mustExport(t, again)) {
			t.Error("exported again, it differs")
		}
		same(t, tree, again)
		for range rapid.IntRange(0, 10).Draw(t, "later") {
			e := anyEvent(t, anyID())
			if was, is := len(tree.Apply(&e)), len(again.Apply(&e)); was != is {
				t.Errorf("%+v made %d changes before, %d after", e, was, is)
			}
			same(t, tree, again)
			check(t, again)
		}
	})
}

func same(t *rapid.T, was, is *Tree) {
	t.Helper()
	if diff := gocmp.Diff(dump(was), dump(is), gocmp.AllowUnexported(event.ID{})); diff != "" {
		t.Errorf("it differs:\n%s", diff)
	}
	if was.refused != is.refused || was.bootAt != is.bootAt || was.synced != is.synced || was.unseen != is.unseen {
		t.Errorf("counters differ")
	}
}

// TestImportShorterHistory keeps the youngest of the dead.
func TestImportShorterHistory(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tree, err := Import(mustExport(t, anyTree(t, 100)), 2)
		if err != nil {
			t.Fatal(err)
		}
		check(t, tree)
	})
}

func TestExportWhileMerging(t *testing.T) {
	tree := New(0)
	tree.Begin(nil, 1)
	if b, err := tree.Export([]byte("kept")); !errors.Is(err, ErrMerging) || string(b) != "kept" {
		t.Errorf("got %q, %v; want %v", b, err, ErrMerging)
	}
}

func TestImportCut(t *testing.T) {
	b := mustExport(t, bigTree(50))
	for n := range b {
		if tree, err := Import(b[:n], 0); !errors.Is(err, ErrMalformed) || tree != nil {
			t.Fatalf("the first %d of %d bytes: %v, %v", n, len(b), tree, err)
		}
	}
	if _, err := Import(append(b, 0), 0); !errors.Is(err, ErrMalformed) {
		t.Errorf("a byte too many: %v", err)
	}
}

// FuzzImport takes any bytes: a whole tree comes out, or an error.
func FuzzImport(f *testing.F) {
	f.Add([]byte{})
	f.Add(mustExport(f, New(0)))
	f.Add(mustExport(f, bigTree(5)))
	f.Fuzz(func(t *testing.T, b []byte) {
		tree, err := Import(b, 4)
		if err != nil {
			if tree != nil {
				t.Error("a tree and an error")
			}
			return
		}
		check(t, tree)
		if _, err := Import(mustExport(t, tree), 4); err != nil {
			t.Errorf("exported again: %v", err)
		}
	})
}

// bigTree has n processes: a tree of families, each with an orphan and a dead parent.
func bigTree(n int) *Tree {
	tree := New(0)
	at := uint64(1)
	apply := func(e event.Event) {
		at++
		e.Time = at
		tree.Apply(&e)
	}
	top := event.ID{PID: 1, Start: 1}
	for i := range n / 5 {
		pid := int32(10 + 5*i)
		family := event.ID{PID: pid, Start: at}
		fork := func(child, of event.ID) {
			apply(event.Event{Kind: event.KindFork, Subject: child, Comm: event.MakeComm("worker"),
				Fork: event.Fork{Spawner: of, Caller: of, Cgroup: uint64(i % 40), Origin: event.Origin{StdioKnown: true,
					Stdio: event.Stdio{{Ino: uint64(i), Mode: 1}}}}})
		}
		fork(family, top)
		apply(event.Event{Kind: event.KindExec, Subject: family, Ordinal: 1, Comm: event.MakeComm("worker"),
			Exec: event.Exec{Filename: "/usr/bin/worker", Cmdline: fmt.Sprintf("worker\x00--number\x00%d\x00", i)}})
		for k := range int32(4) {
			child := event.ID{PID: pid + 1 + k, Start: at}
			fork(child, family)
			if k == 0 {
				fork(event.ID{PID: int32(10 + 5*n + i), Start: at}, child)
				apply(event.Event{Kind: event.KindSignal, Subject: child, Signal: event.Signal{Signal: 9, Sender: top}})
				apply(event.Event{Kind: event.KindExit, Subject: child, Exit: event.Exit{Status: 9, Adopter: top}})
				tree.SetVerdict(event.ID{PID: int32(10 + 5*n + i), Start: child.Start + 1}, "leaked", false, []string{"its spawner was killed"})
			}
		}
	}
	return tree
}

func BenchmarkExport(b *testing.B) {
	for _, n := range []int{1_000, 10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			tree := bigTree(n)
			buf := mustExport(b, tree)
			b.ReportMetric(float64(len(buf))/float64(n), "B/process")
			b.ReportAllocs()
			for b.Loop() {
				buf, _ = tree.Export(buf[:0])
			}
		})
	}
}

func BenchmarkImport(b *testing.B) {
	buf := mustExport(b, bigTree(10_000))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Import(buf, 0); err != nil {
			b.Fatal(err)
		}
	}
}
