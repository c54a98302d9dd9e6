// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"time"

	"github.com/abot-trace/abot-trace/internal/boottime"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/evidence"
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
		t.opt.OnLeaseEnd(l)
	}
	t.yield()
	t.evidence.Judge(newsBatch)
	news := t.evidence.TakeNews()
	if len(news) == 0 {
		return
	}
	t.justPublished = true
	ids := make([]event.ID, 0, len(news))
	for i := range news {
		t.leaks.News(&news[i])
		if !news[i].Quiet {
			ids = append(ids, news[i].Process.ID)
		}
	}
	t.opt.OnOrphans(ids)
	t.yield()
	for i := range news {
		if !news[i].Quiet {
			t.publishOrphan(&news[i])
		}
	}
}

// UnitChanged has the orphans in a unit judged anew, whose state has changed. From any
// goroutine but the loop's.
func (t *Tracer) UnitChanged(unit string) { t.Post(func() { t.evidence.UnitChanged(unit) }) }

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

// publishOrphan tells of an orphan, or of another verdict on it.
func (t *Tracer) publishOrphan(n *evidence.News) {
	p := n.Process
	e := &wire.Event{Type: wire.TypeOrphan, ID: t.stream.OrphanEventID(p.ID), Process: t.conv.Process(p)}
	at := p.Orphan.Since
	if !n.First {
		e.Type, e.ID, at = wire.TypeVerdict, "", 0
		e.Verdict = &wire.VerdictChange{Previous: n.Previous, Reason: n.Reason}
	}
	t.publish(e, at)
}

// publishLeaks tells what has become of leaks, and returns when it is to be called again at
// the latest, CLOCK_BOOTTIME ns; 0 is any time.
func (t *Tracer) publishLeaks() uint64 {
	next := t.leaks.Tick(boottime.Now())
	for _, e := range t.leaks.TakeEvents() {
		t.publish(e, e.TimeNS)
	}
	return next
}
