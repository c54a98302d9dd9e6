// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"fmt"
	"sync"
	"time"

	"github.com/abot-trace/abot-trace/internal/wire"
)

// alertState is the alert on a state that cannot be saved.
const alertState = "state"

// A failure is what goes wrong at present, and since when. It is safe for concurrent
// use.
type failure struct {
	mu    sync.Mutex
	err   error
	since time.Time
}

// set takes note of how it went, and returns since when it went wrong, and the error from
// before, which is over or was the same.
func (f *failure) set(err error) (since time.Time, before error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	before = f.err
	if f.err == nil {
		f.since = time.Now()
	}
	f.err = err
	return f.since, before
}

func (f *failure) get() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// condition says why nothing is saved, nil when all is well.
func (k *stateSaver) condition() error { return k.failed.get() }

// reportSave tells the outcome of a save where it is another than that of the one before.
func (k *stateSaver) reportSave(err error) {
	if err != nil {
		err = fmt.Errorf("the state cannot be saved: %w", err)
	}
	since, before := k.failed.set(err)
	a := wire.Alert{Name: alertState, Since: since}
	switch {
	case err == nil && before != nil:
		k.log.Info("the state is saved again", "after", time.Since(since).Round(time.Second))
		a.State, a.Previous, a.Message = wire.AlertOK, wire.AlertWarning, "the state is saved again"
	case err != nil && before == nil:
		k.log.Warn("the state cannot be saved: a successor will know less", "err", err)
		a.State, a.Previous, a.Message = wire.AlertWarning, wire.AlertOK, err.Error()
	default:
		return
	}
	k.alert(a)
}
