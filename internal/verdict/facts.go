// SPDX-License-Identifier: Apache-2.0

// Package verdict decides from facts whether an orphan was leaked, left on purpose, or
// neither can be told. It is pure: facts in, a verdict with one line of evidence for
// each fact out. Whoever holds the facts asks again when one of them changes.
package verdict

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/event"
)

// Facts is what is known of an orphan, and of the death that made it one, at the time of
// a look. Texts in it appear in the evidence as they are: the caller escapes them.
type Facts struct {
	// Observed says that its fork and the death were seen.
	Observed bool
	// Direct says that its own spawner died; else an ancestor did, and its spawner lives.
	Direct bool
	// Tied says that its launcher had left it in order before, and that the leaker is who
	// lived above that one.
	Tied bool
	// Lived is the time from its fork to the death, Since from the death to this look.
	Lived, Since time.Duration

	Leaker Leaker

	// Launch is the state that it was forked with.
	Launch      event.Origin
	LaunchKnown bool
	// Executed says that it executed a program since its own fork, and Exec in which state
	// the first one began: what is true there was prepared by the code that launched it.
	Executed  bool
	Exec      event.Origin
	ExecKnown bool
	// Now is its state at this look. State read later shows more signs, never fewer.
	Now      event.Origin
	NowKnown bool
	// HangupSurvived says that a SIGHUP was sent to it, and that it lives.
	HangupSurvived bool

	// Ends says whether anybody is at the other ends of its descriptors 0, 1 and 2.
	Ends [3]End

	// Place and LeakerPlace are where each stood at the death.
	Place, LeakerPlace Place

	Unit Unit
	// Other owners that live.
	ContainerInit bool // a container's init, below a living shim or monitor
	LoginLeader   bool // the leader of a session that logind manages

	// Succession is whether it is the next generation of its spawner's service.
	Succession Succession
	// Client says whether it is connected to a socket on which the process listens that
	// forked its spawner, a step of its code that is done or that it ended itself, and that
	// lives. It is asked only where that is so.
	Client Answer

	// Above is the orphan that it lives below, where its own spawner lives.
	Above *Above

	// The process that the kernel gives it to.
	AdopterComm string
	AdopterKind event.Adopter

	// The marks in its environment.
	MarksKnown, Keep, Leash bool
	// LeaseEnded says that the holder of the lease that covers it is dead.
	LeaseEnded bool

	// Pending are facts that are still being asked for.
	Pending Pending
	// Errors are facts that could not be read, one line each: "environment: permission
	// denied". They are never mistaken for an answer.
	Errors []string
}

// A Leaker is the process whose death made the orphan.
type Leaker struct {
	PID         int32
	Comm        string
	Status      event.Status
	StatusKnown bool
	OOM         bool
	// NeverExeced says that it ran the code that it was forked with until its end.
	NeverExeced bool
	// Start is the state that it was forked with itself; where it never executed, across
	// steps above it that are done too.
	Start      event.Origin
	StartKnown bool
	// Life is how long it lived; 0 where that is not known.
	Life time.Duration
	// Leaked says that it was leaked itself, or lived below one that was; LeakedWith, that
	// the orphan was there when that happened.
	Leaked, LeakedWith bool
	// Signal is what ended it, where a signal did. Where it raised that itself after
	// another process had sent it the same, it is the other's.
	Signal Sent
	// Asked is the last signal before its death that asked it to end and did not end it
	// by itself, from elsewhere: TERM, INT, QUIT, ABRT within 90 s, HUP within 5 s.
	Asked Sent
}

// Sent is a signal, and who sent it. The zero value is none.
type Sent struct {
	Signal unix.Signal
	By     By
	Who    string // "pid 4711 (bash)", empty where no process sent it
	Ago    time.Duration
}

// By is what the sender of a signal is to its target.
type By uint8

// The senders. A service manager is one also where it is the target's spawner.
const (
	ByUnknown  By = iota
	ByKernel      // a fault, a timer, the OOM killer
	ByItself      // the target, and nobody had before
	ByTerminal    // a hangup, or a key
	ByManager     // the init of its pid namespace, or a user's service manager
	BySpawner     // its own spawner, which lived
	ByStranger
)

// An End is the other end of a descriptor.
type End uint8

// What may be known of it.
const (
	EndNone      End = iota // the descriptor is no pipe or socket
	EndUnknown              // it was not asked yet, or could not be
	EndHeld                 // somebody holds it
	EndAbandoned            // nobody does
)

// An Answer is that to a question that may not have been asked.
type Answer uint8

// The answers.
const (
	NotAsked Answer = iota
	Yes
	No
)

// A Place is what manages a process by where it stands.
type Place struct {
	Known     bool
	Unit      string // the user manager's where there is one, else the system's
	Container string
	Session   string // of logind
}

// A Unit is the systemd unit that the orphan stands in.
type Unit struct {
	Name string
	// User says that it is a user manager's, which is not asked.
	User bool
	// Known says that the system's manager told State and KillMode.
	Known    bool
	State    string // ActiveState
	KillMode string
	// NoFinalKill says that the manager leaves what does not end when it is asked to
	// (SendSIGKILL=no).
	NoFinalKill bool
	// What the orphan is to it.
	Main, Control, Candidate bool
	// LeakerMain says that the leaker was its main process: the manager stops the unit, or
	// restarts it.
	LeakerMain bool
	// Ended says that it has been down since the death: it is now, or was started anew.
	Ended bool
}

// Stops reports whether the unit is being stopped.
func (u *Unit) Stops() bool { return u.Known && u.State == "deactivating" }

// KeepsOthers reports whether stopping the unit leaves processes behind on purpose.
func (u *Unit) KeepsOthers() bool { return u.KillMode == "process" || u.KillMode == "none" }

// A Succession has what makes an orphan the next generation of its spawner's service: all
// of it together.
type Succession struct {
	SameProgram bool   // it executed, itself, what its spawner ran, and is no worker by its arguments
	Children    bool   // it has children of its own
	Listens     Answer // it holds a listening socket
}

func (s *Succession) holds() bool { return s.SameProgram && s.Children && s.Listens == Yes }

// Above is the orphan that a stranded one lives below.
type Above struct {
	PID         int32
	Comm        string
	Verdict     string
	Provisional bool
}

// Pending are questions without an answer yet. Signs is no question: the orphan may still
// be on its way to detach. Of Ends, that somebody holds one is no last answer: who died may
// not have closed its own yet, or may be followed by who holds another.
type Pending struct {
	Signs, Ends, Unit, Marks, Listens, Client bool
}

// How long after its fork an orphan may still be on its way to detach, and how long after
// the death a verdict may be provisional.
const Settles = time.Second

// PreparedFor is how long after the fork what the launching code prepared speaks for an
// orphan whose launcher leaves in order.
const PreparedFor = 5 * time.Second
