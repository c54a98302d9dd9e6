// SPDX-License-Identifier: Apache-2.0

// Package trace joins the probe and the tracker: it owns the loop that reads the
// ring, keeps the tree, judges orphans as they are made, heals gaps, and hands the
// stream to whoever subscribes.
//
//	ring -> Apply -> change -> judge -> record -> subscribers
//	          ^                  |
//	snapshot -+                  +-> slow questions (environment, service manager)
//
// One goroutine, that of Run, owns tree and names. Everyone else asks it by Do, or
// reads events.
package trace

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/procfs"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// A Source delivers the kernel's records: the probe, or a test's own.
type Source interface {
	// Read hands at most limit waiting records to fn and returns how many there were.
	Read(limit int, fn func(*event.Event)) int
	// Enough ends the call of Read that is under way, after the record at hand. Only fn
	// calls it.
	Enough()
	// Wait blocks until there is something to read, Wake is called, or d has passed.
	Wait(d time.Duration) error
	// Wake ends a Wait; it may be called from any goroutine.
	Wake()
	// Tasks returns all processes as the kernel has them now; from any goroutine.
	Tasks() ([]event.Task, error)
	// Refused is how many records were lost for want of room, ever.
	Refused() uint64
	// Pending is how many bytes of records wait to be read. Where there are some and
	// Read delivers none, the first is still being written.
	Pending() uint64
	// Mark is where the reader stands in the stream, between two reads.
	Mark() uint64
	// Untouched reports whether no record was begun since the reader stood at the mark;
	// from any goroutine.
	Untouched(mark uint64) bool
}

// How the loop waits. After records came it looks again soon, because those that can
// wait are sent without a wake-up; when there were none it sleeps until woken, with a
// timer for safety, which is the longer, the longer nothing has happened: up to
// waitQuiet.
const (
	waitBusy   = 2 * time.Millisecond
	waitIdle   = 100 * time.Millisecond
	waitQuiet  = time.Second
	readBatch  = 1024
	maxCommand = 64
)

// What is remembered of the stream.
const (
	recentLifecycle = 4096 // forks, execs, exits, fatal signals
	recentNotable   = 4096 // everything else
)

// resyncPause is the least time between two resyncs: a ring that overflows without
// end must not turn into snapshots without end.
const resyncPause = 200 * time.Millisecond

// Options of New.
type Options struct {
	// History is how many dead processes without living descendants are remembered;
	// 0 is the tracker's default.
	History int
	// Owners is asked about units; nil where there is no service manager.
	Owners Owners
	// Log gets the tracer's own troubles; nil is slog.Default.
	Log *slog.Logger
	// OnOrphans is called on the loop with orphans that were just judged, before anyone is
	// told of them: whoever is to end them is not to wait for that. It must not block.
	OnOrphans func([]event.ID)
	// OnEvent is called on the loop for each notable event (orphan, oom, lost,
	// resync, and what Publish adds), after subscribers were given it. It must not block.
	OnEvent func(*wire.Event)
	// OnTick is called on the loop after each look at the ring. It returns when it
	// wants to be called again at the latest, in CLOCK_BOOTTIME ns; 0 is any time. It
	// must not block.
	OnTick func() uint64
	// OnLag is called on the loop after each batch of records, with the time from the
	// last one's making to its handling. It must not block.
	OnLag func(time.Duration)
	// OnLeaseEnd is called on the loop when the holder of a lease has died, before
	// OnOrphans is for its descendants: the lease is the judgement. It must not block.
	OnLeaseEnd func(Lease)
}

// Tracer keeps the tree. Make it with New, run it with Run.
type Tracer struct {
	source    Source
	tree      *tracker.Tree
	proc      procfs.FS
	owners    Owners
	log       *slog.Logger
	onOrphans func([]event.ID)
	onEvent   func(*wire.Event)
	onTick    func() uint64
	onLease   func(Lease)
	onLag     func(time.Duration)
	last      uint64 // time of the record that was handled last
	wakeAt    uint64 // what onTick asked for

	names *resolver
	conv  converter
	desk  desk
	views views

	hub       hub
	lifecycle recent[record]
	notable   recent[*wire.Event]
	seq       uint64
	idPrefix  string

	waking sync.RWMutex
	deaf   bool // Run has ended, under waking

	commands chan func()
	ready    chan struct{} // closed when the first snapshot is merged
	synced   bool
	done     chan struct{}
	slow     slow
	blocked  atomic.Int32                   // reads that slow began and that have not ended
	stranded map[event.ID][]tracker.Process // by the direct orphan that is being judged
	unjudged []*tracker.Process             // direct orphans whose facts were not looked at yet
	judged   []judged                       // orphans that nobody was told of yet
	unproven []unproven                     // adopters to confirm
	leases   leases

	missing   wire.Lost // not told yet
	offsetAt  time.Time // when the wall clock was last asked
	drained   bool      // the last drain left nothing in the ring
	draining  bool      // news wait until it is done
	resyncWhy string
	resyncAt  time.Time
	fill      filler
	canary    canary
	stats     stats
}

