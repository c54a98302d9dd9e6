// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// DefaultPatience is how long a [Client] waits for a daemon that says nothing.
const DefaultPatience = 10 * time.Second

// An UnansweredError says that a daemon holds the socket and does not answer: it hangs,
// or was stopped.
type UnansweredError struct {
	Socket  string
	Request string // what was waited for
	Waited  time.Duration
}

// Error implements error.
func (e *UnansweredError) Error() string {
	return fmt.Sprintf("socket %s: the daemon does not answer: waited %v for %s", e.Socket, e.Waited, e.Request)
}

// A length says how long the answer to a request may take.
type length int

const (
	brief    length = iota // the head and each part of the body come within the patience
	long                   // as long as it takes, while the daemon answers others
	streamed               // the head comes within the patience, then it is long
)

// A wait ends one request when the daemon has said nothing for the client's patience.
type wait struct {
	client  *Client
	request string
	parent  context.Context // the caller's
	ctx     context.Context
	cancel  context.CancelCauseFunc
	timer   *time.Timer
}

// newWait bounds a request with the context parent. The caller closes it.
func (c *Client) newWait(parent context.Context, request string) *wait {
	w := &wait{client: c, request: request, parent: parent}
	w.ctx, w.cancel = context.WithCancelCause(parent)
	w.timer = time.AfterFunc(c.Patience, w.giveUp)
	return w
}

func (w *wait) giveUp() {
	w.cancel(&UnansweredError{w.client.socket, w.request, w.client.Patience})
}

func (w *wait) close() {
	w.timer.Stop()
	w.cancel(nil)
}

// watch takes the bound off, and gives up instead when the daemon, asked for its status
// at once and now and then, does not answer.
func (w *wait) watch() {
	w.timer.Stop()
	go func() {
		tick := time.NewTicker(w.client.Patience)
		defer tick.Stop()
		for {
			var silent *UnansweredError
			if _, err := w.client.Status(w.ctx); errors.As(err, &silent) {
				w.giveUp()
				return
			}
			select {
			case <-w.ctx.Done():
				return
			case <-tick.C:
			}
		}
	}()
}

// An InterruptedError says that the caller did not want to wait any longer.
type InterruptedError struct {
	Request string // what was waited for
	cause   error
}

// Error implements error.
func (e *InterruptedError) Error() string { return "interrupted while waiting for " + e.Request }

// Unwrap returns what ended the caller's context.
func (e *InterruptedError) Unwrap() error { return e.cause }

// cause returns what the request failed by: the daemon's silence, where that is it, or
// the caller.
func (w *wait) cause(err error) error {
	var silent *UnansweredError
	if errors.As(context.Cause(w.ctx), &silent) {
		return silent
	}
	if ended := w.parent.Err(); errors.Is(ended, context.Canceled) {
		return &InterruptedError{w.request, ended}
	}
	return err
}

// sendBy sends a request and returns a good answer, whose body is the caller's to close.
func (c *Client) sendBy(by *http.Client, req *http.Request, l length) (*http.Response, error) {
	w := c.newWait(req.Context(), req.Method+" "+req.URL.Path)
	if l == long {
		w.watch()
	}
	resp, err := by.Do(req.WithContext(w.ctx))
	if err == nil && resp.StatusCode != http.StatusOK {
		err = refusal(resp)
		w.close()
		return nil, err
	}
	if err != nil {
		err = w.cause(c.explain(req.Context(), err))
		w.close()
		return nil, err
	}
	if l == streamed {
		w.watch()
	}
	resp.Body = &patientBody{resp.Body, w, l}
	return resp, nil
}

// A patientBody ends its wait when it is closed.
type patientBody struct {
	io.ReadCloser
	wait   *wait
	length length
}

// Read implements io.Reader. What the caller does between two reads is not waited for.
func (b *patientBody) Read(p []byte) (int, error) {
	if b.length == brief {
		b.wait.timer.Reset(b.wait.client.Patience)
		defer b.wait.timer.Stop()
	}
	n, err := b.ReadCloser.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = b.wait.cause(err)
	}
	return n, err
}

// Close implements io.Closer.
func (b *patientBody) Close() error {
	err := b.ReadCloser.Close()
	b.wait.close()
	return err
}
