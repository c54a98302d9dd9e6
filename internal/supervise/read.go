// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/abot-trace/abot-trace/internal/descend"
	"github.com/abot-trace/abot-trace/internal/slowread"
)

const (
	// readTimeout is what one process may take to let its environment or arguments be read:
	// it can hold them for ever, and an answer that does not come keeps nobody.
	readTimeout = 500 * time.Millisecond
	// readsSoon is how long an answer is waited for before all others are asked as well: many
	// who do not answer cost no more time than one.
	readsSoon = 10 * time.Millisecond
)

// An answer is what was read of a process, once done is closed.
type answer struct {
	done  chan struct{}
	words []string
	err   error
}

// ask begins to read words of p. Of who has not answered once nothing more is asked as long
// as it does not.
func (s *supervisor) ask(p descend.Proc, read func(pid int) ([]string, error)) *answer {
	a := &answer{done: make(chan struct{})}
	go func() {
		defer close(a.done)
		ctx, cancel := context.WithTimeout(context.Background(), readTimeout)
		defer cancel()
		a.words, a.err = slowread.Do(ctx, &s.reads, uint32(p.PID), func() ([]string, error) { return read(p.PID) })
	}()
	return a
}

// environ reads the environment of p, within readTimeout.
func (s *supervisor) environ(p descend.Proc) ([]string, error) {
	a := s.asked[identity{p.PID, p.Start}]
	if a == nil {
		a = s.ask(p, descend.Environ)
		select {
		case <-a.done:
		case <-time.After(readsSoon):
			s.askAll(p)
		}
	}
	<-a.done
	return a.words, a.err
}

// askAll begins to read the environments of all but p, for the look at the tree that is going
// on. Who has been looked at by then is asked once too often.
func (s *supervisor) askAll(but descend.Proc) {
	_ = descend.Walk(s.self, func(p descend.Proc) bool {
		if id := (identity{p.PID, p.Start}); p.PID != but.PID && s.asked[id] == nil {
			s.asked[id] = s.ask(p, descend.Environ)
		}
		return true
	})
}

// arguments reads those of p, within readTimeout; none where they cannot be read.
func (s *supervisor) arguments(p descend.Proc) []string {
	a := s.ask(p, descend.Cmdline)
	<-a.done
	if a.err != nil || a.words == nil {
		return []string{}
	}
	return a.words
}

// whyUnread says why nothing could be read.
func whyUnread(err error) string {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, slowread.ErrBusy) {
		return fmt.Sprintf("could not be read within %v", readTimeout)
	}
	return fmt.Sprintf("could not be read: %v", err)
}