// A record is one lifecycle event, kept in short until somebody asks for it.
type record struct {
	seq     uint64
	time    uint64
	kind    tracker.ChangeKind
	process tracker.Process
	signal  event.Signal
}

// New returns a tracer that reads source.
func New(source Source, opt Options) *Tracer {
	t := &Tracer{
		source:    source,
		tree:      tracker.New(opt.History),
		owners:    opt.Owners,
		log:       opt.Log,
		onOrphans: opt.OnOrphans,
		onEvent:   opt.OnEvent,
		onTick:    opt.OnTick,
		onLease:   opt.OnLeaseEnd,
		onLag:     opt.OnLag,
		conv:      newConverter(),
		lifecycle: newRecent[record](recentLifecycle),
		notable:   newRecent[*wire.Event](recentNotable),
		idPrefix:  eventIDPrefix(),
		commands:  make(chan func(), maxCommand),
		ready:     make(chan struct{}),
		done:      make(chan struct{}),
		stranded:  make(map[event.ID][]tracker.Process),
	}
	if t.log == nil {
		t.log = slog.Default()
	}
	t.names, t.conv.offset = t.conv.names, bootOffset()
	t.views.conv = newConverter()
	t.canary.init()
	t.fill.init()
	return t
}

// eventIDPrefix makes event ids unique: machine, boot, and this start.
func eventIDPrefix() string {
	short := func(path string) string {
		b, err := os.ReadFile(path)
		if err != nil || len(b) < 8 {
			return "00000000"
		}
		return string(b[:8])
	}
	return fmt.Sprintf("%s-%s-%x", short("/etc/machine-id"), short("/proc/sys/kernel/random/boot_id"), BootNow()/1e6)
}

// ErrStopped is returned by what needs a running tracer.
var ErrStopped = errors.New("the tracer has stopped")

// Run reads the source until ctx ends. It returns nil then, and an error when the
// source fails.
func (t *Tracer) Run(ctx context.Context) error {
	defer func() {
		close(t.done)
		t.hub.close()
		// The source may be closed from here on.
		t.waking.Lock()
		t.deaf = true
		t.waking.Unlock()
	}()
	defer context.AfterFunc(ctx, t.wake)()
	t.resyncWhy = "start"
	for ctx.Err() == nil {
		n := t.read()
		t.hub.flush()
		if now := BootNow(); n > 0 && t.onLag != nil && now > t.last {
			t.onLag(time.Duration(now - t.last))
		}
		t.runCommands()
		t.tick()
		if n == readBatch {
			continue
		}
		if err := t.source.Wait(t.nap(n > 0)); err != nil {
			return err
		}
	}
	return nil
}

// read applies at most readBatch records, and returns how many there were.
func (t *Tracer) read() (n int) {
	for n < readBatch {
		got := t.source.Read(readBatch-n, t.handle)
		n += got
		if !t.hasNews() {
			break
		}
		t.tellNews()
	}
	return n
}

// nap is how long the loop may sleep.
func (t *Tracer) nap(busy bool) time.Duration {
	now := BootNow()
	d := waitIdle
	if now > t.last {
		d = min(max(time.Duration(now-t.last)/2, waitIdle), waitQuiet)
	}
	switch {
	case t.hasNews():
		return 0
	case len(t.unproven) > 0:
		d = time.Millisecond
	case busy || t.resyncWhy != "":
		d = waitBusy
	}
	if t.wakeAt == 0 {
		return d
	}
	if t.wakeAt <= now {
		return 0
	}
	return min(d, time.Duration(t.wakeAt-now))
}

func (t *Tracer) runCommands() {
	for {
		select {
		case fn := <-t.commands:
			fn()
		default:
			return
		}
	}
}

