// SPDX-License-Identifier: Apache-2.0

package inbox

import (
	"context"
	"errors"
	"sync"
	"testing"
)

// loop runs an inbox as its owner does, until the test ends or stop is called.
func loop(t *testing.T) (b *Inbox, stop func()) {
	t.Helper()
	woken, end := make(chan struct{}, 1), make(chan struct{})
	b = New(func() {
		select {
		case woken <- struct{}{}:
		default:
		}
	})
	over := make(chan struct{})
	go func() {
		defer close(over)
		defer b.Close()
		for {
			b.Run()
			select {
			case <-woken:
			case <-end:
				return
			}
		}
	}()
	stop = sync.OnceFunc(func() { close(end); <-over })
	t.Cleanup(stop)
	return b, stop
}

// TestDo: the loop alone touches what it owns, however many ask, and each waits for its answer.
func TestDo(t *testing.T) {
	b, _ := loop(t)
	owned := 0
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 100 {
				b.Post(func() { owned++ })
				if err := b.Do(t.Context(), func() { owned++ }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	got := 0
	if err := b.Do(t.Context(), func() { got = owned }); err != nil || got != 800 {
		t.Errorf("%d calls were run, %v", got, err)
	}
}

// TestDoGivesUp: who does not wait any more has nothing run for him.
func TestDoGivesUp(t *testing.T) {
	b := New(func() {})
	ctx, cancel := context.WithCancel(t.Context())
	asked := make(chan error)
	go func() { asked <- b.Do(ctx, func() { t.Error("it was run") }) }()
	first := <-b.calls // it waits by now
	cancel()
	if err := <-asked; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	first()
	if err := b.Do(ctx, func() {}); !errors.Is(err, context.Canceled) {
		t.Errorf("called when it was over: %v", err)
	}
}

// TestClosed: nobody hangs on a loop that has ended, and nobody wakes it.
func TestClosed(t *testing.T) {
	b, stop := loop(t)
	stop()
	b.wake = func() { t.Error("woken") }
	b.Wake()
	for range waiting + 1 { // none of them is read
		b.Post(func() {})
	}
	if err := b.Do(t.Context(), func() {}); !errors.Is(err, ErrStopped) {
		t.Error(err)
	}
	if b.WhileOpen(func() bool { return true }) {
		t.Error("open")
	}
}
