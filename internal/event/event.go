// SPDX-License-Identifier: Apache-2.0

// Package event holds the plain values that flow from the probe to everything
// behind it: who (an identity), and what happened to it. It does no I/O.
package event

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// ID is the identity of a process (a thread group) within one boot. A bare pid
// is never an identity: pids are reused.
type ID struct {
	// PID is the thread group id as the reader's pid namespace numbers it.
	PID int32
	// Start is the group leader's start_boottime: CLOCK_BOOTTIME nanoseconds.
	// A non-leader thread that execs inherits it (de_thread in fs/exec.c), so it
	// is constant for the life of the process.
	Start uint64
}

// IsZero reports whether id names no process.
func (id ID) IsZero() bool { return id == ID{} }

// String formats id as "pid@start".
func (id ID) String() string {
	return strconv.Itoa(int(id.PID)) + "@" + strconv.FormatUint(id.Start, 10)
}

// UIDs are the user ids of a process that matter for signals (kill(2)), in the initial
// user namespace.
type UIDs struct{ Real, Effective, Saved uint32 }

// Is reports whether all three are uid.
func (u UIDs) Is(uid uint32) bool { return u == UIDs{uid, uid, uid} }

// CouldSignal reports whether whoever could have ended a process with the ids u by a signal
// could have ended one with the ids t himself: root anyone, else t's real and saved ids are
// u's. It is what to ask before ending t because of u's end: a user can end his own program
// that has gained root's ids, and must not have reached root's others by that.
//
// Where both have the same real and saved ids, the kernel lets the same users signal them.
func (u UIDs) CouldSignal(t UIDs) bool {
	if u.Real == t.Real && u.Saved == t.Saved {
		return true
	}
	for _, who := range [...]uint32{u.Real, u.Saved} {
		if who != 0 && (t.Real != who || t.Saved != who) {
			return false
		}
	}
	return true
}

// Kind says what an Event reports.
type Kind uint8

// The kinds of kernel records, numbered as in bpf/event.h.
const (
	KindFork Kind = 1 + iota
	KindExec
	KindExit
	KindSignal
	KindOOM
	KindChild
	KindMove
	KindCaught

	// Kinds is how many there are, with the zero Kind.
	Kinds
)

var kindNames = [Kinds]string{KindFork: "fork", KindExec: "exec", KindExit: "exit",
	KindSignal: "signal", KindOOM: "oom", KindChild: "child", KindMove: "move",
	KindCaught: "caught"}

// String returns the kind's name in events, logs and metrics.
func (k Kind) String() string {
	if k == 0 || int(k) >= len(kindNames) {
		return "kind(" + strconv.Itoa(int(k)) + ")"
	}
	return kindNames[k]
}

// Event is one decoded kernel record. Exactly the part that Kind names is
// meaningful. It is a flat value so that a reader can reuse one for every
// record; strings inside it do not alias the ring.
type Event struct {
	Kind Kind
	// Subject is the process that the record is about.
	Subject ID
	// HostPID is Subject's pid in the initial pid namespace.
	HostPID int32
	// Ordinal tells apart several records of one kind about one process
	// (the exec count). (Kind, Subject, Ordinal) is the record's key.
	Ordinal uint32
	// Time is when it happened: CLOCK_BOOTTIME nanoseconds.
	Time uint64
	// Refused is how many records the ring had refused, ever, when this one was
	// written. A step between two records is a gap.
	Refused uint64
	// Comm is the subject's name as the kernel has it.
	Comm Comm
	// UID is the subject's real user id in the initial user namespace.
	UID uint32
	// ExecID tells which of its programs the subject runs: the kernel's self_exec_id, which
	// an exec raises and a fork hands down. 0 where it is not known.
	ExecID uint32

	Fork   Fork
	Exec   Exec
	Exit   Exit
	Signal Signal // of KindSignal and of KindCaught
	OOM    OOM
	Child  Child
	Move   Move
}

// Comm is a task name: at most 15 bytes, NUL padded, arbitrary bytes.
type Comm [16]byte

// MakeComm returns s as a Comm, cut at 15 bytes.
func MakeComm(s string) (c Comm) {
	copy(c[:15], s)
	return c
}

// String returns the name up to its NUL. It is hostile input: see package safetext.
func (c Comm) String() string {
	for i, b := range c {
		if b == 0 {
			return string(c[:i])
		}
	}
	return string(c[:])
}

// Stdio identifies what a process has on descriptors 0, 1 and 2.
// The zero File stands for closed or not known.
type Stdio [3]File

