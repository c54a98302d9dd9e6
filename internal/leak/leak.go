// SPDX-License-Identifier: Apache-2.0

// Package leak keeps what one death left behind as one thing: the leaker with all its
// orphans that are not deliberate, and what they forked since. A leak is opened by the
// death, grows and shrinks, and ends when the last member is gone.
//
// It is pure, as the tracker is: events and samples in, changes out, no clock, no I/O.
// One goroutine owns a Set. Times are CLOCK_BOOTTIME nanoseconds.
package leak

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/fingerprint"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// Verdict is what is held of a member or of a whole leak.
type Verdict uint8

// The verdicts, in the order of their weight for a leak.
const (
	Deliberate Verdict = iota // never of a member: it makes a process leave its leak
	Unknown
	Leaked
)

// String returns the name that the JSON contract uses.
func (v Verdict) String() string {
	return [...]string{Deliberate: "deliberate", Unknown: "unknown", Leaked: "leaked"}[v]
}

// ParseVerdict returns the verdict of that name; what is no name is Unknown.
func ParseVerdict(name string) Verdict {
	switch name {
	case "leaked":
		return Leaked
	case "deliberate":
		return Deliberate
	}
	return Unknown
}

// Ending is how a member, or a whole leak, ended.
type Ending uint8

// The endings. A leak whose members ended in several ways ended Mixed.
const (
	NotEnded Ending = iota
	ByExit
	ByKill // by a rule, a lease or a person's kill
	ByOOM
	BySignal // of somebody else
	Mixed
	// Unseen is a member that was gone when the daemon looked again.
	Unseen
)

// String returns the name that the JSON contract uses; empty where there is none.
func (e Ending) String() string {
	return [...]string{NotEnded: "", ByExit: "exit", ByKill: "kill", ByOOM: "oom",
		BySignal: "signal", Mixed: "mixed", Unseen: ""}[e]
}

// A Leaker is the dead process that left a leak, described once at the opening.
type Leaker struct {
	ID      event.ID
	Comm    string
	Cmdline []string
	Exe     string
	UID     uint32
	User    string
	Unit    string
	// Container is its container's id, empty outside one.
	Container string
	// ContainerName, ContainerImage and Pod are as those of [wire.Process].
	ContainerName, ContainerImage string
	Pod                           *wire.Pod
	Exited                        uint64     // when it died
	Exit                          *wire.Exit // how, nil where that is not known
	// Fingerprint is what the leak is a case of.
	Fingerprint fingerprint.Fingerprint
}

// A Leak is one leak. Its exported fields are the owner's to read, not to change.
type Leak struct {
	ID       string // "L" and 12 hexadecimal digits
	Leaker   Leaker
	OpenedAt uint64
	EndedAt  uint64 // 0 while it is open
	EndedBy  Ending
	Verdict  Verdict
	// Remedy names the kind of what would have prevented it, once SetRemedy was called.
	Remedy string
	// KillIDs are the kills that reached it, Rules their rules, each once.
	KillIDs, Rules []string
	// Now, Peak and Total count member processes: living now, most at once, ever.
	Now, Peak, Total int
	// RSS and Swap are of the living members at the last sample.
	RSS, Swap uint64
	// PeakBytes is the largest sum of RSS and swap that a sample showed.
	PeakBytes uint64

	members map[event.ID]*member
	settled int // living members whose verdict is final
	leaked  int // of these, those that were leaked
	// judged says that a member's verdict was final once: before that there is no leak.
	judged  bool
	bytesNS float64 // byte nanoseconds, each member's up to its last sample
	cpuNS   uint64  // of members that are gone
	counted spent

	describe   func() Leaker // until it is opened
	opened     bool          // somebody was told that it was opened
	hasten     bool          // a kill cuts the gathering short
	changed    bool          // members changed since somebody was told
	emptySince uint64
	touched    bool // by the sample that is being taken
	toldAt     uint64
	told       Verdict // what was told last
	passed     threshold
	dueAt      uint64 // its place in the queue of what is to be told; 0 is none
}

// member is one living process of a leak.
type member struct {
	leak *Leak
	id   event.ID
	// root is the announced orphan that it descends from, nil where it is one itself.
	// below are those that have it for their root.
	root  *member
	below map[event.ID]*member

	joined  uint64
	sampled uint64 // when; 0 before the first sample
	rss     uint64
	swap    uint64
	cpu     uint64 // ns, total at the last sample
	cpuFrom uint64 // ns, total when it joined
	verdict Verdict
	pending bool // its verdict is provisional
	direct  bool
	// cpuKnown says that cpuFrom is right: it was forked by a member, or was sampled.
	cpuKnown bool
}

// Open reports whether the leak has not ended.
func (l *Leak) Open() bool { return l.EndedAt == 0 }

// SetRemedy notes of which kind it is for who is to prevent it: its members tell, and they
// are not kept.
func (l *Leak) SetRemedy(kind string) { l.Remedy = kind }

// Pending reports whether the verdict on one of its members at least is not final.
func (l *Leak) Pending() bool { return l.settled < len(l.members) }

// ByteSeconds is what its members' memory has cost up to now: RSS and swap, over time.
func (l *Leak) ByteSeconds(now uint64) float64 {
	sum := l.bytesNS
	for _, m := range l.members {
		if m.sampled != 0 && now > m.sampled {
			sum += float64(m.rss+m.swap) * float64(now-m.sampled)
		}
	}
	return sum / 1e9
}

// CPUSeconds is the processor time that its members have used since they joined, as far
// as the last samples and the exit records tell.
func (l *Leak) CPUSeconds() float64 {
	ns := l.cpuNS
	for _, m := range l.members {
		if m.cpuKnown && m.cpu > m.cpuFrom {
			ns += m.cpu - m.cpuFrom
		}
	}
	return float64(ns) / 1e9
}

// Member is one living member, as Members lists it.
type Member struct {
	ID      event.ID
	Verdict Verdict
	Direct  bool
	Bytes   uint64 // RSS and swap at the last sample
}

// Members returns the living members in no order.
func (l *Leak) Members() []Member {
	list := make([]Member, 0, len(l.members))
	for _, m := range l.members {
		list = append(list, Member{ID: m.id, Verdict: m.verdict, Direct: m.direct, Bytes: m.rss + m.swap})
	}
	return list
}

// MakeID returns the id of the leak that the process leaker left. boot names the machine
// and its boot: whoever computes it from the same gets the same.
func MakeID(boot string, leaker event.ID) string {
	h := sha256.New()
	h.Write([]byte(boot + "\x00"))
	var b [12]byte
	binary.LittleEndian.PutUint32(b[:], uint32(leaker.PID))
	binary.LittleEndian.PutUint64(b[4:], leaker.Start)
	h.Write(b[:])
	return "L" + hex.EncodeToString(h.Sum(nil)[:6])
}
