// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"time"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// hasNews reports whether publishNews has anything to do.
func (t *Tracer) hasNews() bool {
	return t.leases.HasEnded() || t.evidence.HasNews()
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
	t.evidence.Judge(newsBatch)
	news := t.evidence.TakeJudged()
	if len(news) == 0 {
		return
	}
	t.justPublished = true
	if t.onOrphans != nil {
		var ids []event.ID
		for i := range news {
			ids = append(ids, news[i].Orphan.ID)
			for j := range news[i].Stranded {
				ids = append(ids, news[i].Stranded[j].ID)
			}
		}
		t.onOrphans(ids)
		t.yield()
	}
	for i := range news {
		t.publishOrphan(news[i].Orphan, news[i].Verdict, news[i].Evidence)
		for j := range news[i].Stranded {
			t.publishOrphan(&news[i].Stranded[j], news[i].Verdict, news[i].Evidence)
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