// File identifies an open file.
type File struct {
	Dev uint64 // device number, as stat(2) gives it in st_dev
	Ino uint64 // inode number
	// Mode is the file type bits (S_IFMT) of the inode's mode; 0 when not known.
	Mode uint32
	// Rdev is the device that a device node stands for, as in st_rdev.
	Rdev uint64
}

// IsNull reports whether f is /dev/null (character device 1:3).
func (f File) IsNull() bool {
	return f.Mode&unix.S_IFMT == unix.S_IFCHR && f.Rdev == unix.Mkdev(1, 3)
}

// Known reports whether the file could be read at all.
func (f File) Known() bool { return f.Mode != 0 }

// Origin is what is known of a process's detachment state at one instant: at its
// fork, where it equals its spawner's, or at its spawner's death.
type Origin struct {
	Session    int32 // session id, as the reader numbers it; 0 outside its namespace
	SessionOwn bool  // it leads its session
	HupIgnored bool  // SIGHUP is ignored
	Tty        bool  // it has a controlling terminal
	StdioKnown bool  // Stdio could be read
	Stdio      Stdio
}

// Fork reports a new process.
type Fork struct {
	// Spawner is the process that is the child's real_parent at the fork.
	Spawner ID
	// Caller is the process that called fork; it differs from Spawner under
	// CLONE_PARENT.
	Caller ID
	Cgroup uint64 // cgroup v2 id
	// Moved says that it was put into other control groups than its caller is in.
	Moved  bool
	Origin Origin
	// NSInit says that it is the init of a new pid namespace.
	NSInit bool
}

// Exec reports that a process has replaced its program.
type Exec struct {
	// Origin is the state in which the new program begins. At the first exec after a
	// fork it is what the code that launches the program has prepared.
	Origin   Origin
	Cgroup   uint64
	Filename string // as given to execve; empty where not read
	Cmdline  string // argv, each word ended by a NUL; empty where not read
	// Truncated says that Filename or Cmdline were cut to the record's size.
	Truncated bool
	// Keep and Leash say that ABOT_TRACE_KEEP=1 or ABOT_TRACE_LEASH=1 stand in the
	// environment. They mean something only if MarksKnown.
	MarksKnown, Keep, Leash bool
}

// SplitCmdline splits a command line at its NULs, as argv and /proc/PID/cmdline have
// them. The last word's NUL may be missing, where the line was cut.
func SplitCmdline(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(s, "\x00"), "\x00")
}

// Exit reports that the last thread of a process is dying. It is sent before the
// kernel gives the children away.
type Exit struct {
	Status Status
	// Adopter is who the kernel's rules give the children to.
	Adopter     ID
	AdopterKind Adopter
	// HasChildren says that the process had, or in a race may have had, children
	// (living or zombie) to give away.
	HasChildren bool
	// NSEnds says that the init of its pid namespace, or of one above, is dying, if not
	// it itself: the kernel kills all in it, so nobody is orphaned. Told only of a
	// process with children.
	NSEnds bool
	OOM    bool // it was chosen by the OOM killer
	// EUID and SUID are the effective and the saved user id that it died with; the real one
	// is the event's.
	EUID, SUID uint32
	// NeverExeced says that it ran the code that it was forked with until its end
	// (PF_FORKNOEXEC of the group's leader).
	NeverExeced bool
	PeakRSS     uint64 // bytes; an upper bound (signal->maxrss)
	CPUTime     uint64 // ns, user and system, all threads; what ran since the last tick may be missing
}

// Adopter is the role in which a process adopts orphans.
type Adopter uint8

// The roles of find_new_reaper in kernel/exit.c.
const (
	AdopterUnknown   Adopter = iota
	AdopterInit              // init of the pid namespace
	AdopterSubreaper         // nearest living PR_SET_CHILD_SUBREAPER ancestor
)

// String returns "init", "subreaper" or the empty string.
func (a Adopter) String() string {
	switch a {
	case AdopterInit:
		return "init"
	case AdopterSubreaper:
		return "subreaper"
	default:
		return ""
	}
}

// Status is a wait status as in wait(2): how a process ended.
type Status uint32

// Signaled reports whether a signal ended the process.
func (s Status) Signaled() bool { return s&0x7f != 0 }

// Signal is the signal that ended the process, or 0.
func (s Status) Signal() unix.Signal { return unix.Signal(s & 0x7f) }

// Core reports whether a core was dumped.
func (s Status) Core() bool { return s&0x80 != 0 }

