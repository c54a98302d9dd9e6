// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/abot-trace/abot-trace/internal/rawsys"
	"github.com/abot-trace/abot-trace/internal/stream"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// portion is how much text a reader has of its own at a time. The rest waits with the
// tracer, where it is the same for all readers.
const portion = 128 << 10

// maxPast is how much of the past may wait for readers that have yet to take it.
const maxPast = 64 << 20

// farewell bounds the last words to a reader.
const farewell = 100 * time.Millisecond

// A follower is a reader of the stream: a connection that the HTTP server has handed
// over. As long as its socket has room the tracer's loop writes to it, without a wait and
// without another thread that would have to wake first. What does not fit is written by
// the follower's own goroutine.
type follower struct {
	lines   *stream.Lines
	conn    net.Conn
	raw     syscall.RawConn
	chunked bool
	more    chan struct{} // the goroutine is to look

	mu   sync.Mutex // held by whoever writes
	buf  []byte
	rest []byte // of buf, or the past
	held int64  // how much the reader's part of past is
	// ended says that the last words are written: nothing may follow them.
	ended bool

	past *atomic.Int64 // bytes that wait for readers of the server
}

// follow streams what is remembered since an instant and then what comes, until the
// reader leaves, the server ends, or the stream does.
func (s *Server) follow(w http.ResponseWriter, r *http.Request, types []string, since uint64) error {
	f := &follower{chunked: r.ProtoAtLeast(1, 1), more: make(chan struct{}, 1), past: &s.past}
	f.mu.Lock() // until the past is written
	past, lines, err := s.backend.Follow(r.Context(), types, since, f.news)
	if err != nil {
		return err
	}
	f.lines = lines
	defer lines.Close()
	if err := f.hijack(w); err != nil {
		return err
	}
	f.begin(past)
	ctx, cancel := context.WithCancel(r.Context())
	left := make(chan struct{})
	go func() {
		defer close(left)
		defer cancel()
		_, _ = io.Copy(io.Discard, f.conn) // a reader says nothing but that it leaves
	}()
	stop := context.AfterFunc(ctx, func() { _ = f.conn.SetWriteDeadline(time.Now().Add(farewell)) })
	f.serve(ctx)
	stop()
	_ = f.conn.Close()
	<-left
	f.mu.Lock()
	defer f.mu.Unlock()
	f.releasePast()
	return nil
}

// hijack takes the connection over.
func (f *follower) hijack(w http.ResponseWriter) error {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return fmt.Errorf("take over connection: %w", err)
	}
	f.conn = conn
	_ = conn.SetDeadline(time.Time{})
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return fmt.Errorf("take over connection: a %T is no socket", conn)
	}
	f.raw, err = sc.SyscallConn()
	return err
}

// begin makes the answer's head and the past the first that is written.
func (f *follower) begin(past []*wire.Event) {
	defer f.mu.Unlock()
	f.rest = append(f.rest, "HTTP/1.1 200 OK\r\nContent-Type: "+eventsType+"\r\nConnection: close\r\n"...)
	if f.chunked {
		f.rest = append(f.rest, "Transfer-Encoding: chunked\r\n"...)
	}
	f.rest = append(f.rest, "\r\n"...)
	if text := f.tell(past); len(text) > 0 {
		head := len(f.rest)
		f.rest = f.frame(append(f.headed(f.rest), text...), head)
	}
	f.wake()
}

// tell is the past as text, as long as there is room for it until the reader takes it.
func (f *follower) tell(past []*wire.Event) []byte {
	if len(past) == 0 {
		return nil
	}
	var text []byte
	for _, e := range past {
		text = wire.AppendEvent(text, e)
	}
	f.held = int64(len(text))
	if f.past.Add(f.held) > maxPast {
		f.past.Add(-f.held)
		f.held = 0
		return wire.AppendEvent(nil, Missed(uint64(len(past)), past[0].TimeNS))
	}
	return text
}

// releasePast makes room for another reader's past. With mu.
func (f *follower) releasePast() {
	f.past.Add(-f.held)
	f.held, f.rest = 0, nil
}

// chunkHead is the head of a chunk whose size is filled in when it is known.
const chunkHead = "00000000\r\n"

// headed leaves room for the head of what is appended next.
func (f *follower) headed(to []byte) []byte {
	if !f.chunked {
		return to
	}
	return append(to, chunkHead...)
}

// frame makes what was appended since headed a chunk, where the transfer coding has such.
func (f *follower) frame(to []byte, head int) []byte {
	if !f.chunked {
		return to
	}
	size := len(to) - head - len(chunkHead)
	for i := strings.IndexByte(chunkHead, '\r') - 1; size > 0; i-- {
		to[head+i] = "0123456789abcdef"[size%16]
		size /= 16
	}
	return append(to, "\r\n"...)
}

// fill puts what is new into rest, and reports whether there is anything. With mu.
func (f *follower) fill() bool {
	if len(f.rest) > 0 {
		return true
	}
	f.releasePast()
	if cap(f.buf) > 2*portion {
		f.buf = nil
	}
	f.buf = f.headed(f.buf[:0])
	begin := len(f.buf)
	missed, since, text := f.lines.Take(f.buf, portion)
	if missed > 0 {
		text = slices.Insert(text, begin, wire.AppendEvent(nil, Missed(missed, since))...)
	}
	if f.buf = text; len(text) == begin {
		return false
	}
	f.buf = f.frame(text, 0)
	f.rest = f.buf
	return true
}

// news writes as much as the socket takes at once. On the tracer's loop.
func (f *follower) news() {
	if f.mu.TryLock() {
		behind := len(f.rest) > 0 || f.ended
		for !behind && f.fill() {
			_ = f.raw.Write(f.try)
			behind = len(f.rest) > 0
		}
		f.mu.Unlock()
		if !behind {
			return
		}
	}
	f.wake()
}

// wake lets the goroutine look, now or when it is done with what it does.
func (f *follower) wake() {
	select {
	case f.more <- struct{}{}:
	default: // it will look anyway
	}
}

// try writes what the socket has room for.
func (f *follower) try(fd uintptr) (done bool) {
	if n, err := rawsys.Send(int(fd), f.rest); err == nil {
		f.rest = f.rest[n:]
	}
	return true // whatever the trouble is, the goroutine will meet it
}

// serve writes what the loop could not, until ctx or the stream ends.
func (f *follower) serve(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			f.end()
			return
		case <-f.lines.Done():
			f.end()
			return
		case <-f.more:
		}
		if f.write() != nil {
			return
		}
	}
}

func (f *follower) write() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.writeAll()
}

// writeAll is write with mu.
func (f *follower) writeAll() error {
	for f.fill() {
		n, err := f.conn.Write(f.rest)
		f.rest = f.rest[n:]
		if err != nil {
			return err
		}
	}
	return nil
}

// end writes what is left, and that it was all.
func (f *follower) end() {
	_ = f.conn.SetWriteDeadline(time.Now().Add(farewell))
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = true
	if f.writeAll() == nil && f.chunked {
		_, _ = io.WriteString(f.conn, "0\r\n\r\n")
	}
}
