// SPDX-License-Identifier: Apache-2.0

package tracker

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/abot-trace/abot-trace/internal/event"
)

// A tape keeps what a recorder is told, as functions that do it again.
type tape struct {
	redo  []func(*Tree) error
	kinds map[InputKind]int
}

func (p *tape) Applying(e *event.Event) {
	c := *e
	p.redo = append(p.redo, func(t *Tree) error { t.Apply(&c); return nil })
}

func (p *tape) Input(kind InputKind, id event.ID, data []byte) {
	p.kinds[kind]++
	data = bytes.Clone(data)
	p.redo = append(p.redo, func(t *Tree) error { _, err := t.Redo(kind, id, data); return err })
}

func keep(cmdline string) string { return cmdline }

// TestRedo proves that a tree is what its checkpoint and its inputs since make it, and that
// making it again tells a recorder the same.
func TestRedo(t *testing.T) {
	told := &tape{kinds: make(map[InputKind]int)}
	rapid.Check(t, func(t *rapid.T) {
		history := rapid.SampledFrom([]int{1, 3, 100}).Draw(t, "history")
		tree := anyTree(t, history)
		tree.SetSelf(rapid.Int32Range(0, 9).Draw(t, "self"))
		tree.Pin(anyID().Draw(t, "pinned"))
		tree.SetLeak(anyID().Draw(t, "leaky"), "L1")
		told.redo = nil
		tree.SetRecorder(told, keep)
		checkpoint, err := tree.Checkpoint(nil)
		if err != nil {
			t.Fatal(err)
		}
		tell(t, tree)
		orphan := anyID().Draw(t, "orphan")
		for id := range tree.OrphanIDs() {
			if !tree.Has(orphan) || id.PID < orphan.PID {
				orphan = id
			}
		}
		tree.SetLeak(orphan, "L2")
		tree.SetAbandoned(orphan)
		tree.Tie(orphan)
		tree.SetMarks(anyID().Draw(t, "marks"), true, false)
		tree.Pin(anyID().Draw(t, "pin"))
		tree.Unpin(anyID().Draw(t, "unpin"))
		tree.NoteRefused(rapid.Uint64Range(0, 5).Draw(t, "refused"))
		tree.Untie(orphan)
		tell(t, tree)
		again, err := FromCheckpoint(checkpoint, history)
		if err != nil {
			t.Fatal(err)
		}
		retold := &tape{kinds: make(map[InputKind]int)}
		again.SetRecorder(retold, keep)
		for _, redo := range told.redo {
			if err := redo(again); err != nil {
				t.Fatal(err)
			}
		}
		if len(retold.redo) != len(told.redo) {
			t.Errorf("%d inputs made %d", len(told.redo), len(retold.redo))
		}
		was, _ := tree.Checkpoint(nil)
		is, err := again.Checkpoint(nil)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(was, is) {
			at := 0
			for at < min(len(was), len(is)) && was[at] == is[at] {
				at++
			}
			t.Errorf("it is another tree from byte %d on: %q and %q", at, was[max(0, at-40):], is[max(0, at-40):])
		}
		same(t, tree, again)
	})
}

