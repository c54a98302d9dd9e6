// SPDX-License-Identifier: Apache-2.0

// Package replay answers what a configuration would have ended over a recorded
// stream of events. It rebuilds the process tree from the events alone and runs the
// daemon's own rules over it, with the events' clock. It signals nobody.
package replay

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/policy"
	"github.com/abot-trace/abot-trace/internal/safetext"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// maxLine bounds one event's text; a longer line is counted as unreadable.
const maxLine = 1 << 20

// maxProcesses bounds the tree that is kept, whatever the stream claims.
const maxProcesses = 1 << 20

// Act is one thing that a rule would have done, and when.
type Act struct {
	policy.Decision
	Time time.Time // wall clock of Decision.At by the stream's own clock
	Root wire.Process
}

// Summary says what the replay has seen, and how far it can be believed.
type Summary struct {
	Events     int       // events applied
	Repeated   int       // events delivered before
	Unreadable int       // lines that are no event of this schema
	Lost       uint64    // records that the stream itself says were lost
	Boots      int       // times the clock went back: another boot
	Orphans    int       // orphanings seen
	From, To   time.Time // wall clock of the first and the last event
	// Hidden counts orphans of which arguments were hidden: a pattern may have met those.
	Hidden int
	// Sampled says that the stream told memory of any process. Without it, no rule
	// on memory could hold.
	Sampled bool
}

// Player replays one stream. It belongs to one goroutine.
type Player struct {
	// OnEvent, unless it is nil, is called with each event after it was applied.
	OnEvent func(*wire.Event)

	newEngine func() (*policy.Engine, error)
	engine    *policy.Engine
	host      policy.Host
	tree      *tree
	now       uint64
	passed    uint64 // the last full pass
	// news are orphans of one leak whose events follow each other: they are judged together,
	// as the daemon does.
	news     []event.ID
	newsLeak string
	wall     time.Time
	seen     map[string]bool
	summary  Summary
	act      func(Act) error
}

// New returns a player that gives each act to act, in the order of time. newEngine
// makes a fresh engine: one for each boot in the stream.
func New(newEngine func() (*policy.Engine, error), act func(Act) error) (*Player, error) {
	p := &Player{newEngine: newEngine, act: act}
	return p, p.boot()
}

// boot forgets everything: the clock and the identities of another boot mean nothing
// in this one.
func (p *Player) boot() (err error) {
	p.engine, err = p.newEngine()
	p.tree, p.host = newTree(), policy.UnknownHost()
	p.now, p.passed, p.news = 0, 0, nil
	p.seen = make(map[string]bool)
	return err
}

// Run reads NDJSON to its end, passing over lines that are no events, and returns
// what it saw. An error is that of the reader or of act.
func (p *Player) Run(r io.Reader) (Summary, error) {
	err := eachEvent(r, func(e *wire.Event) error {
		if e == nil {
			p.summary.Unreadable++
			return nil
		}
		return p.Apply(e)
	})
	if err != nil {
		return p.summary, err
	}
	return p.End()
}

// eachEvent calls fn for each line of NDJSON that is an event, and with nil for each that is
// none. Its error is that of the reader or of fn.
func eachEvent(r io.Reader, fn func(*wire.Event) error) error {
	reader := bufio.NewReaderSize(r, 64<<10)
	for {
		line, err := readLine(reader)
		if len(bytes.TrimSpace(line)) > 0 || errors.Is(err, errLong) {
			if err := fn(parse(line)); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil && !errors.Is(err, errLong):
			return fmt.Errorf("read events: %w", err)
		}
	}
}

// parse returns the event of a line, nil where it is none.
func parse(line []byte) *wire.Event {
	e := new(wire.Event)
	if err := json.Unmarshal(line, e); err != nil || e.Schema != wire.Schema || e.Type == "" {
		return nil
	}
	return e
}

// End lets what was due until the last event act, and returns what was seen.
func (p *Player) End() (Summary, error) {
	err := p.judge()
	return p.summary, errors.Join(err, p.due(p.now))
}

var errLong = errors.New("line too long")

