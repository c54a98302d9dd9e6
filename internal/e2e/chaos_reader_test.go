// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/wire"
)

// A staller asks the daemon and does not read the answer.
type staller struct {
	t    testing.TB
	conn net.Conn
}

func stall(t testing.TB, d *daemon, path string) *staller {
	t.Helper()
	conn, err := net.Dial("unix", d.socket())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if _, err := io.WriteString(conn, "GET "+path+" HTTP/1.0\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	return &staller{t, conn}
}

// account reads what the daemon has for it, up to the exit of the process, and wants
// every event from the first to that one delivered, or told as missed.
func (s *staller) account(pid int) (delivered, missed uint64) {
	s.t.Helper()
	if err := s.conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
		s.t.Fatal(err)
	}
	r := bufio.NewReader(s.conn)
	for line := ""; line != "\r\n"; {
		var err error
		if line, err = r.ReadString('\n'); err != nil {
			s.t.Fatal(err)
		}
	}
	var first, last uint64
	for dec := json.NewDecoder(r); last == 0 || delivered+missed < last-first+1; {
		var e wire.Event
		if err := dec.Decode(&e); err != nil {
			s.t.Fatalf("after %d events and %d missed: %v", delivered, missed, err)
		}
		switch {
		case e.Seq == 0:
			missed += e.Lost.Records
		case first == 0:
			first = e.Seq
			fallthrough
		default:
			delivered++
		}
		if e.Type == wire.TypeExit && int(e.Process.PID) == pid {
			last = e.Seq
		}
	}
	if delivered+missed != last-first+1 {
		s.t.Errorf("%d delivered and %d missed, of %d", delivered, missed, last-first+1)
	}
	return delivered, missed
}

// memory is what the daemon holds that is its own, in bytes: neither files nor the ring.
func (d *daemon) memory() uint64 {
	d.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.cmd.Process.Pid))
	if err != nil {
		d.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(text), "RssAnon:")
	kb, err := strconv.ParseUint(strings.Fields(rest)[0], 10, 64)
	if err != nil {
		d.t.Fatal(err)
	}
	return kb << 10
}

// TestChaosStalledReaders has many readers of the whole stream stall one after the
// other, so that no two wait for the same events. The daemon's memory stays bounded, it
// loses nothing, it answers others, and whoever reads again is told what it missed.
func TestChaosStalledReaders(t *testing.T) {
	readers := either(60, 400)
	const forks = 150 // between two of them
	d := startDaemon(t, ruleless)
	before := d.memory()
	var stalled []*staller
	for range readers {
		stalled = append(stalled, stall(t, d, "/v1/events?follow=1"))
		startStorm(t, forks, "(:)").wait()
	}
	t.Logf("%d MiB before, %d MiB with %d readers stalled", before>>20, d.memory()>>20, readers)
}
