// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"context"
	"time"

	"github.com/abot-trace/abot-trace/internal/boottime"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// A TreeSnapshot is the tree at one instant, for those who draw it.
type TreeSnapshot struct {
	snapshot *snapshot
	views    *views
}

// TreeSnapshot looks at every living process and the dead ones that their lineage needs. From
// any goroutine.
func (t *Tracer) TreeSnapshot(ctx context.Context) (*TreeSnapshot, error) {
	look, err := t.takeSnapshot(ctx)
	if err != nil {
		return nil, err
	}
	return &TreeSnapshot{look, &t.drawingViews}, nil
}

// Time is when the tree was copied.
func (g *TreeSnapshot) Time() time.Time { return g.snapshot.time }

// Complete reports whether every lineage was observed.
func (g *TreeSnapshot) Complete() bool { return g.snapshot.complete }

// Len returns the number of processes.
func (g *TreeSnapshot) Len() int { return len(g.snapshot.order) }

// Each calls fn with every process, the oldest first: with what a drawing shows of it but
// for the memory, as it reads in JSON. What fn gets is good until it returns. It is to be
// brief: others wait.
func (g *TreeSnapshot) Each(fn func(*wire.Process)) {
	g.views.mu.Lock()
	defer g.views.mu.Unlock()
	g.views.conv.offset = boottime.Offset()
	var r processScratch
	for _, place := range g.snapshot.order {
		fn(g.views.conv.fill(&r, &g.snapshot.all[place.at]))
	}
}

// EachMemory calls fn with what the processes hold, in bytes, by their places in the order
// of Each. It waits for the kernel, which may not tell of all.
func (g *TreeSnapshot) EachMemory(fn func(i int, rss, swap uint64)) error {
	usage, err := g.snapshot.usage()
	if err != nil {
		return err
	}
	for i, place := range g.snapshot.order {
		if g.snapshot.all[place.at].Dead {
			continue
		}
		if u, ok := usage(place.id); ok {
			fn(i, u.RSS, u.Swap)
		}
	}
	return nil
}
