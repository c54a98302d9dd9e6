// SPDX-License-Identifier: Apache-2.0

// Package trace is the loop: it reads the ring, keeps the tree, heals gaps, and has each
// stage do its part, always in this order. No stage calls another back.
//
//	ring -> tracker: what changed -> stream: record, lines to readers
//	                 ^            -> lease: which ended
//	snapshot --------+            -> evidence: judge -> rules -> stream: orphan, kill
//	                              -> leakfeed: what each death left -> stream: leak
//
// One goroutine, that of Run, owns tree and stages. Everyone else asks it by Do, or
// reads events.
package trace

import (
	"context"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/abot-trace/abot-trace/internal/boottime"
	"github.com/abot-trace/abot-trace/internal/canary"
	"github.com/abot-trace/abot-trace/internal/describe"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/evidence"
	"github.com/abot-trace/abot-trace/internal/inbox"
	"github.com/abot-trace/abot-trace/internal/inspect"
	"github.com/abot-trace/abot-trace/internal/leakfeed"
	"github.com/abot-trace/abot-trace/internal/lease"
	"github.com/abot-trace/abot-trace/internal/past"
	"github.com/abot-trace/abot-trace/internal/procfs"
	"github.com/abot-trace/abot-trace/internal/stream"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// How the loop waits. After records came it looks again soon, because those that can
// wait are sent without a wake-up; when there were none it sleeps until woken, with a
// timer for safety, which is the longer, the longer nothing has happened: up to
// waitQuiet.
const (
	waitBusy  = 2 * time.Millisecond
	waitIdle  = 100 * time.Millisecond
	waitQuiet = time.Second
	readBatch = 1024
	newsBatch = 256 // new orphans that are judged and told together
	newsTime  = 10 * time.Millisecond
)

// The loop leaves the processors to others before it goes on with what can wait: to those
// who were told of an orphan, and before that to those who were sent a signal because of it.
const (
	readerYield    = 500 * time.Microsecond
	signalledYield = 150 * time.Microsecond
)

// resyncPause is the least time between two resyncs: a ring that overflows without
// end must not turn into snapshots without end.
const resyncPause = 200 * time.Millisecond

// Tracer keeps the tree. Make it with New, run it with Run.
type Tracer struct {
	*inspect.Inspector // answers what is asked about the tree
	*stream.Reader     // hands out what happens

	opt    Options // with every hook
	source Source
	tree   *tracker.Tree
	proc   procfs.FS
	last   uint64 // time of the record that was handled last
	wakeAt uint64 // what OnTick asked for

	names  *describe.Names
	conv   *describe.Converter
	stream *stream.Stream

	inbox         *inbox.Inbox
	ready         chan struct{} // closed when the first snapshot is merged
	synced        bool
	justPublished bool // of some, since the loop rested last
	yieldWanted   bool // somebody was signalled, who is to have the processors
	yieldedAt     time.Time
	afterYield    []func() // to be done when the loop has rested
	leases        *lease.Table
	leaks         *leakfeed.Feed
	evidence      *evidence.Gatherer

	recording *past.Recording // nil until Run, and without a recorder
	missing   wire.Lost       // not told yet
	offsetAt  time.Time       // when the wall clock was last asked
	drained   bool            // the last drain left nothing in the ring
	draining  bool            // news wait until it is done
	resyncWhy string
	resyncAt  time.Time
	canary    *canary.Canary
	stats     stats
}

// New returns a tracer that reads source.
func New(source Source, opt Options) *Tracer {
	t := &Tracer{
		opt:    opt.withDefaults(),
		source: source,
		tree:   tracker.New(opt.History),
		inbox:  inbox.New(source.Wake),
		ready:  make(chan struct{}),
	}
	t.tree.SetSelf(int32(os.Getpid()))
	t.leases = lease.NewTable(t.tree)
	t.Inspector = inspect.New(t, source)
	t.names = describe.NewNames(t.tree)
	t.conv = describe.NewConverter(t.names)
	t.stream = stream.New(t, t.conv)
	t.Reader = t.stream.Reader()
	t.evidence = evidence.New(evidence.Options{Tree: t.tree, Names: t.names, Leases: t.leases, Owners: opt.Owners,
		Post: t.Post, OnRead: opt.OnRead})
	t.leaks = leakfeed.New(leakfeed.Options{Tree: t.tree, Names: t.names, Conv: t.conv, Machine: t.stream.Machine(),
		Usage: source.Usage, Post: t.Post, KillMode: t.evidence.KillMode})
	t.canary = canary.New()
	t.stats.byType = make([]atomic.Uint64, len(wire.Types))
	return t
}

// Run reads the source until ctx ends. It returns nil then, and an error when the
// source fails.
func (t *Tracer) Run(ctx context.Context) error {
	defer func() {
		t.inbox.Close() // the source may be closed from here on
		t.stream.Close()
	}()
	defer context.AfterFunc(ctx, t.inbox.Wake)()
	if t.recording = past.Begin(t.opt.Recorder, t.tree, t.names, t.start, t.opt.Log); t.recording != nil {
		t.stream.KeepNotable(t.opt.Recorder.Told)
	}
	t.resyncWhy = "start"
	for rested := false; ctx.Err() == nil; {
		n := t.read()
		t.stream.FlushPaced(n)
		if t.justPublished && !rested {
			t.justPublished, rested = false, true
			if err := t.source.Wait(readerYield); err != nil {
				return err
			}
			continue
		}
		rested = false
		if now := boottime.Now(); n > 0 && now > t.last {
			t.opt.OnLag(time.Duration(now - t.last))
		}
		t.inbox.Run()
		t.tick()
		if n == readBatch {
			continue
		}
		if n == 0 {
			t.stream.FlushPaced(0) // a command, or what was due, may have read records
		}
		if err := t.source.Wait(t.waitTime(n > 0)); err != nil {
			return err
		}
	}
	return nil
}

// read applies at most readBatch records, and returns how many there were. With news among
// them it takes no longer than newsTime, or little more: other things are due.
func (t *Tracer) read() (n int) {
	for began := time.Now(); n < readBatch && time.Since(began) < newsTime; {
		got := t.source.Read(readBatch-n, t.handle)
		n += got
		if !t.hasNews() {
			break
		}
		t.publishNews()
	}
	return n
}

// waitTime is how long the loop may sleep.
func (t *Tracer) waitTime(busy bool) time.Duration {
	now := boottime.Now()
	d := waitIdle
	if now > t.last {
		d = min(max(time.Duration(now-t.last)/2, waitIdle), waitQuiet)
	}
	switch {
	case t.hasNews(), len(t.afterYield) > 0:
		return 0
	case t.evidence.Confirming():
		d = time.Millisecond
	case busy || t.resyncWhy != "":
		d = waitBusy
	}
	for _, at := range [...]uint64{t.wakeAt, t.evidence.NextLook()} {
		switch {
		case at == 0:
		case at <= now:
			return 0
		default:
			d = min(d, time.Duration(at-now))
		}
	}
	return d
}

// start is what a checkpoint of the record begins with.
func (t *Tracer) start() past.Start {
	return past.Start{EventIDs: t.stream.IDPrefix(), EventSeq: t.stream.Seq(), Names: t.names.Known()}
}

// tick does what is due apart from records.
func (t *Tracer) tick() {
	afterwards := t.afterYield
	t.afterYield, t.yieldWanted = nil, false
	for _, fn := range afterwards {
		fn()
	}
	if news := t.tree.NoteRefused(t.source.Refused()); news > 0 {
		t.lost(news, boottime.Now())
	}
	t.publishLost()
	now := time.Now()
	if now.Sub(t.offsetAt) > time.Second {
		t.conv.Refresh()
		t.offsetAt = now
	}
	t.names.SetNow(now)
	if t.resyncWhy != "" && now.Sub(t.resyncAt) >= resyncPause {
		t.resync()
	}
	if t.evidence.Confirming() {
		t.evidence.Confirm()
	}
	t.evidence.LookAgain()
	t.leases.Expire()
	t.canary.Tick(now)
	t.evidence.ReadNext()
	t.stats.note(t)
	t.publishNews()
	t.wakeAt = boottime.Earlier(t.opt.OnTick(), t.publishLeaks())
	lost, next := t.recording.Tick()
	if lost != nil {
		t.publish(&wire.Event{Type: wire.TypeLost, Lost: lost}, boottime.Now())
	}
	t.wakeAt = boottime.Earlier(t.wakeAt, next)
}

// Ready is closed when the first snapshot is in the tree. Records are not missed
// before: they wait.
func (t *Tracer) Ready() <-chan struct{} { return t.ready }

// handle applies one record.
func (t *Tracer) handle(e *event.Event) {
	t.stats.seen(e)
	t.last = e.Time
	for _, c := range t.tree.Apply(e) {
		t.change(&c)
	}
	switch {
	case e.Kind == event.KindMove:
		t.names.Moved(e.Subject, e.Move.Cgroup)
		t.evidence.Moved(e.Subject)
		t.recording.Survey(e.Subject)
	case e.Kind == event.KindFork && e.Fork.Moved:
		t.recording.Survey(e.Subject)
	}
	if t.hasNews() && !t.draining {
		t.source.StopReading()
	}
}

func (t *Tracer) change(c *tracker.Change) {
	switch c.Kind {
	case tracker.Orphaned, tracker.OrphanedAgain:
		t.evidence.Orphaned(c.ID)
	case tracker.Lost:
		t.lost(c.Records, c.Time)
	case tracker.Unseen:
		t.needResync("a child that only the kernel knew")
	case tracker.OOMKilled:
		t.oom(c)
	case tracker.Missed:
		t.evidence.MissedExec(c.ID)
	case tracker.Execed:
		t.evidence.ReadSoon(c.ID)
		if p := t.record(c); p != nil && p.Orphan != nil {
			t.evidence.Execed(c.ID)
		}
	default:
		t.record(c)
	}
}

// record hands on a lifecycle event, and takes note of those that mean more to the tracer
// itself. It returns the process, nil where the tree does not know it.
func (t *Tracer) record(c *tracker.Change) *tracker.Process {
	p := t.stream.Record(t.tree, c)
	if p == nil {
		return nil
	}
	switch c.Kind {
	case tracker.Forked:
		t.canary.ObserveFork(p)
		t.leaks.Forked(p)
	case tracker.Exited:
		t.leases.ObserveExit(p)
		t.leaks.Exited(p)
		if p.Orphan != nil {
			t.evidence.Exited(p.ID)
		}
	}
	return p
}

// publish hands on a notable event that happened at the CLOCK_BOOTTIME instant ns, 0 being
// now.
func (t *Tracer) publish(e *wire.Event, ns uint64) {
	t.stats.published(e.Type)
	t.stream.Publish(e, ns)
	t.opt.OnEvent(e)
}

// lost counts records that the ring had no room for. They are told once a look, not
// once a gap: a ring that overflows has a gap before most of its records.
func (t *Tracer) lost(records, since uint64) {
	if t.missing.Records == 0 {
		t.missing.SinceNS = since
	}
	t.missing.Records += records
	t.names.Forget()
}

// publishLost publishes what was lost since the last look, and asks for a resync.
func (t *Tracer) publishLost() {
	if t.missing.Records == 0 {
		return
	}
	lost := t.missing
	t.missing = wire.Lost{}
	t.publish(&wire.Event{Type: wire.TypeLost, Lost: &lost}, boottime.Now())
	t.needResync(fmt.Sprintf("%d records lost", lost.Records))
}

func (t *Tracer) needResync(why string) {
	if t.resyncWhy == "" {
		t.resyncWhy = why
	}
}

func (t *Tracer) oom(c *tracker.Change) {
	p, ok := t.tree.Get(c.ID)
	if !ok {
		return
	}
	e := &wire.Event{Type: wire.TypeOOM, OOM: &wire.OOM{RSSBytes: c.OOM.RSSBytes}, Process: t.conv.Process(&p)}
	e.OOM.Cgroup = e.Process.Cgroup
	t.publish(e, c.Time)
}
