// SPDX-License-Identifier: Apache-2.0

package enforce

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/wire"
)

// A tree for which there are not enough descriptors is ended in portions: those who got a
// pidfd first, then, when they are dead and their pidfds closed, the next.

// reservedFDs is how many descriptors a kill leaves to everything else: what is read of
// procfs before each signal, the socket, the state.
const reservedFDs = 12

// maxPortions bounds a tree that grows as fast as it is ended.
const maxPortions = 256

// fdLimit returns how many descriptors pidfds may be among.
func fdLimit() int {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return 1 << 20
	}
	return int(min(limit.Cur, 1<<20)) - reservedFDs
}

// pidfdWithin opens a pidfd where one is left below the limit; the lowest free number is
// what the kernel gives.
func pidfdWithin(pid int32, limit int) (int, error) {
	fd, err := pidfdOpen(pid)
	if err == nil && fd >= limit {
		unix.Close(fd)
		return -1, unix.EMFILE
	}
	return fd, err
}

// outOfFDs reports whether an error says that there are no descriptors left.
func outOfFDs(err error) bool { return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) }

// postpones reports whether the kill can come back to a process that got no descriptor.
func (k *kill) postpones(err error) bool {
	return outOfFDs(err) && k.req.Scope == wire.ScopeTree && !k.firstSignalsOnly
}

// nextPortion takes up who got no descriptor before, once those who had one are done. It
// reports whether there is anybody.
func (k *kill) nextPortion() bool {
	if !k.short || k.portions >= maxPortions || k.ctx.Err() != nil {
		return false
	}
	k.settle()
	for _, m := range k.members {
		if !m.live() && m.fd >= 0 {
			unix.Close(m.fd)
			m.fd = -1
		}
	}
	k.portions++
	k.passes = 0
	return k.refresh() > 0
}

// refusePostponed notes, at the end, who never got a descriptor.
func (k *kill) refusePostponed() {
	if !k.short || k.ctx.Err() != nil {
		return
	}
	targets, err := k.answers.Members(k.ctx, k.req)
	if err != nil {
		k.markPartial("members", err)
		return
	}
	for _, t := range targets {
		if !k.seen[t.ID] {
			m := &member{Target: t, fd: -1}
			m.end(wire.OutcomeRefused, fmt.Errorf("pidfd: %w", unix.EMFILE))
			k.members = append(k.members, m)
		}
	}
}
