// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/event"
)

// shortStall is soon over, but not before an answer has begun.
const shortStall = 500 * time.Millisecond

// A reader that takes nothing of a large answer does not keep it in memory.
func TestStalledReaderIsLeft(t *testing.T) {
	d := serveStalled(t, "", shortStall)
	// More than any socket buffer holds, of orphans too.
	const children = 5000
	events := []event.Event{forked(children+2, 0, "init"), forked(0, 1, "parent")}
	for n := range children {
		events = append(events, forked(1, 2+n, "worker"))
	}
	d.send(append(events, killed(1, "parent"))...)
	d.applied(t)
	for _, request := range []string{"GET /v1/tree HTTP/1.1\r\n", "GET /v1/tree HTTP/1.1\r\nAccept: text/plain\r\n",
		"GET /v1/orphans HTTP/1.1\r\n"} {
		t.Run(strings.TrimSpace(request), func(t *testing.T) {
			conn := d.dial(t)
			if _, err := io.WriteString(conn, request+"Host: x\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			answer := bufio.NewReader(conn)
			if _, err := answer.Peek(1); err != nil { // it has begun
				t.Fatal(err)
			}
			d.left(t)
			resp, err := http.ReadResponse(answer, nil)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, resp.Body); err == nil {
				t.Errorf("all %d bytes arrived: the answer is too small for this test", resp.ContentLength)
			}
		})
	}
	d.answers(t)
}

// The deadline of an answer is not that of the next on the same connection.
func TestDeadlineEndsWithItsAnswer(t *testing.T) {
	d := serveStalled(t, "", shortStall)
	conn := d.dial(t)
	answer := bufio.NewReader(conn)
	for i, path := range []string{"/v1/tree", "/v1/status"} {
		if i > 0 {
			<-time.After(2 * shortStall) // until the deadline has passed
		}
		if _, err := fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(answer, nil)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
	}
}

// held is how many connections the daemon has.
func (d *daemon) held() int {
	d.server.limit.mu.Lock()
	defer d.server.limit.mu.Unlock()
	return d.server.limit.all
}

// left waits until the daemon has no connection any more.
func (d *daemon) left(t *testing.T) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); d.held() > 0; <-tick.C {
		if time.Now().After(deadline) {
			t.Fatal("the daemon still waits for a reader that takes nothing")
		}
	}
}
