// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/rawsys"
)

// Bits of a record's length word, and its header's size (include/uapi/linux/bpf.h).
const (
	ringBusy       = 1 << 31
	ringDiscard    = 1 << 30
	ringHeaderSize = 8
)

// ring reads a BPF ring buffer in place. It differs from the library's reader in
// when it gives a record back: after it was handled, not before, so that a reader
// killed in between repeats a record rather than loses it. It can hold back what was
// handled until its effect is saved.
//
// One goroutine reads; wake may be called from any.
type ring struct {
	size       uint64
	at         uint64 // handled so far
	hold       uint64 // how many handled bytes wait for commit at most; 0 is none
	stop       uint64 // where reading ends for good; 0 is nowhere
	consumer   []byte // one page, read and written
	producer   []byte // one page, then the data twice in a row, read only
	data       []byte
	epoll      *os.File // watches the ring, waker and timer; the runtime's poller watches it
	onReadable func(fd uintptr) bool
	conn       syscall.RawConn // of epoll
	waker      int             // eventfd
	timer      int             // timerfd
	// stalled says that read stopped at a record that somebody was still writing. What
	// follows it may have asked for attention already, and it will not ask again.
	stalled bool
	enough  bool // read is to return after the record at hand
}

// newRing maps the ring buffer map behind fd, of size bytes, which is a power of two.
// The fd stays the caller's.
func newRing(fd int, size uint32) (_ *ring, err error) {
	page := os.Getpagesize()
	r := &ring{size: uint64(size), waker: -1, timer: -1}
	defer func() {
		if err != nil {
			r.close()
		}
	}()
	if r.consumer, err = unix.Mmap(fd, 0, page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return nil, fmt.Errorf("map ring consumer page: %w", err)
	}
	if r.producer, err = unix.Mmap(fd, int64(page), page+2*int(size), unix.PROT_READ, unix.MAP_SHARED); err != nil {
		return nil, fmt.Errorf("map ring data: %w", err)
	}
	r.data = r.producer[page:]
	r.at = atomic.LoadUint64(position(r.consumer))
	if used := r.used(); r.at%8 != 0 || used > r.size {
		return nil, fmt.Errorf("%w: ring at %d with %d bytes waiting", ErrMalformed, r.at, used)
	}
	if err = r.watch(fd); err != nil {
		return nil, fmt.Errorf("watch ring: %w", err)
	}
	return r, nil
}

// watch makes the epoll instance that wait asks. The goroutine sleeps in the runtime's
// poller, and by a timer of the kernel's. In a system call of its own the runtime's
// monitor thread would look every 20 us whether it has ended, and a timer of the
// runtime's would start another thread to watch it: either costs more than all that is
// read.
func (r *ring) watch(fd int) error {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return err
	}
	if err := unix.SetNonblock(epoll, true); err != nil {
		return errors.Join(err, unix.Close(epoll))
	}
	r.epoll = os.NewFile(uintptr(epoll), "epoll")
	if r.waker, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return fmt.Errorf("eventfd: %w", err)
	}
	if r.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK); err != nil {
		return fmt.Errorf("timerfd: %w", err)
	}
	// Edge-triggered, so that records which were sent without a wake-up do not end a wait.
	for _, w := range []int{fd, r.waker, r.timer} {
		ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(w)}
		if err := unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, w, &ev); err != nil {
			return err
		}
	}
	r.onReadable = r.takeWakeup
	r.conn, err = r.epoll.SyscallConn()
	return err
}

func position(page []byte) *uint64 { return (*uint64)(unsafe.Pointer(unsafe.SliceData(page))) }

// read calls fn for at most limit complete records in order and returns how many
// there were. The bytes are valid during the call only. A record counts as handled
// when fn has returned.
func (r *ring) read(limit int, fn func([]byte)) int {
	n := 0
	r.stalled, r.enough = false, false
	for n < limit && !r.enough {
		end := r.end()
		if r.at >= end {
			break
		}
		for r.at < end && n < limit && !r.enough {
			word, next := r.record(r.at)
			if word&ringBusy != 0 {
				r.stalled = true
				return n
			}
			if word&ringDiscard == 0 {
				start := r.at&(r.size-1) + ringHeaderSize
				fn(r.data[start : start+uint64(word)])
				n++
			}
			r.at = next
			r.release()
		}
	}
	return n
}

