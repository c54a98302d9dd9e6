// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"errors"
	"fmt"
	"slices"

	"github.com/cilium/ebpf/link"

	"github.com/abot-trace/abot-trace/bpf"
	"github.com/abot-trace/abot-trace/internal/boottime"
	"github.com/abot-trace/abot-trace/internal/event"
)

// A Position is a place in the stream of records: what lies before it has been handed
// out. It is worth saving together with the state that those records have made.
type Position struct {
	Ring    uint64 // which ring: the instant of its attachment
	At      uint64 // bytes into it
	Base    uint64 // refused by rings before it
	Refused uint64 // refused in all, by then
}

// Past is what Open found of an earlier process.
type Past struct {
	// Continued says that its programs are still attached and go on.
	Continued bool
	// Replaced is how many rings of other programs are read to their end first.
	Replaced int
	// Lost is how many records were discarded unread: this version cannot decode them.
	Lost uint64
	// Missing is how many bytes of records were handled by the process before, but are
	// in no saved state.
	Missing uint64
	// Notes are troubles on the way, one sentence each.
	Notes []string
}

func (p *Past) note(format string, args ...any) {
	p.Notes = append(p.Notes, fmt.Sprintf(format, args...))
}

// Past says what Open found of an earlier process.
func (p *Probe) Past() Past { return p.past }

// overlapSlack is how much later the second of two records of one happening may have
// been written, by a program that was held up in between.
const overlapSlack = uint64(1e9)

// resume takes over what the store has kept: the newest attachment as p.now where it
// serves, all others that can be read as p.before. What is of no use it drops.
func (p *Probe) resume(opt Options) error {
	if opt.Store == nil {
		return nil
	}
	names, err := opt.Store.Names()
	if err != nil {
		return err
	}
	mine, err := thisVersion()
	if err != nil {
		return err
	}
	for _, k := range group(names) {
		a, err := k.load(opt.Store)
		switch {
		case err != nil:
			p.past.note("discarded what an earlier process had attached: %v", err)
			err = k.drop(opt.Store)
		case a.version.layout != mine.layout || a.version.namespace != mine.namespace:
			n := a.ring.count()
			p.past.Lost += n
			p.past.note("discarded %d unread records of another version", n)
			err = a.drop(opt.Store)
		default:
			p.before = append(p.before, a)
		}
		if err != nil {
			// It may stay attached, which costs, but tracing goes on beside it.
			p.past.note("left behind by an earlier process: %v", err)
		}
	}
	if last := len(p.before) - 1; last >= 0 && p.before[last].serves(opt, mine) {
		p.now, p.before = p.before[last], p.before[:last]
		p.past.Continued = true
	}
	p.past.Replaced = len(p.before)
	return nil
}

// kept is what the store has of one attachment.
type kept struct {
	version version
	began   uint64
	objects []string
}

// group sorts names into attachments, oldest first. Names of others are left alone.
func group(names []string) []*kept {
	type key struct {
		version version
		began   uint64
	}
	byKey := make(map[key]*kept)
	var all []*kept
	for _, name := range names {
		v, began, object, ok := parseKept(name)
		if !ok {
			continue
		}
		k := byKey[key{v, began}]
		if k == nil {
			k = &kept{version: v, began: began}
			byKey[key{v, began}] = k
			all = append(all, k)
		}
		k.objects = append(k.objects, object)
	}
	slices.SortFunc(all, func(a, b *kept) int {
		if a.began < b.began {
			return -1
		}
		return 1
	})
	return all
}

func (k *kept) drop(s Store) error {
	var errs []error
	for _, object := range k.objects {
		errs = append(errs, s.Drop(keptName(k.version, k.began, object)))
	}
	return errors.Join(errs...)
}

// load opens the objects. Ring and counters have to be there; links may be gone where
// a process died while it was replacing them.
func (k *kept) load(s Store) (_ *attachment, err error) {
	a := &attachment{version: k.version, began: k.began, links: make(map[string]link.Link)}
	defer func() {
		if err != nil {
			_ = a.close()
		}
	}()
	if a.events, err = s.Map(a.name(keptEvents)); err != nil {
		return nil, err
	}
	if a.state, err = s.Map(a.name(keptState)); err != nil {
		return nil, err
	}
	for _, object := range k.objects {
		if object == keptEvents || object == keptState {
			continue
		}
		if a.links[object], err = s.Link(a.name(object)); err != nil {
			delete(a.links, object)
			return nil, err
		}
		if program := a.misses.addLink(object, a.links[object]); program != nil {
			a.closeLater(program.Close)
		}
	}
	for _, name := range []string{keptSnapshot, keptUsage} {
		if l, ok := a.links[name]; ok {
			if _, ok := l.(*link.Iter); !ok {
				return nil, fmt.Errorf("%s: %w", a.name(name), ErrMalformed)
			}
		}
	}
	return a, a.openRing()
}

