// SPDX-License-Identifier: Apache-2.0

package tracker

import (
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/abot-trace/abot-trace/internal/event"
)

// TestAnyStream applies streams that no kernel would send. Whatever comes, the tree
// stays well formed and bounded, and a record applied again changes nothing.
func TestAnyStream(t *testing.T) {
	id := rapid.Custom(func(t *rapid.T) event.ID {
		return event.ID{PID: rapid.Int32Range(0, 9).Draw(t, "pid"), Start: rapid.Uint64Range(0, 6).Draw(t, "start")}
	})
	rapid.Check(t, func(t *rapid.T) {
		// A history too short for the stream forgets, and then cannot know a repetition.
		history := rapid.SampledFrom([]int{1, 3, 100}).Draw(t, "history")
		tree := New(history)
		var merge *Snapshot
		for range rapid.IntRange(1, 60).Draw(t, "records") {
			switch rapid.IntRange(0, 9).Draw(t, "step") {
			case 0:
				merge = tree.Begin(anyTasks(t, id), rapid.Uint64Range(0, 8).Draw(t, "began"))
			case 1:
				if merge != nil {
					merge.End()
					merge = nil
				}
			case 2:
				tree.ConfirmParent(id.Draw(t, "confirm"), rapid.Int32Range(0, 9).Draw(t, "ppid"))
			case 3:
				tree.SetVerdict(id.Draw(t, "verdict"), "leaked", false, nil)
			default:
				e := anyEvent(t, id)
				tree.Apply(&e)
				if history < 100 {
					break
				}
				once := dump(tree)
				if again := tree.Apply(&e); len(again) != 0 {
					t.Errorf("applied again, %+v made %+v", e, again)
				}
				if diff := gocmp.Diff(once, dump(tree), gocmp.AllowUnexported(event.ID{})); diff != "" {
					t.Errorf("applied again, %+v changed the tree:\n%s", e, diff)
				}
			}
			check(t, tree)
		}
	})
}

func anyTasks(t *rapid.T, id *rapid.Generator[event.ID]) []event.Task {
	pids := make(map[int32]bool)
	var tasks []event.Task
	for range rapid.IntRange(0, 8).Draw(t, "tasks") {
		task := event.Task{ID: id.Draw(t, "task"), Parent: id.Draw(t, "parent"),
			NSInit: rapid.Bool().Draw(t, "init"), Subreaper: rapid.Bool().Draw(t, "reaper"),
			Dead:   rapid.Bool().Draw(t, "dead"),
			Origin: event.Origin{Session: rapid.Int32Range(0, 2).Draw(t, "session")}}
		// A pass shows a pid once, and never 0.
		if task.ID.PID != 0 && !pids[task.ID.PID] {
			pids[task.ID.PID] = true
			tasks = append(tasks, task)
		}
	}
	return tasks
}

func anyEvent(t *rapid.T, id *rapid.Generator[event.ID]) event.Event {
	e := event.Event{
		Kind:    event.Kind(rapid.IntRange(int(event.KindFork), int(event.KindMove)+1).Draw(t, "kind")),
		Subject: id.Draw(t, "subject"),
		Ordinal: rapid.Uint32Range(1, 3).Draw(t, "ordinal"),
		Refused: rapid.Uint64Range(0, 3).Draw(t, "refused"),
		Comm:    event.MakeComm(rapid.SampledFrom([]string{"a", "b"}).Draw(t, "comm")),
	}
	e.Fork = event.Fork{Spawner: id.Draw(t, "spawner"), Caller: id.Draw(t, "caller"), Cgroup: uint64(e.Ordinal)}
	e.Exec = event.Exec{Filename: e.Comm.String(), Cgroup: uint64(e.Ordinal)}
	e.Exit = event.Exit{Status: 9, Adopter: id.Draw(t, "adopter"), NSEnds: rapid.Bool().Draw(t, "ends")}
	e.Signal = event.Signal{Signal: 9, Sender: id.Draw(t, "sender")}
	e.Fork.Moved = e.Ordinal == 2
	e.Move = event.Move{Cgroup: uint64(e.Ordinal)}
	e.Child = event.Child{Parent: id.Draw(t, "child of")}
	return e
}

// dump returns all that can be asked of a tree.
func dump(t *Tree) map[event.ID]Process {
	all := make(map[event.ID]Process)
	for _, r := range t.refs() {
		p := t.process(r)
		if p.Orphan != nil {
			o := *p.Orphan
			p.Orphan = &o
		}
		all[p.ID] = p
	}
	return all
}
