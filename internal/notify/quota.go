// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/abot-trace/abot-trace/internal/wire"
)

// DefaultPerUser is how many notices a minute are told about processes of one user.
const DefaultPerUser = 600

// The notices of a minute are limited for each user and, at ten times that, for all
// together, so that nobody can fill the journal through us. Beside them each program that
// leaves orphans has a few of its own: a flood of one does not hide another. Leaks are counted
// apart, as many: the orphans of one must not hide the leak itself.
const (
	usersInAll     = 10
	quotaOfProgram = 5
	// maxQuotaUsers and maxQuotaPrograms bound what is remembered for a minute; those
	// beyond share what is one user's, or one program's.
	maxQuotaUsers    = 1024
	maxQuotaPrograms = 64
	quotaPeriod      = time.Minute
)

// unlimited are the events that are told whatever there is of them: what this program
// does, and what it is to be looked after for. Any process can make all others, as many as
// it likes.
var unlimited = []string{wire.TypeKill, wire.TypeLost, wire.TypeResync, wire.TypeAlert, wire.TypeOOM}

// A quota counts what was told of each user's processes since the last digest, and what
// was left out. Its methods may be called from any goroutine.
type quota struct {
	mu    sync.Mutex
	told  perClass[int]
	users map[uint32]*userQuota
}

type userQuota struct {
	name     string
	told     perClass[int]
	programs perClass[map[string]int] // told, by who left the orphan
	leftOut  map[string]int           // by event type
}

// A perClass has one of the same for each class of events that is counted for itself.
type perClass[T any] [2]T

// classOf tells leaks from all else.
func classOf(e *Event) int {
	if e.Leak != nil {
		return 1
	}
	return 0
}

// unknownUID stands for processes of whom no user is known, and for users beyond maxQuotaUsers.
const unknownUID = ^uint32(0)

// admit reports whether the event is to be told, at so many a minute for each user, and
// counts it.
func (q *quota) admit(e *Event, perUser int) bool {
	p := accountable(e)
	if p == nil || slices.Contains(unlimited, e.Type) {
		return true
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	u := q.user(p)
	class, program := classOf(e), programOf(p)
	programs := u.programs[class]
	if _, known := programs[program]; !known && len(programs) >= maxQuotaPrograms {
		program = ""
	}
	if (u.told[class] >= perUser || q.told[class] >= usersInAll*perUser) && programs[program] >= quotaOfProgram {
		u.leftOut[e.Type]++
		return false
	}
	programs[program]++
	u.told[class]++
	q.told[class]++
	return true
}

// user returns the account of a process's user. With mu.
func (q *quota) user(p *wire.Process) *userQuota {
	uid, name := unknownUID, "unknown users"
	if p.UID != nil {
		uid, name = *p.UID, cmp.Or(p.User, strconv.FormatUint(uint64(*p.UID), 10))
	}
	if q.users == nil {
		q.users = make(map[uint32]*userQuota)
	}
	if u := q.users[uid]; u != nil {
		return u
	}
	if len(q.users) >= maxQuotaUsers {
		uid, name = unknownUID, "other users"
		if u := q.users[uid]; u != nil {
			return u
		}
	}
	u := &userQuota{name: name, leftOut: make(map[string]int), programs: perClass[map[string]int]{make(map[string]int), make(map[string]int)}}
	q.users[uid] = u
	return u
}

// accountable is the process on whose account an event goes: of a leak, who left it.
func accountable(e *Event) *wire.Process {
	if l := e.Leak; l != nil {
		return &wire.Process{UID: l.Leaker.UID, User: l.Leaker.User, Comm: l.Leaker.Comm}
	}
	return e.Process
}

// programOf is what a process is a case of: of orphans, who left it.
func programOf(p *wire.Process) string {
	if p.Orphan != nil && p.Orphan.Leaker != nil {
		return p.Orphan.Leaker.Comm
	}
	return p.Comm
}

// digest returns, for each user of whose processes something was left out, a sentence
// that counts it, and begins anew.
func (q *quota) digest() []Digest {
	q.mu.Lock()
	users := q.users
	q.users, q.told = nil, perClass[int]{}
	q.mu.Unlock()
	var out []Digest
	for _, u := range users {
		if len(u.leftOut) == 0 {
			continue
		}
		total := 0
		var parts []string
		for _, kind := range slices.Sorted(maps.Keys(u.leftOut)) {
			total += u.leftOut[kind]
			parts = append(parts, fmt.Sprintf("%d %s", u.leftOut[kind], kind))
		}
		out = append(out, Digest{User: u.name, LeftOut: total, Text: fmt.Sprintf("left out in the last minute: %d notices about processes of %s (%s), beside %d that were told; the stream has all of them",
			total, u.name, strings.Join(parts, ", "), u.told[0]+u.told[1])})
	}
	slices.SortFunc(out, func(a, b Digest) int {
		return cmp.Or(cmp.Compare(b.LeftOut, a.LeftOut), strings.Compare(a.User, b.User))
	})
	return out[:min(len(out), maxDigests)]
}

// maxDigests is how many users are told of at a time, those with the most first.
const maxDigests = 20

// A Digest counts the notices about one user's processes that nobody was told of.
type Digest struct {
	User    string
	LeftOut int
	Text    string
}