// TestRedoEach makes every kind of input in turn: the tree that is made again is the same
// after each, and was another without it.
func TestRedoEach(t *testing.T) {
	p := func(pid int32) event.ID { return event.ID{PID: pid, Start: uint64(pid)} }
	tree, again := New(0), New(0)
	told := &tape{kinds: make(map[InputKind]int)}
	tree.SetRecorder(told, keep)
	for pid := int32(5); pid < 8; pid++ {
		tree.Apply(&event.Event{Kind: event.KindFork, Subject: p(pid), Fork: event.Fork{Spawner: p(pid - 1), Caller: p(pid - 1)}})
	}
	tree.Apply(&event.Event{Kind: event.KindExit, Subject: p(6), Time: 10})
	redo := func() {
		t.Helper()
		for _, redo := range told.redo {
			if err := redo(again); err != nil {
				t.Fatal(err)
			}
		}
		told.redo = nil
	}
	checkpoint := func(tree *Tree) []byte {
		b, err := tree.Checkpoint(nil)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	redo()
	var merge *Snapshot
	for kind, step := range map[InputKind]func(){
		InputCmdline:   func() { tree.SetCmdline(p(5), "/bin/x", "x\x00", true) },
		InputMarks:     func() { tree.SetMarks(p(5), true, false) },
		InputVerdict:   func() { tree.SetVerdict(p(7), "leaked", true, []string{"one"}) },
		InputAbandoned: func() { tree.SetAbandoned(p(7)) },
		InputLeak:      func() { tree.SetLeak(p(7), "L1") },
		InputParent:    func() { tree.ConfirmParent(p(7), 5) },
		InputRefused:   func() { tree.NoteRefused(3) },
		InputPin:       func() { tree.Pin(p(6)) },
	} {
		before := checkpoint(tree)
		checkpoint(again) // which settles what is pending, as it does in the other
		step()
		if told.kinds[kind] != 1 || bytes.Equal(before, checkpoint(tree)) {
			t.Errorf("kind %d: told %d times, or nothing changed", kind, told.kinds[kind])
		}
		redo()
		if !bytes.Equal(checkpoint(tree), checkpoint(again)) {
			t.Errorf("kind %d: it is another tree", kind)
		}
	}
	for _, step := range []struct {
		kind InputKind
		do   func()
	}{
		{InputTie, func() { tree.Tie(p(7)) }}, {InputUntie, func() { tree.Untie(p(7)) }}, {InputUnpin, func() { tree.Unpin(p(6)) }},
		{InputBegin, func() { merge = tree.Begin([]event.Task{{ID: p(8), Parent: p(5), Comm: event.MakeComm("new")}}, 20) }},
		{InputEnd, func() { merge.End() }},
	} {
		step.do()
		redo()
		was, _ := tree.Get(p(7))
		is, _ := again.Get(p(7))
		if told.kinds[step.kind] != 1 || (was.Orphan == nil) != (is.Orphan == nil) || was.Orphan != nil && was.Orphan.Tied != is.Orphan.Tied {
			t.Errorf("kind %d: %+v and %+v", step.kind, was.Orphan, is.Orphan)
		}
	}
	if !bytes.Equal(checkpoint(tree), checkpoint(again)) {
		t.Error("it is another tree")
	}
}

// TestCheckpointHides has no secret of any command line in a checkpoint or an input.
func TestCheckpointHides(t *testing.T) {
	const secret = "sesame"
	tree := New(0)
	told := &tape{kinds: make(map[InputKind]int)}
	tree.SetRecorder(told, func(s string) string { return strings.ReplaceAll(s, secret, "***") })
	cmdline := "x\x00" + secret + "\x00"
	for pid := int32(1); pid < 4; pid++ {
		tree.Apply(&event.Event{Kind: event.KindFork, Subject: event.ID{PID: pid, Start: uint64(pid)},
			Fork: event.Fork{Spawner: event.ID{PID: pid - 1, Start: uint64(pid - 1)}, Caller: event.ID{PID: pid - 1, Start: uint64(pid - 1)}}})
		tree.Apply(&event.Event{Kind: event.KindExec, Subject: event.ID{PID: pid, Start: uint64(pid)}, Ordinal: 1,
			Exec: event.Exec{Filename: "/bin/x", Cmdline: cmdline}})
	}
	tree.Apply(&event.Event{Kind: event.KindSignal, Time: 9, Subject: event.ID{PID: 2, Start: 2},
		Signal: event.Signal{Signal: 9, Sender: event.ID{PID: 1, Start: 1}}})
	tree.Apply(&event.Event{Kind: event.KindExit, Time: 10, Subject: event.ID{PID: 2, Start: 2}, Exit: event.Exit{Status: 9}})
	b, err := tree.Checkpoint(nil)
	if err != nil || bytes.Contains(b, []byte(secret)) || !bytes.Contains(b, []byte("***")) {
		t.Errorf("%v: the checkpoint is %q", err, b)
	}
	plain, _ := tree.Export(nil)
	if !bytes.Contains(plain, []byte(secret)) {
		t.Error("a successor gets hidden arguments")
	}
	var data []byte
	tree.recorder = inputs(func(b []byte) { data = append(data, b...) })
	tree.SetCmdline(event.ID{PID: 1, Start: 1}, "/bin/x", cmdline, false)
	if bytes.Contains(data, []byte(secret)) || !bytes.Contains(data, []byte("***")) {
		t.Errorf("the input is %q", data)
	}
}

type inputs func([]byte)

func (inputs) Applying(*event.Event)                        {}
func (f inputs) Input(_ InputKind, _ event.ID, data []byte) { f(data) }

// FuzzRedo has any bytes come: a whole tree is left, and an error changes nothing.
func FuzzRedo(f *testing.F) {
	f.Add(byte(InputVerdict), []byte("\x06leaked\x00\x01\x03one"))
	f.Add(byte(InputBegin), []byte("\x01\x00"))
	f.Add(byte(InputEnd), []byte{})
	f.Fuzz(func(t *testing.T, kind byte, data []byte) {
		tree := New(3)
		tree.Apply(&event.Event{Kind: event.KindFork, Subject: event.ID{PID: 2, Start: 2}, Fork: event.Fork{Spawner: event.ID{PID: 1, Start: 1}}})
		before := mustExport(t, tree)
		_, err := tree.Redo(InputKind(kind), event.ID{PID: 2, Start: 2}, data)
		switch {
		case err != nil && !errors.Is(err, ErrInput):
			t.Error(err)
		case err != nil && !bytes.Equal(before, mustExport(t, tree)):
			t.Errorf("%v, and the tree is another", err)
		}
		if _, err := tree.Redo(InputEnd, event.ID{}, nil); err != nil {
			t.Error(err)
		}
		mustExport(t, tree)
	})
}