// tick does what is due apart from records.
func (t *Tracer) tick() {
	if news := t.tree.NoteRefused(t.source.Refused()); news > 0 {
		t.lost(news, BootNow())
	}
	t.tellLost()
	now := time.Now()
	if now.Sub(t.offsetAt) > time.Second {
		t.conv.offset, t.offsetAt = bootOffset(), now
	}
	if t.resyncWhy != "" && now.Sub(t.resyncAt) >= resyncPause {
		t.resync()
	}
	if len(t.unproven) > 0 {
		t.confirm()
	}
	t.expireLeases()
	t.canary.tick(now)
	t.fill.tick(t)
	t.stats.note(t)
	t.tellNews()
	if t.onTick != nil {
		t.wakeAt = t.onTick()
	}
}

// wake ends the loop's sleep; from any goroutine.
func (t *Tracer) wake() {
	t.waking.RLock()
	defer t.waking.RUnlock()
	if !t.deaf {
		t.source.Wake()
	}
}

// TreeHere returns the tree, for callers on the loop.
func (t *Tracer) TreeHere() *tracker.Tree { return t.tree }

// IDPrefix is what the ids of this start's events and kills begin with.
func (t *Tracer) IDPrefix() string { return t.idPrefix }

// Post runs fn on the loop, some time; from any goroutine but the loop's.
func (t *Tracer) Post(fn func()) { t.post(fn) }

// post runs fn on the loop, some time; from any goroutine but the loop's.
func (t *Tracer) post(fn func()) {
	select {
	case t.commands <- fn:
		t.wake()
	case <-t.done:
	}
}