// readLine returns the next line, or nothing and errLong for one beyond maxLine.
func readLine(r *bufio.Reader) (line []byte, err error) {
	long := false
	for {
		part, err := r.ReadSlice('\n')
		if long = long || len(line)+len(part) > maxLine; !long {
			line = append(line, part...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err != nil:
			return line, err // the caller sees a cut line first, then the end
		case long:
			return nil, errLong
		}
		return line, nil
	}
}

// Line applies one line of the stream.
func (p *Player) Line(line []byte) error {
	e := parse(line)
	if e == nil {
		p.summary.Unreadable++
		return nil
	}
	return p.Apply(e)
}

// Apply moves the clock to the event's instant, which lets deadlines before it act,
// and then takes in the event.
func (p *Player) Apply(e *wire.Event) error {
	err := p.applyOne(e)
	if err == nil && p.OnEvent != nil {
		p.OnEvent(e)
	}
	return err
}

func (p *Player) applyOne(e *wire.Event) error {
	if e.ID != "" {
		if p.seen[e.ID] {
			p.summary.Repeated++
			return nil
		}
		if len(p.seen) < maxProcesses {
			p.seen[e.ID] = true
		}
	}
	if e.TimeNS != 0 && e.TimeNS+uint64(reorder) < p.now {
		p.summary.Boots++
		if err := p.boot(); err != nil {
			return err
		}
	}
	p.count(e)
	if !p.continues(e) {
		if err := p.judge(); err != nil {
			return err
		}
	}
	now := max(p.now, e.TimeNS)
	if err := p.due(now); err != nil {
		return err
	}
	p.now, p.wall = now, e.Time
	if err := p.pass(); err != nil {
		return err
	}
	return p.take(e)
}

// interval is how often the daemon looks at every orphan, by its default.
const interval = 30 * time.Second

// pass judges every orphan where the daemon would have done so since the last time.
// More than one pass between two events would see the same tree again.
func (p *Player) pass() error {
	if p.now-p.passed < uint64(interval) {
		return nil
	}
	p.passed = p.now
	return p.tell(p.engine.Evaluate(p.tree, &p.host, p.now), p.now)
}

// Begin takes the tree as it was when the stream begins, before anything else. Its orphans are
// judged as of then.
func (p *Player) Begin(doc *wire.Tree) error {
	for i := range doc.Processes {
		e := &wire.Event{Type: wire.TypeExec, Time: doc.Time, Process: &doc.Processes[i]}
		id := p.tree.apply(e)
		p.summary.Sampled = p.summary.Sampled || e.Process.RSSBytes != nil
		if o := e.Process.Orphan; o != nil && e.Process.State != wire.StateDead {
			p.news = append(p.news, id)
		}
	}
	p.wall = doc.Time
	for i := range doc.Processes {
		if q := &doc.Processes[i]; q.StartedAt != nil {
			p.now = q.StartNS + uint64(doc.Time.Sub(*q.StartedAt))
			p.passed = p.now
			break
		}
	}
	return p.judge()
}

// reorder is how far events may go back in time within one boot: records of several
// CPUs are in the order of their reservation, not of their clocks.
const reorder = time.Minute

func (p *Player) count(e *wire.Event) {
	if e.Type == wire.TypeSample {
		return
	}
	p.summary.Events++
	if p.summary.From.IsZero() {
		p.summary.From = e.Time
	}
	p.summary.To = e.Time
	if e.Lost != nil && e.Lost.Where == "" {
		p.summary.Lost += e.Lost.Records
	}
	if e.Process != nil && e.Process.RSSBytes != nil {
		p.summary.Sampled = true
	}
}

// due lets every deadline up to now act at its own instant.
func (p *Player) due(now uint64) error {
	for {
		at, ok := p.engine.NextDeadline()
		if !ok || at > now {
			return nil
		}
		at = max(at, p.now)
		if err := p.tell(p.engine.Due(p.tree, &p.host, at), at); err != nil {
			return err
		}
	}
}

// take updates the tree by one event, and asks the rules where that can matter.
func (p *Player) take(e *wire.Event) error {
	switch e.Type {
	case wire.TypeSample:
		return p.sample(e.Sample)
	case wire.TypeAlert:
		return p.alert(e.Alert)
	case wire.TypeLeak:
		if e.Leak == nil {
			return nil
		}
		return p.tell(p.engine.EvaluateOrphans(p.tree, &p.host, p.tree.applyLeak(e.Leak), p.now), p.now)
	}
	if e.Process == nil {
		return nil
	}
	id := p.tree.apply(e)
	switch e.Type {
	case wire.TypeVerdict, wire.TypeOrphan:
		if e.Type == wire.TypeOrphan {
			p.summary.Orphans++
			if slices.ContainsFunc(e.Process.Cmdline, func(arg string) bool { return strings.Contains(arg, safetext.Hidden) }) {
				p.summary.Hidden++
			}
		}
		p.news, p.newsLeak = append(p.news, id), leakOf(e.Process.Orphan)
	case wire.TypeExit:
		for _, gone := range p.tree.forget(id) {
			p.engine.Forget(gone)
		}
	}
	return nil
}

// continues reports whether the event is of the same leak as the news.
func (p *Player) continues(e *wire.Event) bool {
	return len(p.news) > 0 && (e.Type == wire.TypeOrphan || e.Type == wire.TypeVerdict) && e.Process != nil &&
		p.newsLeak != "" && leakOf(e.Process.Orphan) == p.newsLeak
}

// judge asks the rules about the news.
func (p *Player) judge() error {
	if len(p.news) == 0 {
		return nil
	}
	ids := p.news
	p.news = nil
	return p.tell(p.engine.EvaluateOrphans(p.tree, &p.host, ids, p.now), p.now)
}

// sample takes what was measured, and judges everything by it, as the daemon does.
func (p *Player) sample(s *wire.Sample) error {
	if s == nil {
		return nil
	}
	p.host, p.summary.Sampled, p.passed = policy.HostOf(s.Host), true, p.now
	for i := range s.Processes {
		q := &s.Processes[i]
		if n := p.tree.nodes[idOf(q.PID, q.StartNS)]; n != nil {
			n.process.RSSBytes, n.process.SwapBytes = q.RSSBytes, q.SwapBytes
		}
	}
	return p.tell(p.engine.Evaluate(p.tree, &p.host, p.now), p.now)
}

// alert takes the host's figures from the alerts, the only events that tell them,
// and judges everything by them.
func (p *Player) alert(a *wire.Alert) error {
	if a == nil || a.Value == nil {
		return nil
	}
	switch a.Name {
	case "memory":
		p.host.MemoryPercent = *a.Value
	case "cpu":
		p.host.CPUPercent = *a.Value
	case "swap":
		p.host.SwapPercent = *a.Value
	default:
		return nil
	}
	return p.tell(p.engine.Evaluate(p.tree, &p.host, p.now), p.now)
}

// tell passes decisions on.
func (p *Player) tell(decisions []policy.Decision, at uint64) error {
	for _, d := range decisions {
		a := Act{Decision: d, Time: p.wall.Add(time.Duration(at - p.now)), Root: p.tree.wire(d.Root)}
		if err := p.act(a); err != nil {
			return err
		}
	}
	return nil
}

// idOf returns the identity of a process in an event.
func idOf(pid int32, start uint64) event.ID { return event.ID{PID: pid, Start: start} }
