// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"cmp"
	"context"
	"slices"

	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// pastEvents is a part of what is remembered of the stream.
type pastEvents struct {
	events  []*wire.Event
	records []record
}

// past copies what is remembered of the types named since the CLOCK_BOOTTIME instant. On
// the loop.
func (t *Tracer) past(want typeSet, since uint64) (p pastEvents) {
	t.notable.all(func(e **wire.Event) {
		if want.has((*e).Type) && (*e).TimeNS >= since {
			p.events = append(p.events, *e)
		}
	})
	t.lifecycle.all(func(r *record) {
		if want.has(lifecycleTypes[r.kind]) && r.time >= since {
			p.records = append(p.records, *r)
		}
	})
	return p
}

// buildEvents makes the events, in order.
func (t *Tracer) buildEvents(p pastEvents) []*wire.Event {
	t.valuesMu.Lock()
	defer t.valuesMu.Unlock()
	t.values.Refresh()
	for i := range p.records {
		p.events = append(p.events, t.expand(&p.records[i], t.values))
	}
	slices.SortFunc(p.events, func(a, b *wire.Event) int { return cmp.Compare(a.Seq, b.Seq) })
	return p.events
}

// Recent returns what is remembered of the stream: events of the types named (all,
// when there are none) that happened at the CLOCK_BOOTTIME instant since or later.
// From any goroutine.
func (t *Tracer) Recent(ctx context.Context, types []string, since uint64) ([]*wire.Event, error) {
	var past pastEvents
	if err := t.Do(ctx, func(*tracker.Tree) { past = t.past(newTypeSet(types), since) }); err != nil {
		return nil, err
	}
	return t.buildEvents(past), nil
}
