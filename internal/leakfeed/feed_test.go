// SPDX-License-Identifier: Apache-2.0

package leakfeed

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/boottime"
	"github.com/abot-trace/abot-trace/internal/container"
	"github.com/abot-trace/abot-trace/internal/describe"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/evidence"
	"github.com/abot-trace/abot-trace/internal/fingerprint"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// leakOfTwo is a feed of a tree in which a parent was killed and left two children, both
// judged leaked, now.
func leakOfTwo(t *testing.T) (f *Feed, tree *tracker.Tree, children [2]event.ID, now uint64) {
	t.Helper()
	tree = tracker.New(16)
	names := describe.NewNames(tree)
	f = New(Options{Tree: tree, Names: names, Conv: describe.NewConverter(names), Machine: "m",
		Usage: func() ([]event.Task, error) { return nil, nil }, Post: func(func()) {}})
	now = boottime.Now()
	parent := event.ID{PID: 1 << 23, Start: now - 100}
	tree.Apply(&event.Event{Kind: event.KindFork, Subject: parent, Time: parent.Start})
	for i := range children {
		children[i] = event.ID{PID: parent.PID + 1 + int32(i), Start: now - 50 + uint64(i)}
		tree.Apply(&event.Event{Kind: event.KindFork, Subject: children[i], Time: children[i].Start, Fork: event.Fork{Spawner: parent, Caller: parent}})
	}
	tree.Apply(&event.Event{Kind: event.KindExit, Subject: parent, Time: now, Exit: event.Exit{Status: event.Status(unix.SIGKILL), HasChildren: true}})
	for _, id := range children {
		f.News(newsOf(t, tree, id, wire.VerdictLeaked))
	}
	return f, tree, children, now
}

func newsOf(t *testing.T, tree *tracker.Tree, id event.ID, verdict string) *evidence.News {
	t.Helper()
	p, ok := tree.Get(id)
	if !ok || p.Orphan == nil {
		t.Fatalf("%v is no orphan", id)
	}
	o := *p.Orphan
	o.Verdict, o.Provisional = verdict, false
	p.Orphan = &o
	return &evidence.News{Process: &p, First: true}
}

// TestFeed follows a leak from two verdicts to its end: one opening, of both, and one end.
func TestFeed(t *testing.T) {
	f, tree, children, now := leakOfTwo(t)
	if events := f.TakeEvents(); len(events) != 0 {
		t.Errorf("told at once: %+v", events)
	}
	f.Tick(now + uint64(time.Second))
	events := f.TakeEvents()
	if len(events) != 1 || events[0].Leak.Change != wire.LeakOpened || events[0].Leak.Processes.Now != 2 || len(events[0].Leak.Members) != 2 {
		t.Fatalf("opened: %+v", events)
	}
	id := events[0].Leak.ID
	if of, ok := f.Of(children[0]); !ok || of != id {
		t.Errorf("%v belongs to %q, want %s", children[0], of, id)
	}
	if p, _ := tree.Get(children[1]); p.Orphan.Leak != id {
		t.Errorf("the tree says %q", p.Orphan.Leak)
	}
	f.SampleTasks([]event.Task{{ID: children[0], RSS: 1 << 20}, {ID: children[1], RSS: 2 << 20, Swap: 1 << 20}}, now+uint64(2*time.Second))
	if held, ok := f.Held(id); !ok || held.RSS+held.Swap != 4<<20 || !held.Sampled || held.Pending {
		t.Errorf("held: %+v, %v", held, ok)
	}
	for _, child := range children {
		tree.Apply(&event.Event{Kind: event.KindExit, Subject: child, Time: now + uint64(3*time.Second), Exit: event.Exit{Status: event.Status(unix.SIGTERM)}})
		p, _ := tree.Get(child)
		f.Exited(&p)
	}
	f.Tick(now + uint64(4*time.Second))
	events = f.TakeEvents()
	if len(events) != 1 || events[0].Leak.Remedy == nil || events[0].Leak.Change != wire.LeakEnded || events[0].Leak.EndedBy != "signal" || *events[0].Leak.PeakBytes != 4<<20 {
		t.Errorf("ended: %+v", events)
	}
	if _, ok := f.Held(id); ok {
		t.Error("it is held after its end")
	}
	// What its members were is told by the remedy, though they are gone.
	if l := f.Get(id); l.Remedy == nil || l.Remedy.Kind != "pool" || len(l.Members) != 0 {
		t.Errorf("remedy: %+v", l.Remedy)
	}
}

