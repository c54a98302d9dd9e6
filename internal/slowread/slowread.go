// SPDX-License-Identifier: Apache-2.0

// Package slowread bounds the reads that the process read of can make last for ever: its
// environment and its arguments lie behind its memory lock, which it can hold as long as it
// likes (a page fault on a file system of its own, say). There is no way to call such a read
// off, and each keeps a thread. So each goes on the account of the user whose process it is:
// whose processes do not answer is not asked any more, and everybody else is.
package slowread

import (
	"context"
	"errors"
	"sync"
)

// Bounds on the reads that have begun and not ended.
const (
	// PerUser is how many of one user's processes are read at once.
	PerUser = 4
	// All is how many are read at once, and Others how many of them may be those of users
	// other than root.
	All    = 64
	Others = 48
)

// ErrBusy says that a read was not begun: too many others have not ended.
var ErrBusy = errors.New("too many reads have not ended")

// Reads are the reads under way. The zero value is ready for use, from any goroutine.
type Reads struct {
	// Each is how many of an account's are read at once; 0 is PerUser. Set it before use.
	Each int

	mu     sync.Mutex
	users  map[uint32]*account
	all    int
	others int // of all but root
	// stuckOthers is how many of those nobody waits for any more.
	stuckOthers int
	ended       chan struct{} // closed when one ends
}

// An account is what one user's processes take.
type account struct {
	running int
	stuck   int // of these nobody waits any more
}

// Do returns what read returns, or the context's error when that comes first; the read then
// goes on, and has no effect. Uid is the user whose process is read; who reads those of one
// user alone may have an account for each process. Where there is no room
// for one more, Do waits for others of the user's to end, but not for those that were given
// up: then it returns ErrBusy at once.
func Do[T any](ctx context.Context, r *Reads, uid uint32, read func() (T, error)) (T, error) {
	var zero T
	if err := r.begin(ctx, uid); err != nil {
		return zero, err
	}
	type result struct {
		value T
		err   error
	}
	done := make(chan result, 1)
	go func() {
		value, err := read()
		done <- result{value, err}
		close(done)
	}()
	select {
	case got := <-done:
		r.end(uid, false)
		return got.value, got.err
	case <-ctx.Done():
		r.giveUp(uid)
		go func() {
			<-done
			r.end(uid, true)
		}()
		return zero, ctx.Err()
	}
}

// begin takes room for a read, or waits for it.
func (r *Reads) begin(ctx context.Context, uid uint32) error {
	for {
		ended, err := r.tryBegin(uid)
		if ended == nil {
			return err
		}
		select {
		case <-ended:
		case <-ctx.Done():
			return ErrBusy
		}
	}
}

// tryBegin takes room for a read. Where there is none yet, it returns what tells that one has
// ended.
func (r *Reads) tryBegin(uid uint32) (ended <-chan struct{}, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.users == nil {
		r.users, r.ended = make(map[uint32]*account), make(chan struct{})
	}
	a := r.users[uid]
	if a == nil {
		a = &account{}
	}
	switch {
	case a.stuck >= r.each() || r.stuckOthers >= Others && uid != 0:
		return nil, ErrBusy
	case a.running >= r.each() || r.all >= All || uid != 0 && r.others >= Others:
		return r.ended, nil
	}
	r.users[uid] = a
	r.count(uid, 1)
	return nil, nil
}

func (r *Reads) each() int {
	if r.Each > 0 {
		return r.Each
	}
	return PerUser
}

func (r *Reads) count(uid uint32, n int) {
	r.users[uid].running += n
	r.all += n
	if uid != 0 {
		r.others += n
	}
}

// giveUp notes that nobody waits for one of the user's reads any more.
func (r *Reads) giveUp(uid uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.addStuck(uid, 1)
}

func (r *Reads) addStuck(uid uint32, n int) {
	r.users[uid].stuck += n
	if uid != 0 {
		r.stuckOthers += n
	}
}

func (r *Reads) end(uid uint32, stuck bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.users[uid]
	if stuck {
		r.addStuck(uid, -1)
	}
	if r.count(uid, -1); a.running == 0 {
		delete(r.users, uid)
	}
	close(r.ended)
	r.ended = make(chan struct{})
}

// Stuck is how many reads were given up and have not ended.
func (r *Reads) Stuck() (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, a := range r.users {
		n += a.stuck
	}
	return n
}
