// SPDX-License-Identifier: Apache-2.0

package shutdown

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
)

type callback struct {
	name string
	run  func(context.Context) error
}

// PanicError is the error of a callback that panicked.
type PanicError struct {
	Value any
	Stack []byte // as debug.Stack gives it
}

func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// Defer registers a callback for Close, which runs them in reverse order, each
// after the one before has ended. The name is for errors. The callback's context
// ends after Options.CallbackTimeout or when a second signal comes; one that
// does not return then is left behind. A panic becomes a *PanicError. After
// Close has begun, Defer does nothing.
func (g *Group) Defer(name string, run func(context.Context) error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closing {
		g.callbacks = append(g.callbacks, callback{name, run})
	}
}

func (g *Group) runCallbacks() error {
	g.mu.Lock()
	callbacks := g.callbacks
	g.mu.Unlock()
	var errs []error
	for i := len(callbacks) - 1; i >= 0; i-- {
		if g.isForced() {
			errs = append(errs, fmt.Errorf("%w: %d callbacks did not run", ErrForced, i+1))
			break
		}
		if err := g.runCallback(callbacks[i]); err != nil {
			errs = append(errs, fmt.Errorf("callback %s: %w", callbacks[i].name, err))
		}
	}
	return errors.Join(errs...)
}

func (g *Group) runCallback(c callback) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(g.ctx), g.opts.CallbackTimeout)
	defer cancel()
	result := make(chan error, 1)
	go func() {
		defer func() {
			if v := recover(); v != nil {
				result <- &PanicError{v, debug.Stack()}
			}
		}()
		result <- c.run(ctx)
	}()
	select {
	case err := <-result:
		return err
	case <-g.forced:
		return ErrForced
	case <-ctx.Done():
		return ctx.Err()
	}
}
