// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/trace"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// maxKept is how large a buffer may be that is kept for the next lines.
const maxKept = 1 << 20

// farewell bounds the last words to a reader.
const farewell = 100 * time.Millisecond

// A follower is a reader of the stream: a connection that the HTTP server has handed
// over. As long as its socket has room the tracer's loop writes to it, without a wait and
// without another thread that would have to wake first. What does not fit is written by
// the follower's own goroutine.
type follower struct {
	lines   *trace.Lines
	conn    net.Conn
	raw     syscall.RawConn
	chunked bool
	more    chan struct{} // the goroutine is to look

	mu   sync.Mutex // held by whoever writes
	buf  []byte
	rest []byte // of buf
}

// follow streams what is remembered since an instant and then what comes, until the
// reader leaves, the server ends, or the stream does.
func (s *Server) follow(w http.ResponseWriter, r *http.Request, types []string, since uint64) error {
	if !s.following.TryRLock() {
		return trace.ErrStopped
	}
	defer s.following.RUnlock()
	f := &follower{chunked: r.ProtoAtLeast(1, 1), more: make(chan struct{}, 1)}
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
	var text []byte
	for _, e := range past {
		text = wire.AppendEvent(text, e)
	}
	if len(text) > 0 {
		f.rest = f.frame(f.rest, text)
	}
	f.look()
}

// look lets the goroutine look, now or when it is done with what it does.
func (f *follower) look() {
	select {
	case f.more <- struct{}{}:
	default: // it will look anyway
	}
}

// frame appends text as the transfer coding has it.
func (f *follower) frame(to []byte, text ...[]byte) []byte {
	if !f.chunked {
		for _, t := range text {
			to = append(to, t...)
		}
		return to
	}
	size := 0
	for _, t := range text {
		size += len(t)
	}
	to = fmt.Appendf(to, "%x\r\n", size)
	for _, t := range text {
		to = append(to, t...)
	}
	return append(to, "\r\n"...)
}

// fill puts what is new into rest, and reports whether there is anything. With mu.
func (f *follower) fill() bool {
	if len(f.rest) > 0 {
		return true
	}
	lines, missed, since := f.lines.Take()
	if missed > 0 {
		lines = append(lines, wire.AppendEvent(nil, Missed(missed, since)))
	}
	if len(lines) == 0 {
		return false
	}
	if cap(f.buf) > maxKept {
		f.buf = nil
	}
	f.buf = f.frame(f.buf[:0], lines...)
	f.rest = f.buf
	return true
}

// news writes as much as the socket takes at once. On the tracer's loop.
func (f *follower) news() {
	if f.mu.TryLock() {
		behind := len(f.rest) > 0
		if !behind && f.fill() {
			_ = f.raw.Write(f.try)
			behind = len(f.rest) > 0
		}
		f.mu.Unlock()
		if !behind {
			return
		}
	}
	f.look()
}

// try writes what the socket has room for. The system call does not block, so that the
// scheduler need not hear of it.
func (f *follower) try(fd uintptr) (done bool) {
	n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, fd, uintptr(unsafe.Pointer(unsafe.SliceData(f.rest))), uintptr(len(f.rest)),
		unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
	if errno == 0 {
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
	if f.write() == nil && f.chunked {
		_, _ = io.WriteString(f.conn, "0\r\n\r\n")
	}
}
