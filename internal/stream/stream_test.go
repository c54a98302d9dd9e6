// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"testing"

	"github.com/abot-trace/abot-trace/internal/describe"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// A test's own goroutine is its loop.
type loop struct {
	*Stream
	*Reader
	tree *tracker.Tree
}

func newLoop() *loop {
	l := &loop{tree: tracker.New(0)}
	l.Stream = New(l, describe.NewConverter(describe.NewNames(l.tree)))
	l.Reader = l.Stream.Reader()
	return l
}

// Do implements Loop.
func (l *loop) Do(_ context.Context, fn func(*tracker.Tree)) error {
	fn(l.tree)
	return nil
}

// firstPID is above every pid that Linux gives.
const firstPID = 1 << 23

func proc(n int) event.ID { return event.ID{PID: firstPID + int32(n), Start: uint64(1000 + n)} }

// apply records what the event changes.
func (l *loop) apply(e event.Event) {
	e.Time = e.Subject.Start
	for _, c := range l.tree.Apply(&e) {
		l.Record(l.tree, &c)
	}
}

func (l *loop) fork(parent, child int) {
	l.apply(event.Event{Kind: event.KindFork, Subject: proc(child), Comm: event.MakeComm("worker"),
		Fork: event.Fork{Spawner: proc(parent), Caller: proc(parent)}})
}

func (l *loop) kill(n int) {
	l.apply(event.Event{Kind: event.KindExit, Subject: proc(n), Comm: event.MakeComm("worker"), Exit: event.Exit{Status: 9}})
}

// TestLifecycleTypes wants a change of the tree for each type of the lifecycle, and no other.
func TestLifecycleTypes(t *testing.T) {
	for i := range wire.EventTypes {
		e := &wire.EventTypes[i]
		if recorded := slices.Contains(describe.LifecycleTypes[:], e.Name); recorded != e.Lifecycle {
			t.Errorf("%s: recorded %v, declared %v", e.Name, recorded, e.Lifecycle)
		}
	}
}

func TestSlowSubscriberMissesAndIsTold(t *testing.T) {
	l := newLoop()
	slow, fast := l.Subscribe(wire.TypeFork), l.Subscribe(wire.TypeExit)
	defer slow.Close()
	defer fast.Close()
	const more = 100
	for i := range subscriberQueue + more {
		l.fork(0, i+1)
	}
	l.kill(1)
	if n := len(fast.Events()); n != 1 {
		t.Errorf("the slow one held up the other: it has %d events", n)
	}
	missed, since := slow.Missed()
	if missed != more || since == 0 {
		t.Errorf("missed %d since %d, want %d", missed, since, more)
	}
	if missed, _ := slow.Missed(); missed != 0 {
		t.Errorf("missed %d again", missed)
	}
	if n := len(slow.Events()); n != subscriberQueue {
		t.Errorf("%d events wait, want %d", n, subscriberQueue)
	}
}

func TestRecentIsBounded(t *testing.T) {
	l := newLoop()
	for i := range recentLifecycle {
		l.fork(0, i+1)
		l.kill(i + 1)
	}
	forks, err := l.Recent(t.Context(), []string{wire.TypeFork, wire.TypeExit}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if len(forks) != recentLifecycle {
		t.Errorf("%d events remembered, want %d", len(forks), recentLifecycle)
	}
	if last := forks[len(forks)-1]; last.Type != wire.TypeExit || last.Process.PID != proc(recentLifecycle).PID {
		t.Errorf("the newest is %s of %d", last.Type, last.Process.PID)
	}
}

// TestFollow wants each event either in the past that a reader is given, or among its
// lines, and never in both.
func TestFollow(t *testing.T) {
	l := newLoop()
	l.fork(0, 1)
	told := 0
	past, lines, err := l.Follow(t.Context(), []string{wire.TypeFork, wire.TypeAlert}, 0, func() { told++ })
	if err != nil {
		t.Fatal(err)
	}
	defer lines.Close()
	l.fork(0, 2)
	l.kill(2)
	if told != 0 {
		t.Error("a line that can wait was told of at once")
	}
	l.Publish(&wire.Event{Type: wire.TypeAlert, Alert: &wire.Alert{Name: "memory"}}, 0)
	if told != 1 {
		t.Errorf("told %d times of a notable event, want once", told)
	}
	if len(past) != 1 || past[0].Process.PID != proc(1).PID {
		t.Errorf("past: %+v", past)
	}
	_, _, text := lines.Take(nil, 1<<20)
	var got []uint64
	for dec := json.NewDecoder(bytes.NewReader(text)); dec.More(); {
		var e wire.Event
		if err := dec.Decode(&e); err != nil {
			t.Fatal(err)
		}
		got = append(got, e.Seq)
	}
	if want := []uint64{2, 4}; !slices.Equal(got, want) {
		t.Errorf("lines of the events %d, want %d", got, want)
	}
}