// Code is the exit code when no signal ended the process.
func (s Status) Code() int { return int(s>>8) & 0xff }

// String says how the process ended: "exit 3", "SIGKILL", "SIGABRT (core dumped)".
func (s Status) String() string {
	if !s.Signaled() {
		return "exit " + strconv.Itoa(s.Code())
	}
	if s.Core() {
		return SignalName(s.Signal()) + " (core dumped)"
	}
	return SignalName(s.Signal())
}

// SignalName returns "SIGKILL" and the like, "SIGRTMIN+n" for real-time signals.
func SignalName(sig unix.Signal) string {
	if name := unix.SignalName(sig); name != "" {
		return name
	}
	// The kernel's SIGRTMIN; glibc keeps the first two for itself.
	if sig >= 32 && sig <= 64 {
		return fmt.Sprintf("SIGRTMIN+%d", int(sig)-32)
	}
	return fmt.Sprintf("signal %d", int(sig))
}

// Effect is what a signal does to its target.
type Effect uint8

// The effects, numbered as in bpf/event.h.
const (
	Fatal   Effect = 1 + iota // its default action, which ends the process, is in force
	Caught                    // the process has a handler for it
	Blocked                   // it waits; unless something changes it ends the process when it is unblocked
	Ignored
)

// String returns the effect's name in events.
func (e Effect) String() string {
	return [...]string{"", "fatal", "caught", "blocked", "ignored"}[min(e, Ignored)]
}

// Signal reports a signal. One of KindSignal will end its target: SIGKILL, or one whose
// default action is fatal and that the target neither handles nor ignores nor blocks.
// Of KindCaught are those that do not: TERM, INT, HUP, QUIT and ABRT from elsewhere than
// the target itself, and any that is Blocked.
type Signal struct {
	Signal unix.Signal
	Effect Effect
	// Sender is the sending process; its Start is 0 where the kernel cannot tell.
	// For a signal of the kernel's own (SIGSEGV, OOM) it is whoever ran.
	Sender ID
	// SenderHost is the sender's pid in the initial pid namespace. In one below it is
	// all that the record has: Sender.PID is 0 then.
	SenderHost int32
	SenderComm Comm
	SenderUID  uint32
	// FromKernel says that no process sent it: a terminal, a fault, a timer did.
	FromKernel bool
	// Suppressed is how many records of KindCaught about the same target were left out
	// since the one before: the kernel side limits them.
	Suppressed uint32
}

// OOM reports that the OOM killer chose the process.
type OOM struct {
	Cgroup   uint64
	RSSBytes uint64 // 0 where the kernel does not say
}

// Child is one child of a dying process, as the kernel's own list has it: the
// cross-check for the tracker's index, with the child's state at that instant.
type Child struct {
	Parent ID
	Origin Origin
}

// Move reports that the process was moved to another control group, in whichever
// hierarchy.
type Move struct {
	Cgroup uint64 // id of the one that it is in now, in the unified hierarchy
}

// Key identifies a record for ever within a boot, so that one that is delivered
// twice can be dropped.
type Key struct {
	Kind    Kind
	ID      ID
	Ordinal uint32
}

// Key returns the event's key.
func (e *Event) Key() Key { return Key{e.Kind, e.Subject, e.Ordinal} }

// Task is one process as a snapshot of the kernel's task list shows it.
type Task struct {
	ID      ID
	HostPID int32
	// Parent is its real_parent now, which is its spawner or whoever adopted it.
	// Zero where the reader's pid namespace cannot see it.
	Parent ID
	Comm   Comm
	// UID, EUID and SUID are the real, effective and saved user ids.
	UID, EUID, SUID uint32
	// ExecID tells which of its programs it runs: see Event.
	ExecID uint32
	Cgroup uint64
	Origin Origin // as it is now

	Kthread      bool // kernel thread
	Subreaper    bool // it adopts orphans (PR_SET_CHILD_SUBREAPER)
	HasSubreaper bool // an ancestor does
	NSInit       bool // init of its pid namespace
	Dead         bool // its last thread has died: a zombie that waits to be reaped
	NeverExeced  bool // it runs the code that it was forked with (PF_FORKNOEXEC)

	State   byte   // R S D T t Z X I, as in proc(5)
	Threads int    // living threads
	RSS     uint64 // bytes, resident
	Swap    uint64 // bytes, swapped out
	CPU     uint64 // ns, user and system, living and dead threads
}

// UIDs returns the task's user ids.
func (t *Task) UIDs() UIDs { return UIDs{t.UID, t.EUID, t.SUID} }
