// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"fmt"
	"os"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
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
	size     uint64
	at       uint64 // handled so far
	hold     uint64 // how many handled bytes wait for commit at most; 0 is none
	stop     uint64 // where reading ends for good; 0 is nowhere
	consumer []byte // one page, read and written
	producer []byte // one page, then the data twice in a row, read only
	data     []byte
	epoll    int
	waker    int // eventfd
	// stalled says that read stopped at a record that somebody was still writing. What
	// follows it may have asked for attention already, and it will not ask again.
	stalled bool
}

// newRing maps the ring buffer map behind fd, of size bytes, which is a power of two.
// The fd stays the caller's.
func newRing(fd int, size uint32) (_ *ring, err error) {
	page := os.Getpagesize()
	r := &ring{size: uint64(size), epoll: -1, waker: -1}
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
	if r.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	if r.waker, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	// Edge-triggered, so that records which were sent without a wake-up do not end a wait.
	for _, w := range []int{fd, r.waker} {
		ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(w)}
		if err = unix.EpollCtl(r.epoll, unix.EPOLL_CTL_ADD, w, &ev); err != nil {
			return nil, fmt.Errorf("watch ring: %w", err)
		}
	}
	return r, nil
}

func position(page []byte) *uint64 { return (*uint64)(unsafe.Pointer(unsafe.SliceData(page))) }

// read calls fn for at most limit complete records in order and returns how many
// there were. The bytes are valid during the call only. A record counts as handled
// when fn has returned.
func (r *ring) read(limit int, fn func([]byte)) int {
	n := 0
	r.stalled = false
	for n < limit {
		end := r.end()
		if r.at >= end {
			break
		}
		for r.at < end && n < limit {
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
			r.giveBack()
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

// giveBack returns the oldest handled records to the kernel, as far as more than hold
// bytes of them wait.
func (r *ring) giveBack() {
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
	r.giveBack()
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

// stopHere makes the records that are there by now the last ones.
func (r *ring) stopHere() { r.stop = r.end() }

// used is how many bytes wait to be read.
func (r *ring) used() uint64 { return r.end() - r.at }

// held is how many bytes were handled and wait for commit.
func (r *ring) held() uint64 { return r.at - atomic.LoadUint64(position(r.consumer)) }

// wait blocks until the programs or wake ask for attention, or for the time given.
func (r *ring) wait(d time.Duration) error {
	if r.stalled {
		d = min(d, time.Millisecond)
	}
	var events [2]unix.EpollEvent
	// epoll takes a negative time for eternity, and no more than 31 bits.
	ms := int(min(max(d+time.Millisecond-1, 0), 24*time.Hour) / time.Millisecond)
	n, err := unix.EpollWait(r.epoll, events[:], ms)
	if err != nil && err != unix.EINTR {
		return fmt.Errorf("wait for ring: %w", err)
	}
	for i := range max(n, 0) {
		if int(events[i].Fd) == r.waker {
			var b [8]byte
			_, _ = unix.Read(r.waker, b[:])
		}
	}
	return nil
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
	for _, fd := range []int{r.epoll, r.waker} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
	r.consumer, r.producer, r.data, r.epoll, r.waker = nil, nil, nil, -1, -1
}
