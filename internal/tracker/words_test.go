// SPDX-License-Identifier: Apache-2.0

package tracker

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/abot-trace/abot-trace/internal/event"
)

// longLines makes so many living processes, each below so many dead ancestors, all with
// arguments of their own.
func longLines(t *Tree, lines, dead, argBytes int) {
	at := uint64(1000)
	pid := int32(2)
	padding := strings.Repeat("x", argBytes)
	for line := range lines {
		above := event.ID{PID: 1, Start: 1}
		for i := range dead + 1 {
			at, pid = at+1, pid+1
			id := event.ID{PID: pid, Start: at}
			t.Apply(&event.Event{Kind: event.KindFork, Subject: id, Time: at, Fork: event.Fork{Spawner: above, Caller: above}})
			t.Apply(&event.Event{Kind: event.KindExec, Subject: id, Time: at, Ordinal: 1, ExecID: 1,
				Exec: event.Exec{Filename: "/bin/x", Cmdline: fmt.Sprintf("%d.%d\x00%s\x00", line, i, padding)}})
			if i > 0 {
				t.Apply(&event.Event{Kind: event.KindExit, Subject: above, Time: at, Exit: event.Exit{HasChildren: true}})
			}
			above = id
		}
	}
}

// TestMemoryOfTheDead wants long lines of dead ancestors with large arguments to take a
// bounded number of bytes, in memory and in an export, and the living to keep theirs.
func TestMemoryOfTheDead(t *testing.T) {
	const lines, deadInLine, argBytes = 1000, 60, 3800
	before := heapInUse()
	tree := New(0)
	longLines(tree, lines, deadInLine, argBytes)
	check(t, tree)
	if tree.words.bytes > wordBytes {
		t.Errorf("words take %d bytes, %d wanted", tree.words.bytes, wordBytes)
	}
	export, err := tree.Export(nil)
	if err != nil || len(export) > exportBytes {
		t.Errorf("an export of %d bytes, %v", len(export), err)
	}
	grown, high := heapInUse()-before, memoryHigh(t)
	if t.Logf("the heap grew by %d MiB", grown>>20); 2*grown > high {
		t.Errorf("the heap grew by %d MiB, which is not well below MemoryHigh=%dM", grown>>20, high>>20)
	}
	named := 0
	for p := range tree.All(false) {
		if !p.Dead && p.Cmdline == "" && p.ID.PID != 1 {
			t.Fatalf("%v lives and has no words", p.ID)
		}
		if p.Dead && p.Cmdline != "" {
			named++
		}
	}
	if named == 0 {
		t.Error("none of the dead has words")
	}
	again, err := Import(export, 0)
	if err != nil || again.words.bytes > wordBytes {
		t.Errorf("after an import %d bytes of words, %v", again.words.bytes, err)
	}
	runtime.KeepAlive(tree)
	runtime.KeepAlive(export)
}

// memoryHigh is that of the service's unit, in bytes.
func memoryHigh(t *testing.T) int64 {
	t.Helper()
	unit, err := os.ReadFile("../../deploy/systemd/abot-trace.service")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(unit)) {
		var mib int64
		if n, _ := fmt.Sscanf(line, "MemoryHigh=%dM", &mib); n == 1 {
			return mib << 20
		}
	}
	t.Fatal("the unit has no MemoryHigh in MiB")
	return 0
}

func heapInUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestShortExport wants an export that would be too large to leave out words and evidence,
// and nothing else.
func TestShortExport(t *testing.T) {
	tree := New(0)
	longLines(tree, 20, 3, 1000)
	tree.limits.export = 64 << 10
	export, err := tree.Export(nil)
	if err != nil || len(export) > 64<<10 {
		t.Fatalf("%d bytes, %v", len(export), err)
	}
	again, err := Import(export, 0)
	if err != nil || again.Living() != tree.Living() || again.Remembered() != tree.Remembered() || again.Orphans() != tree.Orphans() {
		t.Errorf("%v, %v", again, err)
	}
}

// TestWordsOfACrowd wants what the living run to be cut short rather than kept whole without a
// bound, and told as cut.
func TestWordsOfACrowd(t *testing.T) {
	tree := New(0)
	tree.limits = limits{words: 10 << 10, crowdedWords: 20 << 10, told: 1 << 10, export: 1 << 20}
	longLines(tree, 200, 0, 1000)
	if tree.words.bytes > 20<<10+200*crowdedWords {
		t.Errorf("%d bytes of words", tree.words.bytes)
	}
	cut := 0
	for p := range tree.All(false) {
		if p.Truncated {
			cut++
		}
	}
	if cut < 150 {
		t.Errorf("%d are told as cut", cut)
	}
}