// TestNewsOfTheDead: verdicts that were found before their processes died are taken after that.
// They make no member of the dead, be it the first verdict or another.
func TestNewsOfTheDead(t *testing.T) {
	f, tree, children, now := leakOfTwo(t)
	id := event.ID{PID: children[1].PID + 1, Start: now + 1}
	tree.Apply(&event.Event{Kind: event.KindFork, Subject: id, Time: id.Start, Fork: event.Fork{Spawner: children[0], Caller: children[0]}})
	p, _ := tree.Get(id)
	f.Forked(&p)
	again := newsOf(t, tree, children[1], wire.VerdictUnknown)
	again.First = false
	for _, child := range children {
		tree.Apply(&event.Event{Kind: event.KindExit, Subject: child, Time: now + 2, Exit: event.Exit{Status: event.Status(unix.SIGTERM), HasChildren: child == children[0]}})
		p, _ := tree.Get(child)
		f.Exited(&p)
	}
	f.News(again)
	first := newsOf(t, tree, id, wire.VerdictLeaked)
	tree.Apply(&event.Event{Kind: event.KindExit, Subject: id, Time: now + 3, Exit: event.Exit{Status: event.Status(unix.SIGTERM)}})
	p, _ = tree.Get(id)
	f.Exited(&p)
	f.News(first)
	f.Tick(now + uint64(4*time.Second))
	events := f.TakeEvents()
	if len(events) != 2 || events[1].Leak.Change != wire.LeakEnded || events[1].Leak.Processes != (wire.LeakCount{Now: 0, Peak: 3, Total: 3}) {
		for _, e := range events {
			t.Errorf("told: %+v", e.Leak)
		}
	}
}

// TestDeepChain has an orphan with a chain of thousands below it join its leak with all of them.
func TestDeepChain(t *testing.T) {
	const depth = 20_000
	f, tree, children, now := leakOfTwo(t)
	last := children[0]
	for i := range int32(depth) {
		id := event.ID{PID: 1<<23 + 10 + i, Start: now + 1 + uint64(i)}
		tree.Apply(&event.Event{Kind: event.KindFork, Subject: id, Time: id.Start, Fork: event.Fork{Spawner: last, Caller: last}})
		last = id
	}
	f.News(newsOf(t, tree, children[0], wire.VerdictLeaked))
	f.Tick(now + uint64(time.Second))
	if events := f.TakeEvents(); len(events) != 1 || events[0].Leak.Processes.Now != depth+2 {
		t.Fatalf("opened: %+v", events)
	}
}

// TestKillIsToldBehind: a kill cuts the gathering short, and says of which leak it is.
func TestKillIsToldBehind(t *testing.T) {
	f, _, children, now := leakOfTwo(t)
	id, _ := f.Of(children[0])
	if held, ok := f.Held(id); !ok || held.Processes != 2 {
		t.Errorf("before anybody was told: %+v, %v", held, ok)
	}
	f.Kill("k1", "rule", children[:])
	f.Tick(now + 1)
	events := f.TakeEvents()
	if len(events) != 1 || events[0].Leak.Change != wire.LeakOpened || events[0].Leak.ID != id {
		t.Fatalf("opened: %+v", events)
	}
	var kill wire.Kill
	f.AddTo(&kill, id)
	if kill.Leak != id || kill.Fingerprint == "" || kill.Fingerprint != events[0].Leak.Fingerprint || kill.Name != events[0].Leak.Name {
		t.Errorf("%+v", kill)
	}
}

// TestCaseOfAContainer: leaks of one image, or of one workload, are one case, whatever the
// containers' scopes and the replicas are called.
func TestCaseOfAContainer(t *testing.T) {
	l := &tracker.Leaker{Filename: "/usr/bin/python3", Cmdline: "python3\x00app.py\x00"}
	pod := func(name string) container.Info {
		return container.Info{Image: "shop/cart:1", Pod: container.Pod{Namespace: "shop", Name: name}}
	}
	of := func(unit string, in container.Info) string { return fingerprint.Of(caseOf(l, unit, in)).ID }
	for _, tt := range []struct {
		name string
		a, b string
		same bool
	}{
		{"two containers of one image", of("docker-aaaa.scope", container.Info{Image: "shop/cart:1"}), of("docker-bbbb.scope", container.Info{Image: "shop/cart:2"}), true},
		{"two images", of("x.scope", container.Info{Image: "shop/cart"}), of("x.scope", container.Info{Image: "shop/till"}), false},
		{"two replicas", of("a.scope", pod("cart-7d9f8b6c5d-x2x9k")), of("b.scope", pod("cart-66c4d8b9f7-bbbbb")), true},
		{"two workloads of one image", of("a.scope", pod("cart-0")), of("a.scope", pod("till-0")), false},
		{"no container", of("cart.service", container.Info{}), of("till.service", container.Info{}), false},
	} {
		if same := tt.a == tt.b; same != tt.same {
			t.Errorf("%s: the same: %v", tt.name, same)
		}
	}
}
