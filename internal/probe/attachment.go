// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/bpf"
	"github.com/abot-trace/abot-trace/internal/event"
)

// An attachment is the programs as they were attached once, with the ring that they
// fill. It can live longer than the process that made it.
type attachment struct {
	version version
	// began, CLOCK_BOOTTIME ns before the first program was attached, names it among
	// all of a boot.
	began    uint64
	events   *ebpf.Map
	state    *ebpf.Map
	ring     *ring
	counters *bpf.CoreRingCounters
	mapped   []byte
	links    map[string]link.Link // by program, the snapshot's too
	// argsErr says why the optional object is not loaded; nil when it is.
	argsErr error
	base    uint64 // refused by attachments before this one
	misses  misses
	closers []func() error
}

func (a *attachment) closeLater(fn func() error) { a.closers = append(a.closers, fn) }

// openRing maps ring and counters.
func (a *attachment) openRing() error {
	r, err := newRing(a.events.FD(), a.events.MaxEntries())
	if err != nil {
		return err
	}
	a.ring = r
	a.mapped, err = unix.Mmap(a.state.FD(), 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map ring state: %w", err)
	}
	a.counters = (*bpf.CoreRingCounters)(unsafe.Pointer(unsafe.SliceData(a.mapped)))
	return nil
}

func (a *attachment) iterator(name string) *link.Iter { return a.links[name].(*link.Iter) }

// refused is how many records this attachment and those before have not written: for want of
// room, or because the program could not run.
func (a *attachment) refused() uint64 {
	return a.base + atomic.LoadUint64(&a.counters.Refused) + a.misses.count.Load()
}

func (a *attachment) name(object string) string { return keptName(a.version, a.began, object) }

// keep puts everything into the store. The ring comes last: where it is, the rest is.
func (a *attachment) keep(s Store) error {
	if s == nil {
		return nil
	}
	for name, l := range a.links {
		o, ok := l.(Object)
		if !ok {
			return fmt.Errorf("keep %s: a %T has no descriptor", name, l)
		}
		if err := s.Keep(a.name(name), o); err != nil {
			return err
		}
	}
	if err := s.Keep(a.name(keptState), a.state); err != nil {
		return err
	}
	return s.Keep(a.name(keptEvents), a.events)
}

// detach ends the programs, and keeps ring and counters.
func (a *attachment) detach(s Store) error {
	var errs []error
	for name, l := range a.links {
		if s != nil {
			errs = append(errs, s.Drop(a.name(name)))
		}
		errs = append(errs, l.Close())
	}
	clear(a.links)
	return errors.Join(errs...)
}

// drop ends the programs and forgets everything.
func (a *attachment) drop(s Store) error {
	errs := []error{a.detach(s)}
	if s != nil {
		errs = append(errs, s.Drop(a.name(keptEvents)), s.Drop(a.name(keptState)))
	}
	return errors.Join(append(errs, a.close())...)
}

// close gives up this process's hold.
func (a *attachment) close() error {
	var errs []error
	for _, l := range a.links {
		errs = append(errs, l.Close())
	}
	clear(a.links)
	if a.mapped != nil {
		errs = append(errs, unix.Munmap(a.mapped))
		a.mapped, a.counters = nil, nil
	}
	if a.ring != nil {
		a.ring.close()
		a.ring = nil
	}
	for _, m := range []*ebpf.Map{a.events, a.state} {
		if m != nil {
			errs = append(errs, m.Close())
		}
	}
	for _, fn := range a.closers {
		errs = append(errs, fn())
	}
	a.closers = nil
	return errors.Join(errs...)
}

// An overlap recognizes the records that two attachments have both written, while the
// later was attached already and the earlier still.
type overlap struct {
	seen  map[overlapKey]int
	until uint64 // no record of this instant or later is a repetition
}

// An overlapKey is the same for both records of one happening.
type overlapKey struct {
	key    event.Key
	parent event.ID
	signal event.Signal
}

func keyOf(e *event.Event) overlapKey {
	k := overlapKey{key: e.Key()}
	if adapt := records[e.Kind].key; adapt != nil {
		adapt(&k, e)
	}
	return k
}

// saw notes a record of the earlier attachment.
func (o *overlap) saw(e *event.Event) {
	if o.seen == nil {
		o.seen = make(map[overlapKey]int)
	}
	o.seen[keyOf(e)]++
}

// repeats reports whether the record of the later attachment was seen before.
func (o *overlap) repeats(e *event.Event) bool {
	if o.seen == nil {
		return false
	}
	if e.Time >= o.until {
		o.seen = nil
		return false
	}
	k := keyOf(e)
	if o.seen[k] == 0 {
		return false
	}
	o.seen[k]--
	return true
}
