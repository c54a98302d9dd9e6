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
// killed in between repeats a record rather than loses it.
//
// One goroutine reads; wake may be called from any.
type ring struct {
	size     uint64
	consumer []byte // one page, read and written
	producer []byte // one page, then the data twice in a row, read only
	data     []byte
	epoll    int
	waker    int // eventfd
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
// there were. The bytes are valid during the call only. A record counts as consumed
// when fn has returned.
func (r *ring) read(limit int, fn func([]byte)) int {
	n := 0
	at := atomic.LoadUint64(position(r.consumer))
	for n < limit {
		end := atomic.LoadUint64(position(r.producer))
		if at >= end {
			break
		}
		for at < end && n < limit {
			start := at & (r.size - 1)
			word := atomic.LoadUint32((*uint32)(unsafe.Pointer(&r.data[start])))
			if word&ringBusy != 0 {
				return n
			}
			length := uint64(word &^ (ringBusy | ringDiscard))
			if word&ringDiscard == 0 {
				fn(r.data[start+ringHeaderSize : start+ringHeaderSize+length])
				n++
			}
			at += (length + ringHeaderSize + 7) &^ 7
			atomic.StoreUint64(position(r.consumer), at)
		}
	}
	return n
}

// used is how many bytes wait to be read.
func (r *ring) used() uint64 {
	return atomic.LoadUint64(position(r.producer)) - atomic.LoadUint64(position(r.consumer))
}

// wait blocks until the programs or wake ask for attention, or for the time given.
func (r *ring) wait(d time.Duration) error {
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