// record returns the length word of the record at a position, and where the next is.
func (r *ring) record(at uint64) (word uint32, next uint64) {
	word = atomic.LoadUint32((*uint32)(unsafe.Pointer(&r.data[at&(r.size-1)])))
	length := uint64(word &^ (ringBusy | ringDiscard))
	return word, at + (length+ringHeaderSize+7)&^7
}

// release returns the oldest handled records to the kernel, as far as more than hold
// bytes of them wait.
func (r *ring) release() {
	from := atomic.LoadUint64(position(r.consumer))
	to := from
	for r.at-to > r.hold {
		_, to = r.record(to)
	}
	if to != from {
		atomic.StoreUint64(position(r.consumer), to)
	}
}

// commit returns to the kernel what was handled before the position, which was that
// of the reader once.
func (r *ring) commit(at uint64) {
	if from := atomic.LoadUint64(position(r.consumer)); at > from && at <= r.at {
		atomic.StoreUint64(position(r.consumer), at)
	}
}

// skip takes what lies before the position for handled. It reports false where no
// record begins there.
func (r *ring) skip(to uint64) bool {
	end := r.end()
	at := r.at
	for at < to && at < end {
		word, next := r.record(at)
		if word&ringBusy != 0 {
			break
		}
		at = next
	}
	if at != to {
		return false
	}
	r.at = to
	r.release()
	return true
}

// count is how many records wait to be read. Only the lengths are looked at, which
// are the kernel's own: the records may be of any layout.
func (r *ring) count() (n uint64) {
	end := r.end()
	for at := r.at; at < end; {
		word, next := r.record(at)
		if word&(ringBusy|ringDiscard) == 0 {
			n++
		}
		at = next
	}
	return n
}

// end is where what can be read ends.
func (r *ring) end() uint64 {
	end := atomic.LoadUint64(position(r.producer))
	if r.stop != 0 {
		end = min(end, r.stop)
	}
	return end
}

// written is where the newest record ends, complete or not. From any goroutine.
func (r *ring) written() uint64 { return atomic.LoadUint64(position(r.producer)) }

// stopAtEnd makes the records that are there by now the last ones.
func (r *ring) stopAtEnd() { r.stop = r.end() }

// used is how many bytes wait to be read.
func (r *ring) used() uint64 { return r.end() - r.at }

// held is how many bytes were handled and wait for commit.
func (r *ring) held() uint64 { return r.at - atomic.LoadUint64(position(r.consumer)) }

// wait blocks until the programs or wake ask for attention, or for the time given.
func (r *ring) wait(d time.Duration) error {
	if r.stalled {
		d = min(d, time.Millisecond)
	}
	// A timer of nothing is one that never rings.
	at := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(max(d, 1)))}
	if err := rawsys.TimerfdSettime(r.timer, &at); err != nil {
		return fmt.Errorf("wait for ring: set timer: %w", err)
	}
	if err := r.conn.Read(r.onReadable); err != nil {
		return fmt.Errorf("wait for ring: %w", err)
	}
	return nil
}

// takeWakeup reports whether anyone asked for attention, and takes note of it.
func (r *ring) takeWakeup(epoll uintptr) bool {
	var events [3]unix.EpollEvent
	n, err := rawsys.EpollPending(int(epoll), events[:])
	if err != nil {
		return false
	}
	for i := range n {
		if int(events[i].Fd) == r.waker {
			var b [8]byte
			_, _ = rawsys.Read(r.waker, b[:])
		}
	}
	return n > 0
}

// wake ends a wait.
func (r *ring) wake() {
	b := [8]byte{1}
	_, _ = unix.Write(r.waker, b[:])
}

func (r *ring) close() {
	if r.consumer != nil {
		_ = unix.Munmap(r.consumer)
	}
	if r.producer != nil {
		_ = unix.Munmap(r.producer)
	}
	if r.epoll != nil {
		_ = r.epoll.Close()
	}
	for _, fd := range []int{r.waker, r.timer} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
	r.consumer, r.producer, r.data, r.epoll, r.waker, r.timer = nil, nil, nil, nil, -1, -1
}
