// SPDX-License-Identifier: Apache-2.0

// Package shutdown ends a program in good order: a context that is cancelled when
// SIGTERM or SIGINT comes, child processes that are ended with their descendants
// (TERM, a grace, KILL), and cleanup callbacks that run last, in reverse order.
//
//	g, err := shutdown.New(context.Background(), shutdown.Options{})
//	...
//	g.Defer("socket", func(context.Context) error { return os.Remove(path) })
//	err = g.Start(exec.Command("worker"))
//	...
//	<-g.Context().Done() // or do the program's work with that context
//	err = g.Close()
//	os.Exit(g.ExitCode())
//
// A second signal forces: children are killed, Close returns at once, and a
// program that never called Close dies of the signal.
//
// The package works on Linux 5.8 and later and needs procfs. A program that is
// itself killed by SIGKILL can clean nothing up; see abot-trace supervise and
// leases for that.
package shutdown

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/descend"
)

// ErrForced is in the error of a Close that a second signal cut short.
var ErrForced = errors.New("forced by a second signal")

// Options tunes a Group; the zero value is fine.
type Options struct {
	// Grace is the time between TERM and KILL for child processes. It ends early
	// when all are gone. 0 means 10 seconds.
	Grace time.Duration
	// CallbackTimeout is the longest that one callback may take. 0 means 10 seconds.
	CallbackTimeout time.Duration
	// Subreaper makes the program adopt every orphaned descendant
	// (PR_SET_CHILD_SUBREAPER), so that Close ends them all, whatever they did to
	// get away. The Group then reaps what it adopts, and takes every child for
	// adopted that Start did not start: start all children with Start.
	//
	// Without it Close ends the children, what descends from them through living
	// processes, and what carries their environment. That misses a process which
	// was orphaned before and had its environment emptied.
	Subreaper bool
}

// SignalError is the cause of a Group's context when a signal cancelled it.
type SignalError struct{ Signal syscall.Signal }

func (e *SignalError) Error() string { return "received " + unix.SignalName(e.Signal) }

// A Group holds what must end with the program. Its methods are safe for
// concurrent use. One Group per program is meant: several would each take the
// signals.
type Group struct {
	opts    Options
	ctx     context.Context
	cancel  context.CancelCauseFunc
	signals chan os.Signal
	forced  chan struct{} // closed by the second signal
	done    chan struct{} // closed when Close has returned
	watched sync.WaitGroup

	closeOnce sync.Once
	closeErr  error

	mu        sync.Mutex
	closing   bool
	received  syscall.Signal // the first signal; 0 for none
	callbacks []callback
	children  children
}

// New returns a Group that catches SIGTERM and SIGINT from now on. The caller
// must Close it.
func New(parent context.Context, opts Options) (*Group, error) {
	if err := descend.Check(); err != nil {
		return nil, fmt.Errorf("shutdown: %w", err)
	}
	if opts.Subreaper {
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			return nil, fmt.Errorf("shutdown: child subreaper: %w", err)
		}
	}
	if opts.Grace == 0 {
		opts.Grace = 10 * time.Second
	}
	if opts.CallbackTimeout == 0 {
		opts.CallbackTimeout = 10 * time.Second
	}
	ctx, cancel := context.WithCancelCause(parent)
	g := &Group{
		opts: opts, ctx: ctx, cancel: cancel,
		signals: make(chan os.Signal, 4),
		forced:  make(chan struct{}),
		done:    make(chan struct{}),
	}
	signal.Notify(g.signals, unix.SIGTERM, unix.SIGINT)
	g.watched.Go(g.watch)
	if opts.Subreaper {
		g.watched.Go(g.reapAdopted)
	}
	return g, nil
}

// Context is cancelled by the first signal (its cause is then a *SignalError), by
// the parent's end, or by Close.
func (g *Group) Context() context.Context { return g.ctx }

// Close cancels the context, ends the children and then runs the callbacks, the
// last registered first. It does so once; every call returns the same error,
// which joins whatever went wrong. After it signals have their usual effect again.
func (g *Group) Close() error {
	g.closeOnce.Do(func() {
		g.mu.Lock()
		g.closing = true
		g.mu.Unlock()
		g.cancel(context.Canceled)
		g.closeErr = errors.Join(g.endChildren(), g.runCallbacks())
		signal.Stop(g.signals)
		close(g.done)
		g.watched.Wait()
	})
	return g.closeErr
}

// ExitCode is 128 + the signal that came, or 0 if none did.
func (g *Group) ExitCode() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.received == 0 {
		return 0
	}
	return 128 + int(g.received)
}

// watch turns signals into the context's end and, at the second one, into force.
func (g *Group) watch() {
	for {
		select {
		case sig := <-g.signals:
			if g.first(sig.(syscall.Signal)) {
				continue
			}
			g.force(sig.(syscall.Signal))
			return
		case <-g.done:
			return
		}
	}
}

func (g *Group) first(sig syscall.Signal) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.received != 0 {
		return false
	}
	g.received = sig
	g.cancel(&SignalError{sig})
	return true
}

// force gives up waiting. A further signal has its usual effect; a program that
// does not even Close dies of this one.
func (g *Group) force(sig syscall.Signal) {
	close(g.forced)
	signal.Reset(unix.SIGTERM, unix.SIGINT)
	g.mu.Lock()
	closing := g.closing
	g.mu.Unlock()
	if !closing {
		_ = g.killChildren()
		_ = unix.Kill(os.Getpid(), sig)
	}
}

func (g *Group) isForced() bool {
	select {
	case <-g.forced:
		return true
	default:
		return false
	}
}
