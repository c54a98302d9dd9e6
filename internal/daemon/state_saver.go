// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"sync/atomic"
	"time"

	"github.com/abot-trace/abot-trace/internal/dirlock"
	"github.com/abot-trace/abot-trace/internal/probe"
	"github.com/abot-trace/abot-trace/internal/state"
	"github.com/abot-trace/abot-trace/internal/trace"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// When the state is saved: every saveInterval, and sooner, though not sooner than
// savePause, when the records that a successor would need fill half of what may be held
// back of them.
const (
	saveInterval = time.Minute
	saveRetry    = 10 * time.Second // after one that failed
	savePause    = time.Second
	holdBytes    = probe.DefaultRingBytes / 4
)

// stateLayout names the version of all sections together: the first number for those
// beside the tree.
var stateLayout = fmt.Sprintf("1.%d", tracker.ExportVersion)

const sectionPosition = "position"

// A stateSaver makes the end of the daemon a pause: it keeps the programs attached, saves
// what was learned from their records, and gives both to the next daemon.
//
//	records -> tree -> export -> state file -> commit: the ring may forget the records
type stateSaver struct {
	log          *slog.Logger
	store        probe.Store // nil: the programs end with the process
	closeStore   func() error
	dir          *state.Dir // nil: nothing is saved
	loaded       state.Sections
	position     probe.Position
	interrupted  atomic.Bool // by a person at a terminal
	saveSoon     chan struct{}
	signals      chan os.Signal
	buf          []byte
	failed       failure
	alert        func(wire.Alert)
	flushNotices func() // on the loop: what the state will take for told

	probe   *probe.Probe
	tracer  *trace.Tracer
	history *historyKeeper
}

// openStateSaver takes the places where things are kept. An error says that another daemon
// has them; whatever else is wrong with them is told, and done without.
func openStateSaver(s Settings) (_ *stateSaver, err error) {
	k := &stateSaver{log: s.Log, closeStore: func() error { return nil }, saveSoon: make(chan struct{}, 1),
		signals: make(chan os.Signal, 1)}
	defer func() {
		if err != nil {
			k.close()
		}
	}()
	if err := k.openState(s.State); err != nil {
		return nil, err
	}
	if err := k.openStore(s.Pins); err != nil {
		return nil, err
	}
	signal.Notify(k.signals, os.Interrupt)
	go func() {
		for range k.signals {
			k.interrupted.Store(true)
		}
	}()
	return k, nil
}

// openState opens the state directory, if there is to be one, and reads the state.
func (k *stateSaver) openState(path string) error {
	if path == "" {
		return nil
	}
	var busy *dirlock.BusyError
	dir, err := state.Open(path, stateLayout)
	if errors.As(err, &busy) {
		return fmt.Errorf("another daemon is running: %w", err)
	}
	if err != nil {
		k.failed.set(fmt.Errorf("nothing is saved: %w", err))
		k.log.Warn("nothing is saved: what this daemon learns ends with it", "err", err)
		return nil
	}
	k.dir = dir
	if k.loaded, err = dir.Load(); err != nil {
		k.log.Warn("the saved state is of no use: starting from a snapshot", "err", err)
	}
	if k.loaded == nil {
		return nil
	}
	if err := json.Unmarshal(k.loaded[sectionPosition], &k.position); err != nil {
		k.discard(fmt.Errorf("position: %w", err))
	}
	return nil
}

// discard sets a state aside that turned out to be of no use.
func (k *stateSaver) discard(why error) {
	k.loaded, k.position = nil, probe.Position{}
	k.log.Warn("the saved state is of no use: starting from a snapshot", "err", errors.Join(why, k.dir.Discard()))
}

// openStore finds who keeps the programs attached: the service manager where there is
// one, else pins.
func (k *stateSaver) openStore(pins string) error {
	fds, err := probe.NewFDStore()
	if err == nil {
		k.store, k.closeStore = fds, fds.Close
		return nil
	}
	if pins == "" {
		return nil
	}
	var busy *dirlock.BusyError
	store, err := probe.NewPinStore(pins)
	if errors.As(err, &busy) {
		return fmt.Errorf("another daemon is running: %w", err)
	}
	if err != nil {
		k.log.Warn("the programs end with this daemon: a restart has a gap", "err", err)
		return nil
	}
	k.store, k.closeStore = store, store.Close
	return nil
}

// options are those of the probe.
func (k *stateSaver) options() probe.Options {
	opt := probe.Options{Store: k.store, From: k.position}
	if k.dir != nil && k.store != nil {
		opt.Hold = holdBytes
	}
	return opt
}

