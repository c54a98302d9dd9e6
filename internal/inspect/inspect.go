// SPDX-License-Identifier: Apache-2.0

// Package inspect answers what people and programs ask about the tree as it stands now:
// all of it, its orphans, one process, each with what it uses. The loop only copies;
// what is copied is described on the asker's goroutine.
package inspect

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/abot-trace/abot-trace/internal/describe"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/procfs"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// A Loop owns the tree.
type Loop interface {
	// Do runs fn on the loop and waits for it.
	Do(ctx context.Context, fn func(*tracker.Tree)) error
	// Living is how many processes live, about; from any goroutine.
	Living() int
}

// A Meter tells what all processes use now; from any goroutine.
type Meter interface {
	Usage() ([]event.Task, error)
}

// An Inspector answers. Its methods are safe for concurrent use, and are not to be called
// on the loop.
type Inspector struct {
	loop Loop
	// usage finds out what processes use, and says false of whom it does not know.
	usage func() (func(event.ID) (describe.Use, bool), error)
	now   func() time.Time
	host  string
	past  bool // procfs tells nothing of those who lived then
	proc  procfs.FS
	// values converts for JSON, drawings for what is drawn.
	values, drawings converter
}

// A converter is shared by all who ask.
type converter struct {
	mu sync.Mutex
	*describe.Converter
}

// New returns an inspector of the loop's tree.
func New(loop Loop, meter Meter) *Inspector {
	host, _ := os.Hostname()
	return &Inspector{
		loop:     loop,
		usage:    func() (func(event.ID) (describe.Use, bool), error) { return usage(meter) },
		now:      time.Now,
		host:     host,
		values:   converter{Converter: describe.NewConverter(describe.NewNames(nil))},
		drawings: converter{Converter: describe.NewDrawing(describe.NewNames(nil))},
	}
}

// lock takes the converter, and returns what gives it back.
func (c *converter) lock() (unlock func()) {
	c.mu.Lock()
	c.Refresh()
	return c.mu.Unlock
}

// Tree returns every living process and the dead ones that their lineage needs, with
// the memory that each uses now, and those of [wire.Facts] that are named.
func (n *Inspector) Tree(ctx context.Context, facts ...string) (*wire.Tree, error) {
	snapshot, err := n.takeSnapshot(ctx)
	if err != nil {
		return nil, err
	}
	doc := &wire.Tree{Schema: wire.Schema, Host: n.host, Time: snapshot.time, Complete: snapshot.complete,
		Processes: make([]wire.Process, 0, len(snapshot.all))}
	usage, err := snapshot.usage()
	if err != nil {
		return nil, err
	}
	totals := sync.OnceValue(func() *describe.Totals { return describe.NewTotals(snapshot.lineage(), usage) })
	scratches := make([]describe.Scratch, len(snapshot.all))
	defer n.values.lock()()
	for _, entry := range snapshot.order {
		p := &snapshot.all[entry.at]
		w := n.values.FillUsing(&scratches[entry.at], p, usage)
		if w.Orphan != nil && !p.Dead {
			w.Orphan.Tree = totals().Sum(p.ID)
		}
		doc.Processes = append(doc.Processes, *w)
	}
	n.addFacts(doc.Processes, facts)
	return doc, nil
}

// Orphans returns the living orphans, with what they and their trees use now, and those of
// [wire.Facts] that are named.
func (n *Inspector) Orphans(ctx context.Context, facts ...string) ([]wire.Process, error) {
	usage, err := n.usage()
	if err != nil {
		return nil, err
	}
	list, err := n.OrphansUsing(ctx, usage)
	n.addFacts(list, facts)
	return list, err
}

// OrphansUsing returns the living orphans, with what usage says that they and their
// trees use; it says false of whom it does not know. Usage is called on the caller's
// goroutine.
func (n *Inspector) OrphansUsing(ctx context.Context, usage func(event.ID) (describe.Use, bool)) ([]wire.Process, error) {
	var orphans []tracker.Process
	var all []describe.Node
	err := n.loop.Do(ctx, func(tree *tracker.Tree) {
		if tree.Orphans() == 0 {
			return
		}
		all = make([]describe.Node, 0, tree.Living())
		for p := range tree.All(false) {
			all = append(all, describe.Node{ID: p.ID, Spawner: p.Spawner, Dead: p.Dead})
			if p.Orphan != nil && !p.Dead {
				orphans = append(orphans, copyOf(p))
			}
		}
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(orphans, func(a, b tracker.Process) int { return byAge(a.ID, b.ID) })
	totals := describe.NewTotals(all, usage)
	list := make([]wire.Process, 0, len(orphans))
	defer n.values.lock()()
	for i := range orphans {
		w := n.values.FillUsing(new(describe.Scratch), &orphans[i], usage)
		w.Orphan.Tree = totals.Sum(orphans[i].ID)
		list = append(list, *w)
	}
	return list, nil
}

// ErrNoProcess is returned for a pid that nothing is known of.
var ErrNoProcess = errors.New("no such process")

// Process returns the living process with that pid, or else the last one that died
// with it.
func (n *Inspector) Process(ctx context.Context, pid int32) (*wire.Process, error) {
	var p tracker.Process
	var ok bool
	err := n.loop.Do(ctx, func(tree *tracker.Tree) {
		id, living := tree.Lookup(pid)
		if !living {
			id, _ = tree.LastDead(pid)
		}
		if p, ok = tree.Get(id); ok {
			p = copyOf(p)
		}
	})
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, fmt.Errorf("%w: %d", ErrNoProcess, pid)
	}
	usage, err := n.usage()
	if err != nil {
		return nil, err
	}
	defer n.values.lock()()
	return n.values.FillUsing(new(describe.Scratch), &p, usage), nil
}

// usage asks the kernel what every process uses now.
func usage(meter Meter) (func(event.ID) (describe.Use, bool), error) {
	tasks, err := meter.Usage()
	if err != nil {
		return nil, err
	}
	tasks, places := procfs.FS{}.AddMissingParents(tasks)
	return func(id event.ID) (describe.Use, bool) {
		i, ok := places[id]
		if !ok {
			return describe.Use{}, false
		}
		task := &tasks[i]
		return describe.Use{RSS: task.RSS, Swap: task.Swap, Threads: task.Threads, CPU: time.Duration(task.CPU)}, true
	}, nil
}
