// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"time"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// orphaned takes a direct orphan to be judged; those stranded with it wait for its
// verdict, which is theirs.
func (t *Tracer) orphaned(c *tracker.Change) {
	p, ok := t.tree.Get(c.ID)
	if !ok || p.Orphan == nil {
		return
	}
	if p.Orphan.Direct {
		t.stats.orphaned.Add(1)
		t.unconfirmed = append(t.unconfirmed, unconfirmed{id: p.ID})
		t.stranded[p.ID] = t.strandedBelow(p.ID)
		t.unjudged = append(t.unjudged, &p)
	}
}

// strandedBelow returns the orphans that were announced together with root.
func (t *Tracer) strandedBelow(root event.ID) []tracker.Process {
	var list []tracker.Process
	for id := range t.tree.Descendants(root) {
		if p, ok := t.tree.Get(id); ok && p.Orphan != nil && !p.Orphan.Direct && p.Orphan.Root == root {
			list = append(list, p)
		}
	}
	return list
}

// A judged orphan is one to be told of, with what was stranded with it: as they were when
// they became orphans.
type judged struct {
	orphan   *tracker.Process
	stranded []tracker.Process
	verdict  string
	evidence []string
}

// hasNews reports whether publishNews has anything to do.
func (t *Tracer) hasNews() bool {
	return t.leases.HasEnded() || len(t.unjudged) > 0 || len(t.judged) > 0
}

// publishNews has those act who are to act on ended leases and, once they are judged, on new
// orphans, and then tells of the orphans. Between two records, so that whoever acts can look at the ring.
func (t *Tracer) publishNews() {
	for _, l := range t.leases.TakeEnded() {
		if t.onLease != nil {
			t.onLease(l)
		}
	}
	t.yield()
	unjudged := t.unjudged[:min(len(t.unjudged), newsBatch)]
	t.unjudged = t.unjudged[len(unjudged):]
	for _, p := range unjudged {
		t.judge(p)
	}
	if len(t.judged) == 0 {
		return
	}
	news := t.judged
	t.judged, t.justPublished = nil, true
	if t.onOrphans != nil {
		var ids []event.ID
		for i := range news {
			ids = append(ids, news[i].orphan.ID)
			for j := range news[i].stranded {
				ids = append(ids, news[i].stranded[j].ID)
			}
		}
		t.onOrphans(ids)
		t.yield()
	}
	for i := range news {
		t.publishOrphan(news[i].orphan, news[i].verdict, news[i].evidence)
		for j := range news[i].stranded {
			t.publishOrphan(&news[i].stranded[j], news[i].verdict, news[i].evidence)
		}
	}
}

// YieldOnLoop leaves the processors to those who were just signalled, for a moment before
// anyone is told, and has then run on the loop when that is done. On the loop.
func (t *Tracer) YieldOnLoop(then func()) {
	t.yieldWanted = true
	t.afterYield = append(t.afterYield, then)
}

// yield rests where that was asked for, and never more than half of the time.
func (t *Tracer) yield() {
	if !t.yieldWanted {
		return
	}
	t.yieldWanted = false
	if now := time.Now(); now.Sub(t.yieldedAt) >= 2*signalledYield {
		t.yieldedAt = now
		_ = t.source.Wait(signalledYield) // an error comes again when the loop waits
	}
}

// publishOrphan tells of an orphan that was so when it became one.
func (t *Tracer) publishOrphan(was *tracker.Process, verdict string, evidence []string) {
	p, ok := t.tree.Get(was.ID)
	if !ok || p.Orphan == nil {
		orphan := *was.Orphan
		orphan.Verdict, orphan.Evidence = verdict, evidence
		p = *was
		p.Dead, p.Orphan = true, &orphan
	}
	t.publish(&wire.Event{Type: wire.TypeOrphan, ID: t.stream.OrphanEventID(p.ID), Process: t.conv.Process(&p)}, p.Orphan.Since)
}