// Do runs fn on the loop and waits for it. fn owns the tree while it runs, and is to
// be brief: nothing is read meanwhile.
func (t *Tracer) Do(ctx context.Context, fn func(*tracker.Tree)) error {
	finished := make(chan struct{})
	run := func() {
		defer close(finished)
		fn(t.tree)
	}
	select {
	case t.commands <- run:
		t.wake()
	case <-t.done:
		return ErrStopped
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-finished:
		return nil
	case <-t.done:
		return ErrStopped
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Fresh is Do after everything that has happened before the call was applied: what fn
// sees holds every fork, exec and exit that was over by then.
func (t *Tracer) Fresh(ctx context.Context, fn func(*tracker.Tree)) error {
	return t.Do(ctx, func(tree *tracker.Tree) {
		t.drain()
		fn(tree)
	})
}

// drain applies what the ring holds. Whoever writes a record can be interrupted in it,
// and those behind it must wait then: that is given a moment.
func (t *Tracer) drain() {
	t.drained, t.draining = false, true
	defer func() { t.draining = false }()
	began := time.Now()
	for range maxDrain {
		if t.source.Read(readBatch, t.handle) > 0 {
			continue
		}
		if t.source.Pending() == 0 {
			t.drained = true
			return
		}
		if time.Since(began) > busyPatience {
			return
		}
		runtime.Gosched()
	}
}

// busyPatience bounds the wait for a record that is being written.
const busyPatience = time.Millisecond

// Whole reports whether no record is known to be missing from the tree as it stands,
// none waiting behind one that is still being written. In a call of Fresh.
func (t *Tracer) Whole() bool {
	return t.resyncWhy == "" && t.missing.Records == 0 && t.drained && t.tree.Refused() == t.source.Refused()
}

// A Mark is a state of the tree, to be asked later whether it is the latest still.
type Mark struct {
	at, refused uint64
	whole       bool
}

// DrainHere applies what has happened until now, and returns the mark of that. On the
// loop, between two records.
func (t *Tracer) DrainHere() Mark {
	t.drain()
	return t.MarkHere()
}

// MarkHere returns the mark of what was applied so far. On the loop, between two records.
func (t *Tracer) MarkHere() Mark {
	return Mark{at: t.source.Mark(), refused: t.source.Refused(), whole: t.Whole()}
}

// Whole reports whether the tree had every record of what had happened.
func (m Mark) Whole() bool { return m.whole }

// Unchanged reports whether the tree of the mark was whole and nothing has happened to
// any process since. From any goroutine; it costs next to nothing.
func (t *Tracer) Unchanged(m Mark) bool {
	t.waking.RLock()
	defer t.waking.RUnlock()
	return m.whole && !t.deaf && t.source.Refused() == m.refused && t.source.Untouched(m.at)
}

// Group returns the path and the unit of the control group that the process is in.
// On the loop.
func (t *Tracer) Group(p *tracker.Process) (cgroup, unit string) {
	g := t.names.group(p.ID, p.Cgroup, !p.Dead)
	return g.path, g.unitName()
}

// User returns the name of a user. On the loop.
func (t *Tracer) User(uid uint32) string { return t.names.user(uid) }

// Ready is closed when the first snapshot is in the tree. Records are not missed
// before: they wait.
func (t *Tracer) Ready() <-chan struct{} { return t.ready }

// Subscribe returns the events of the types named from now on; of all types when
// there are none. From any goroutine.
func (t *Tracer) Subscribe(types ...string) *Subscription { return t.hub.subscribe(types) }

// handle applies one record.
func (t *Tracer) handle(e *event.Event) {
	t.stats.seen(e)
	t.last = e.Time
	for _, c := range t.tree.Apply(e) {
		t.change(&c)
	}
	if t.hasNews() && !t.draining {
		t.source.Enough()
	}
}

func (t *Tracer) change(c *tracker.Change) {
	switch c.Kind {
	case tracker.Orphaned:
		t.orphaned(c)
	case tracker.Lost:
		t.lost(c.Records, c.Time)
	case tracker.Unseen:
		t.needResync("a child that only the kernel knew")
	case tracker.OOMKilled:
		t.oom(c)
	case tracker.Execed:
		t.names.moved(c.ID)
		t.remember(c)
		t.thinkAgain(c.ID)
	default:
		t.remember(c)
	}
}

// orphaned takes a direct orphan to be judged; those stranded with it wait for its
// verdict, which is theirs.
func (t *Tracer) orphaned(c *tracker.Change) {
	p, ok := t.tree.Get(c.ID)
	if !ok || p.Orphan == nil {
		return
	}
	if p.Orphan.Direct {
		t.stats.orphaned.Add(1)
		t.unproven = append(t.unproven, unproven{id: p.ID})
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

// lost counts records that the ring had no room for. They are told once a look, not
// once a gap: a ring that overflows has a gap before most of its records.
func (t *Tracer) lost(records, since uint64) {
	if t.missing.Records == 0 {
		t.missing.SinceNS = since
	}
	t.missing.Records += records
}

// tellLost publishes what was lost since the last look, and asks for a resync.
func (t *Tracer) tellLost() {
	if t.missing.Records == 0 {
		return
	}
	lost := t.missing
	t.missing = wire.Lost{}
	t.publish(&wire.Event{Type: wire.TypeLost, Lost: &lost}, BootNow())
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
	e := &wire.Event{Type: wire.TypeOOM, OOM: &wire.OOM{RSSBytes: c.OOM.RSSBytes}, Process: t.conv.process(&p)}
	e.OOM.Cgroup = e.Process.Cgroup
	t.publish(e, c.Time)
}

// A judged orphan is one to be told of, with what was stranded with it: as they were when
// they became orphans.
type judged struct {
	orphan   *tracker.Process
	stranded []tracker.Process
	verdict  string
	evidence []string
}

// hasNews reports whether tellNews has anything to do.
func (t *Tracer) hasNews() bool {
	return len(t.leases.told) > 0 || len(t.unjudged) > 0 || len(t.judged) > 0
}

// tellNews has those act who are to act on ended leases and, once they are judged, on new
// orphans, and then tells of the orphans. Between two records, so that whoever acts can look at the ring.
func (t *Tracer) tellNews() {
	t.leases.tell(t.onLease)
	unjudged := t.unjudged
	t.unjudged = nil
	for _, p := range unjudged {
		t.judge(p)
	}
	if len(t.judged) == 0 {
		return
	}
	news := t.judged
	t.judged = nil
	if t.onOrphans != nil {
		var ids []event.ID
		for i := range news {
			ids = append(ids, news[i].orphan.ID)
			for j := range news[i].stranded {
				ids = append(ids, news[i].stranded[j].ID)
			}
		}
		t.onOrphans(ids)
	}
	for i := range news {
		t.publishOrphan(news[i].orphan, news[i].verdict, news[i].evidence)
		for j := range news[i].stranded {
			t.publishOrphan(&news[i].stranded[j], news[i].verdict, news[i].evidence)
		}
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
	t.publish(&wire.Event{Type: wire.TypeOrphan, ID: t.orphanEventID(p.ID), Process: t.conv.process(&p)}, p.Orphan.Since)
}
