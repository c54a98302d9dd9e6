// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// JournalSocket is where journald listens for its native protocol
// (systemd's docs/JOURNAL_NATIVE_PROTOCOL.md).
const JournalSocket = "/run/systemd/journal/socket"

// Identifier is the SYSLOG_IDENTIFIER of every record.
const Identifier = "abot-trace"

// Bounds of what waits for journald.
const (
	queueRecords = 4096
	queueBytes   = 8 << 20
	sendTimeout  = time.Second
	maxBackoff   = 5 * time.Second
)

// A Journal sends records to journald from a goroutine of its own. A journald that
// is stopped, gone or slow delays nobody: records wait in a bounded queue, and when
// it is full the newest are dropped, counted, and told by a record of their own as
// soon as journald takes one again.
type Journal struct {
	path    string
	queue   chan []byte
	bytes   atomic.Int64
	dropped atomic.Uint64
	sent    atomic.Uint64

	closing   chan struct{} // no more records; flush
	abort     chan struct{} // flush no longer
	done      chan struct{}
	closeOnce sync.Once

	conn  *net.UnixConn // of the goroutine
	told  uint64        // dropped records told so far
	given int           // up, in the middle of its delivery, by an abort; after done
}

// NewJournal starts a Journal that sends to the socket at path; empty is
// [JournalSocket]. It need not exist yet. The caller closes the Journal.
func NewJournal(path string) *Journal {
	if path == "" {
		path = JournalSocket
	}
	j := &Journal{path: path, queue: make(chan []byte, queueRecords),
		closing: make(chan struct{}), abort: make(chan struct{}), done: make(chan struct{})}
	go j.run()
	return j
}

// Send queues a record and returns at once; false means that it was dropped. Any
// goroutine may call it.
func (j *Journal) Send(r Record) bool {
	data := encode(r)
	size := int64(len(data))
	if j.bytes.Add(size) > queueBytes {
		j.bytes.Add(-size)
		j.dropped.Add(1)
		return false
	}
	select {
	case <-j.closing:
	default:
		select {
		case j.queue <- data:
			return true
		default:
		}
	}
	j.bytes.Add(-size)
	j.dropped.Add(1)
	return false
}

// Sent and Dropped count records since the start.
func (j *Journal) Sent() uint64 { return j.sent.Load() }

// Dropped counts the records that were given up.
func (j *Journal) Dropped() uint64 { return j.dropped.Load() }

// Close sends what waits, until ctx ends, and returns an error if something
// remained.
func (j *Journal) Close(ctx context.Context) error {
	j.closeOnce.Do(func() { close(j.closing) })
	select {
	case <-j.done:
	case <-ctx.Done():
		close(j.abort)
		<-j.done
	}
	if n := len(j.queue) + j.given; n > 0 {
		return fmt.Errorf("journald: %d records were not sent", n)
	}
	return nil
}

func (j *Journal) run() {
	defer close(j.done)
	defer func() {
		if j.conn != nil {
			j.conn.Close()
		}
	}()
	for {
		var data []byte
		select {
		case data = <-j.queue:
		case <-j.closing:
			select {
			case data = <-j.queue:
			default:
				return
			}
		}
		if !j.deliver(data) {
			j.dropped.Add(1)
			j.given = 1
			return
		}
		j.bytes.Add(-int64(len(data)))
		j.tellDropped()
	}
}

// deliver tries until journald has the record; false means to give up.
func (j *Journal) deliver(data []byte) bool {
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, maxBackoff) {
		err := j.write(data)
		if err == nil {
			j.sent.Add(1)
			return true
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) && j.conn != nil {
			j.conn.Close()
			j.conn = nil
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-j.abort:
			timer.Stop()
			return false
		}
	}
}

// tellDropped reports new losses, once journald has taken a record again.
func (j *Journal) tellDropped() {
	total := j.dropped.Load()
	if total == j.told {
		return
	}
	r := Record{Severity: SeverityWarning, Message: fmt.Sprintf("%d records were dropped while journald did not take any", total-j.told),
		Fields: []Field{{"MESSAGE_ID", DroppedID}, {"ABOT_EVENT", "dropped"}, {"ABOT_LOST", strconv.FormatUint(total-j.told, 10)}}}
	if j.write(encode(r)) == nil {
		j.sent.Add(1)
		j.told = total
	}
}

// write sends one record, in a memory file where it does not fit a datagram.
func (j *Journal) write(data []byte) error {
	if j.conn == nil {
		// Connected, so that a full queue at the other end shows as not writable: an
		// unconnected socket would be polled in a busy loop.
		conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: j.path, Net: "unixgram"})
		if err != nil {
			return err
		}
		j.conn = conn
	}
	if err := j.conn.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
		return err
	}
	_, err := j.conn.Write(data)
	if errors.Is(err, unix.EMSGSIZE) || errors.Is(err, unix.ENOBUFS) {
		return j.writeFile(data)
	}
	return err
}

// writeFile passes a record as a sealed memory file.
func (j *Journal) writeFile(data []byte) error {
	fd, err := unix.MemfdCreate(Identifier, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return fmt.Errorf("memfd: %w", err)
	}
	file := os.NewFile(uintptr(fd), Identifier)
	defer file.Close()
	if _, err := file.Write(data); err != nil {
		return fmt.Errorf("memfd: %w", err)
	}
	const seals = unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE | unix.F_SEAL_SEAL
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		return fmt.Errorf("seal memfd: %w", err)
	}
	// net.UnixConn passes no descriptors on a connected datagram socket.
	raw, err := j.conn.SyscallConn()
	if err != nil {
		return err
	}
	waitErr := raw.Write(func(socket uintptr) bool {
		err = unix.Sendmsg(int(socket), nil, unix.UnixRights(fd), nil, unix.MSG_NOSIGNAL)
		return !errors.Is(err, unix.EAGAIN)
	})
	return errors.Join(waitErr, err)
}

// encode frames a record. Every value is framed by its length, so that none can
// end early and begin a field of its own.
func encode(r Record) []byte {
	size := 128 + len(r.Message)
	for _, f := range r.Fields {
		size += len(f.Name) + len(f.Value) + 10
	}
	out := make([]byte, 0, size)
	out = appendField(out, "MESSAGE", r.Message)
	out = appendField(out, "PRIORITY", strconv.Itoa(r.Severity.priority()))
	out = appendField(out, "SYSLOG_IDENTIFIER", Identifier)
	for _, f := range r.Fields {
		out = appendField(out, f.Name, f.Value)
	}
	return out
}

func appendField(out []byte, name, value string) []byte {
	out = append(out, name...)
	out = append(out, '\n')
	out = binary.LittleEndian.AppendUint64(out, uint64(len(value)))
	out = append(out, value...)
	return append(out, '\n')
}
