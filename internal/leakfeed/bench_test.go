// SPDX-License-Identifier: Apache-2.0

package leakfeed

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"testing"
	"time"

	jsonv2 "github.com/go-json-experiment/json"
	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/boottime"
	"github.com/abot-trace/abot-trace/internal/describe"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/evidence"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// openLeaks is a feed of so many open leaks of one process each, which were told of.
func openLeaks(t testing.TB, n int) (f *Feed, now uint64) {
	tree := tracker.New(16)
	names := describe.NewNames(tree)
	f = New(Options{Tree: tree, Names: names, Conv: describe.NewConverter(names), Machine: "m",
		Usage: func() ([]event.Task, error) { return nil, nil }, Post: func(func()) {}})
	now = boottime.Now()
	tasks := make([]event.Task, n)
	for i := range n {
		pid := int32(1<<23 + 2*i)
		parent, child := event.ID{PID: pid, Start: now - 100}, event.ID{PID: pid + 1, Start: now - 50}
		run := event.Exec{Filename: "/usr/bin/python3", Cmdline: fmt.Sprintf("python3\x00/srv/app/job%d.py\x00--queue\x00default\x00", i%50), MarksKnown: true}
		tree.Apply(&event.Event{Kind: event.KindFork, Subject: parent, Time: parent.Start})
		tree.Apply(&event.Event{Kind: event.KindExec, Subject: parent, Time: parent.Start, Ordinal: 1, Exec: run})
		tree.Apply(&event.Event{Kind: event.KindFork, Subject: child, Time: child.Start, Fork: event.Fork{Spawner: parent, Caller: parent}})
		tree.Apply(&event.Event{Kind: event.KindExit, Subject: parent, Time: now, Exit: event.Exit{Status: event.Status(unix.SIGKILL), HasChildren: true}})
		p, ok := tree.Get(child)
		if !ok || p.Orphan == nil {
			t.Fatal("no orphan")
		}
		o := *p.Orphan
		o.Verdict, p.Orphan = wire.VerdictLeaked, &o
		f.News(&evidence.News{Process: &p, First: true})
		tasks[i] = event.Task{ID: child, RSS: 1 << 20}
	}
	f.Tick(now + uint64(2*time.Second))
	f.TakeEvents()
	f.SampleTasks(tasks, now)
	return f, now
}

const many = 10_000

// TestManyLeaks: of a thousand open leaks a list without members takes no more allocations for each
// than it has pointers, and a sample takes none.
func TestManyLeaks(t *testing.T) {
	const crowd = 1000
	f, now := openLeaks(t, crowd)
	var list []wire.Leak
	perLeak := testing.AllocsPerRun(1, func() { list = f.List(true, false) }) / crowd
	if len(list) != crowd || list[0].Members != nil || *list[crowd-1].RSSBytes != 1<<20 || list[0].Name == "" {
		t.Fatalf("%d leaks: %+v", len(list), list[0])
	}
	if perLeak > 8 {
		t.Errorf("%.1f allocations for each", perLeak)
	}
	if l := f.List(false, true)[0]; len(l.Members) != 1 || len(l.Evidence) != 0 {
		t.Errorf("with members: %+v", l)
	}
	tasks := make([]event.Task, 0, crowd)
	for _, id := range f.set.MemberIDs() {
		tasks = append(tasks, event.Task{ID: id, RSS: 2 << 20})
	}
	f.SampleTasks(tasks, now+uint64(time.Second))
	if n := testing.AllocsPerRun(1, func() { f.SampleTasks(tasks, now+uint64(2*time.Second)) }); n > crowd/100 {
		t.Errorf("a sample makes %.0f allocations", n)
	}
}

func BenchmarkList10000(b *testing.B) {
	f, _ := openLeaks(b, many)
	for b.Loop() {
		if n := len(f.List(true, false)); n != many {
			b.Fatal(n)
		}
	}
}

func BenchmarkEncode10000(b *testing.B) {
	f, _ := openLeaks(b, many)
	list := f.List(true, false)
	for b.Loop() {
		if err := json.NewEncoder(io.Discard).Encode(list); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecode10000(b *testing.B) {
	f, _ := openLeaks(b, many)
	text, err := json.Marshal(f.List(true, false))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(len(text)), "bytes")
	for b.Loop() {
		var list []wire.Leak
		if err := jsonv2.UnmarshalRead(bytes.NewReader(text), &list); err != nil {
			b.Fatal(err)
		}
	}
}
