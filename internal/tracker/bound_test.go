// SPDX-License-Identifier: Apache-2.0

package tracker

import (
	"testing"

	"github.com/abot-trace/abot-trace/internal/event"
)

// A feed applies a stream of forks and exits, each process under a new pid.
type feed struct {
	tree *Tree
	next uint64
	most int // nodes in use at once
}

func (f *feed) apply(e event.Event) {
	f.tree.Apply(&e)
	f.most = max(f.most, int(f.tree.count)-1-len(f.tree.free))
}

func (f *feed) fork(spawner event.ID) event.ID {
	f.next++
	id := event.ID{PID: int32(f.next%4_000_000 + 2), Start: f.next}
	f.apply(event.Event{Kind: event.KindFork, Subject: id, Time: f.next, Fork: event.Fork{Spawner: spawner, Caller: spawner}})
	return id
}

func (f *feed) exit(id event.ID) {
	f.apply(event.Event{Kind: event.KindExit, Subject: id, Time: f.next, Exit: event.Exit{Adopter: testInit}})
}

var testInit = event.ID{PID: 1, Start: 1}

// TestMemoryIsBounded runs the shapes that would make a tree that remembers the dead
// grow for ever. A shape makes a few living processes, many dead ones, again and again.
func TestMemoryIsBounded(t *testing.T) {
	const history, deep, rounds = 100, 300, 50
	chain := func(f *feed, from event.ID) []event.ID {
		line := []event.ID{from}
		for range deep {
			line = append(line, f.fork(line[len(line)-1]))
		}
		return line[1:]
	}
	for _, test := range []struct {
		name  string
		most  int // living and dead at once
		round func(f *feed, tip event.ID) event.ID
	}{
		{"children come and go", 1 + 2 + history, func(f *feed, tip event.ID) event.ID {
			for range deep {
				f.exit(f.fork(tip))
			}
			return tip
		}},
		{"fork, then exit, for ever", 2 + maxDeadLine + 2 + history, func(f *feed, tip event.ID) event.ID {
			for range deep {
				child := f.fork(tip)
				f.exit(tip)
				tip = child
			}
			return tip
		}},
		{"a chain dies from its leaf", 1 + deep + 1 + history, func(f *feed, tip event.ID) event.ID {
			line := chain(f, tip)
			for i := range line {
				f.exit(line[len(line)-1-i])
			}
			return tip
		}},
		{"a chain dies from its root", 1 + deep + 1 + maxDeadLine + history, func(f *feed, tip event.ID) event.ID {
			for _, id := range chain(f, tip) {
				f.exit(id)
			}
			return tip
		}},
		{"a chain dies upwards above its living leaf", 1 + deep + maxDeadLine + 2 + history, func(f *feed, tip event.ID) event.ID {
			line := append([]event.ID{tip}, chain(f, tip)...)
			last := line[len(line)-1]
			for i := len(line) - 2; i >= 0; i-- {
				f.exit(line[i])
			}
			return last
		}},
		{"each dead one leaves a dead child", 2 + 2*maxDeadLine + 3 + history, func(f *feed, tip event.ID) event.ID {
			for range deep {
				f.exit(f.fork(tip))
				child := f.fork(tip)
				f.exit(tip)
				tip = child
			}
			return tip
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			f := &feed{tree: New(history), next: 1}
			tip := f.fork(testInit)
			for range rounds {
				tip = test.round(f, tip)
			}
			check(t, f.tree)
			if f.most > test.most {
				t.Errorf("%d processes at once, want at most %d", f.most, test.most)
			}
			if !f.tree.Has(tip) || f.tree.Living() > 2 {
				t.Errorf("%d living, tip alive: %v", f.tree.Living(), f.tree.Has(tip))
			}
		})
	}
}

// TestCrowd lets many living processes drag a long line of dead ancestors each.
func TestCrowd(t *testing.T) {
	const lines, steps = 4000, 80
	f := &feed{tree: New(100), next: 1}
	tips := make([]event.ID, lines)
	for i := range tips {
		tips[i] = f.fork(testInit)
	}
	for range steps {
		for i, tip := range tips {
			tips[i] = f.fork(tip)
			f.exit(tip)
		}
	}
	if want := 1 + 2*lines + crowd + crowdedLine*lines + 100; f.most > want {
		t.Errorf("%d processes at once, want at most %d", f.most, want)
	}
	if f.tree.Living() != lines+1 {
		t.Errorf("%d living, want %d", f.tree.Living(), lines+1)
	}
}
