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

	"github.com/abot-trace/abot-trace/internal/boottime"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// A staller asks the daemon and does not read the answer.
type staller struct {
	t    testing.TB
	conn net.Conn
}

func stall(t testing.TB, d *daemon, path string) *staller {
	t.Helper()
	s, err := tryStall(t, d, path)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// tryStall is stall for a daemon that may be gone.
func tryStall(t testing.TB, d *daemon, path string) (*staller, error) {
	conn, err := net.Dial("unix", d.socket())
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { conn.Close() })
	_, err = io.WriteString(conn, "GET "+path+" HTTP/1.0\r\n\r\n")
	return &staller{t, conn}, err
}

// upTo reads what the daemon has for it, up to the exit of the process.
func (s *staller) upTo(pid int, fn func(*wire.Event)) {
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
	dec := json.NewDecoder(r)
	for n := 0; ; n++ {
		var e wire.Event
		if err := dec.Decode(&e); err != nil {
			s.t.Fatalf("after %d events: %v", n, err)
		}
		fn(&e)
		if e.Type == wire.TypeExit && int(e.Process.PID) == pid {
			return
		}
	}
}

// account reads up to the exit of the process, and wants every event from the first to
// that one delivered, or told as missed.
func (s *staller) account(pid int) (delivered, missed uint64) {
	s.t.Helper()
	var first, last uint64
	s.upTo(pid, func(e *wire.Event) {
		if e.Seq == 0 {
			missed += e.Lost.Records
			return
		}
		if first == 0 {
			first, missed = e.Seq, 0 // what it missed before has no beginning to count from
		}
		last = e.Seq
		delivered++
	})
	if first == 0 || delivered+missed != last-first+1 {
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
// other, so that no two wait for the same events: half of them before the past that they
// asked for, half in what came. The daemon's memory stays bounded, it loses nothing, it
// answers others, and whoever reads again is told what it missed.
func TestChaosStalledReaders(t *testing.T) {
	readers, bound := either(60, 400), uint64(300<<20)
	if race {
		bound *= 4 // its notes about every word
	}
	const forks = 20 // between two of them
	d := startDaemon(t, ruleless)
	before := d.memory()
	var inPast, inStream []*staller
	for i := range readers {
		if i%2 == 0 {
			inPast = append(inPast, stall(t, d, "/v1/events?follow=1"))
		} else {
			inStream = append(inStream, stall(t, d, fmt.Sprintf("/v1/events?follow=1&since=%d", boottime.Now())))
		}
		startStorm(t, forks, "(:)").wait()
	}
	if *long {
		startStorm(t, 6000, bulky).wait() // more than waits for any reader
	}
	p := newPair(t, "amid stalled readers")
	p.killMain()
	d.wantLeaks([]*pair{p}, 0)
	d.wantComplete()
	if after := d.memory(); after > before+bound {
		t.Errorf("%d MiB before, %d MiB with %d readers stalled", before>>20, after>>20, readers)
	} else {
		t.Logf("%d MiB before, %d MiB with %d readers stalled", before>>20, after>>20, readers)
	}
	for i := 0; i < len(inStream); i += 10 {
		delivered, missed := inStream[i].account(p.cmd.Process.Pid)
		t.Logf("reader %d: %d events delivered, %d missed", i, delivered, missed)
		if *long && missed == 0 {
			t.Errorf("reader %d missed nothing: the test shows nothing", i)
		}
	}
	// Who was told that its past was missed, or was given it, goes on all the same.
	inPast[len(inPast)-1].upTo(p.cmd.Process.Pid, func(*wire.Event) {})
}
