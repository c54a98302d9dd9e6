// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"context"
	"time"

	"github.com/abot-trace/abot-trace/internal/wire"
)

// A Glance is the tree at one instant, for those who draw it.
type Glance struct {
	look  *look
	views *views
}

// Glance looks at every living process and the dead ones that their lineage needs. From
// any goroutine.
func (t *Tracer) Glance(ctx context.Context) (*Glance, error) {
	look, err := t.look(ctx)
	if err != nil {
		return nil, err
	}
	return &Glance{look, &t.glances}, nil
}

// Time is when the tree was copied.
func (g *Glance) Time() time.Time { return g.look.time }

// Complete reports whether every lineage was observed.
func (g *Glance) Complete() bool { return g.look.complete }

// Len returns the number of processes.
func (g *Glance) Len() int { return len(g.look.order) }

// Each calls fn with every process, the oldest first: with what a drawing shows of it but
// for the memory, as it reads in JSON. What fn gets is good until it returns. It is to be
// brief: others wait.
func (g *Glance) Each(fn func(*wire.Process)) {
	g.views.mu.Lock()
	defer g.views.mu.Unlock()
	g.views.conv.offset = bootOffset()
	var r room
	for _, place := range g.look.order {
		fn(g.views.conv.fill(&r, &g.look.all[place.at]))
	}
}

// EachMemory calls fn with what the processes hold, in bytes, by their places in the order
// of Each. It waits for the kernel, which may not tell of all.
func (g *Glance) EachMemory(fn func(i int, rss, swap uint64)) error {
	usage, err := g.look.usage()
	if err != nil {
		return err
	}
	for i, place := range g.look.order {
		if g.look.all[place.at].Dead {
			continue
		}
		if u, ok := usage(place.id); ok {
			fn(i, u.RSS, u.Swap)
		}
	}
	return nil
}