// restore gives the tracer, which does not run yet, what the daemon before knew, and
// tells what is missing.
func (k *stateSaver) restore(p *probe.Probe, t *trace.Tracer) {
	k.probe, k.tracer = p, t
	past := p.Past()
	for _, note := range past.Notes {
		k.log.Warn("restart", "note", note)
	}
	t.NoteLost(past.Lost)
	restored := false
	if k.dir != nil && k.loaded == nil {
		if err := t.RestoreLeases(k.leases(nil)); err != nil {
			k.log.Warn("leases are lost", "err", err)
		}
	}
	if k.loaded != nil {
		k.loaded[trace.SectionLeases] = k.leases(k.loaded[trace.SectionLeases])
		saved := k.loaded[sectionHistory]
		err := t.Restore(k.loaded, 0)
		if err != nil {
			k.discard(err)
		} else if past.Continued && past.Missing == 0 && past.Replaced == 0 {
			k.history.resume(saved)
		}
		restored = err == nil
	}
	k.loaded = nil
	if restored || past.Continued || past.Replaced > 0 {
		k.log.Info("continued", "state", restored, "programs", past.Continued, "replaced", past.Replaced,
			"records_lost", past.Lost, "bytes_unsaved", past.Missing, "processes", t.Stats().Living)
	}
}

// run saves the state as soon as it is whole, and from time to time until ctx ends.
func (k *stateSaver) run(ctx context.Context) {
	if k.dir == nil {
		return
	}
	onLoop := func(fn func()) error { return k.tracer.Do(ctx, func(*tracker.Tree) { fn() }) }
	select {
	case <-k.tracer.Ready():
		k.save(onLoop)
	case <-ctx.Done():
		return
	}
	for {
		wait, full := saveInterval, k.saveSoon
		if k.condition() != nil {
			wait, full = saveRetry, nil // however much there is to save
		}
		again := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			again.Stop()
			return
		case <-again.C:
		case <-full:
			again.Stop()
		}
		k.save(onLoop)
		pause := time.NewTimer(savePause)
		select {
		case <-ctx.Done():
			pause.Stop()
			return
		case <-pause.C:
		}
		select {
		case <-k.saveSoon: // said before the save; if it still is, the next look says it again
		default:
		}
	}
}

// requestSave asks for a save when what is held back of the ring grows. It is called on the
// tracer's loop after each look at the ring, so that nobody has to wake up to ask.
func (k *stateSaver) requestSave() {
	if k.dir == nil || k.probe.Held() <= holdBytes/2 {
		return
	}
	select {
	case k.saveSoon <- struct{}{}:
	default:
	}
}

// finish saves the state for the last time, when the tracer has stopped. A person who
// ends the daemon at a terminal wants nothing left attached; the descriptor store
// forgets by itself when the service is stopped.
func (k *stateSaver) finish() {
	if k.dir != nil {
		k.save(func(fn func()) error { fn(); return nil })
	}
	if pins, ok := k.store.(*probe.PinStore); ok && k.interrupted.Load() {
		if _, err := probe.Forget(pins); err != nil {
			k.log.Warn("programs stay attached", "err", err)
		}
	}
}

// save writes the state and lets the ring forget what it holds. onLoop runs its
// argument where tree and probe may be used.
func (k *stateSaver) save(onLoop func(func()) error) {
	sections := make(state.Sections)
	var position probe.Position
	var kept []byte
	var exported error
	err := onLoop(func() {
		k.flushNotices()
		position = k.probe.Position()
		exported = k.tracer.Save(sections, k.buf)
		kept = k.history.mark()
	})
	if err != nil {
		return // stopping: finish is next
	}
	if err = exported; err == nil {
		k.buf = sections[trace.SectionTree]
		if kept != nil {
			// The ring gives back what is in the state: the history is to have it first.
			sections[sectionHistory] = kept
			k.history.wait()
		}
		err = k.write(sections, position)
	}
	k.reportSave(err)
	if err == nil {
		_ = onLoop(func() { k.probe.Commit(position) })
	}
}

func (k *stateSaver) write(sections state.Sections, position probe.Position) error {
	b, err := json.Marshal(position)
	if err != nil {
		return err
	}
	sections[sectionPosition] = b
	return k.dir.Save(sections)
}

// close gives the places up.
func (k *stateSaver) close() {
	signal.Stop(k.signals)
	close(k.signals)
	if err := k.closeStore(); err != nil {
		k.log.Warn("close the store", "err", err)
	}
	if k.dir != nil {
		if err := k.dir.Close(); err != nil {
			k.log.Warn("close the state", "err", err)
		}
	}
}