// serves reports whether the attachment is what a new one would be.
func (a *attachment) serves(opt Options, mine version) bool {
	if a.version != mine || a.ring.size != uint64(opt.ringBytes()) {
		return false
	}
	need := []string{bpf.CoreProgOnFork, bpf.CoreProgOnExit, bpf.CoreProgOnSignal, keptSnapshot, keptUsage}
	if opt.NoArgs {
		need = append(need, bpf.CoreProgOnExec)
		a.argsErr = errLeftOut
	} else {
		// Where they could not be loaded, it is tried again.
		need = append(need, bpf.ArgsProgOnExecArgs, bpf.ArgsProgOnExitChildren)
	}
	for _, name := range need {
		if a.links[name] == nil {
			return false
		}
	}
	return true
}

// begin sets the reader to where the stream goes on.
func (p *Probe) begin(opt Options) {
	from, found := opt.From, false
	base := from.Refused
	for _, a := range append(slices.Clone(p.before), p.now) {
		a.ring.hold = min(opt.Hold, a.ring.size/2)
		if a.began == from.Ring {
			found = true
			base = from.Base
			p.skip(a, from.At)
		}
		a.base = base
		base = a.refused()
	}
	for _, a := range p.before {
		if err := a.detach(p.store); err != nil {
			p.past.note("detach replaced programs: %v", err)
		}
		// What comes later has its record in the next ring too.
		a.ring.stopAtEnd()
	}
	if from.Ring != 0 && !found {
		p.past.note("the ring that the saved state belongs to is gone")
	}
	p.startReading()
}

// skip takes for handled what the saved state contains already.
func (p *Probe) skip(a *attachment, to uint64) {
	if a.ring.at > to {
		p.past.Missing = a.ring.at - to
		return
	}
	if !a.ring.skip(to) {
		p.past.note("the saved state does not fit the ring: its records are applied again")
	}
}

func (p *Probe) startReading() {
	if len(p.before) > 0 {
		p.reading.Store(p.before[0])
		return
	}
	p.reading.Store(p.now)
}

// after is the attachment that follows p.before[0].
func (p *Probe) after() *attachment {
	if len(p.before) > 1 {
		return p.before[1]
	}
	return p.now
}

// readBefore reads from an attachment that is being replaced.
func (p *Probe) readBefore(limit int, fn func(*event.Event)) int {
	a, next := p.before[0], p.after()
	return a.ring.read(limit, func(b []byte) {
		if err := Decode(b, &p.record); err != nil {
			p.decodes++
			return
		}
		if p.overlap.repeats(&p.record) {
			return
		}
		if p.record.Time >= next.began {
			p.overlap.saw(&p.record)
		}
		p.record.Refused += a.base + a.misses.count.Load()
		fn(&p.record)
	})
}

// advance goes on to the next attachment when the first has been read to its end. It
// reports false when there is something to wait for.
func (p *Probe) advance() bool {
	a := p.before[0]
	if a.ring.used() > 0 {
		return false // a record is still being written
	}
	p.overlap.until = boottime.Now() + overlapSlack
	p.after().base = a.refused()
	p.before = p.before[1:]
	p.done = append(p.done, a)
	p.startReading()
	if a.ring.hold == 0 {
		p.forgetDone()
	}
	return true
}

// forgetDone drops the attachments that were read to their end. Their counters stay
// mapped until Close: somebody may be looking at them.
func (p *Probe) forgetDone() {
	for _, a := range p.done {
		if a.ring == nil {
			continue
		}
		if p.store != nil {
			for _, object := range []string{keptEvents, keptState} {
				if err := p.store.Drop(a.name(object)); err != nil {
					p.past.note("forget a replaced ring: %v", err)
				}
			}
		}
		a.ring.close()
		a.ring = nil
		_ = a.events.Close()
	}
}

// Position is where the reader stands: all records before it have been handled.
func (p *Probe) Position() Position {
	a := p.reading.Load()
	return Position{Ring: a.began, At: a.ring.at, Base: a.base, Refused: a.refused()}
}

// Held is how many bytes of handled records wait for a Commit.
func (p *Probe) Held() uint64 { return p.reading.Load().ring.held() }

// Commit says that the effect of all records before pos is saved: they are not needed
// any more.
func (p *Probe) Commit(pos Position) {
	if a := p.reading.Load(); a.began == pos.Ring {
		a.ring.commit(pos.At)
		p.forgetDone()
	}
}
