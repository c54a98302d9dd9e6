// SPDX-License-Identifier: Apache-2.0

// Package enforce ends one process tree so that the wrong process is never
// signalled and the right one is verified dead.
//
// A process is held by a pidfd from before its identity is verified until its
// death is, and every signal goes through that pidfd: a pid that is reused in
// between changes nothing. The order of a kill:
//
//	open pidfds -> verify identities -> stop all -> SIGTERM all -> continue all
//	  -> wait, at most the grace -> SIGKILL the rest -> wait -> ask for who was
//	born meanwhile, and again, until the tree is empty
//
// Who is born after the SIGTERM has what is left of the grace, and is sent nothing
// before the others are dead: it may be there to clean up.
//
// A step that fails is the outcome of its process, with its errno: it is not
// tried again, and stops nothing else.
package enforce

import (
	"context"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/procfs"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// Request is what a rule has decided about one tree.
type Request struct {
	KillID  string // unique within the boot
	Rule    string
	Mode    string // nothing is signalled unless it is ModeEnforce
	Scope   string // the tree is asked for more members only if it is ScopeTree
	Verdict string
	Reason  string
	// Grace is the time from the first signal to SIGKILL, for the whole tree.
	Grace time.Duration
	// Signal is what is sent first; 0 is SIGTERM. With SIGKILL there is no grace.
	Signal unix.Signal
	Root   event.ID
	// Roots are those of all trees that it ends, Root the first of them; empty for Root alone.
	Roots []event.ID
	// Targets is who is to be ended, as the decision saw them.
	Targets []Target
	// Answers, unless nil, answers for this request in the place of who answers for all of
	// the Enforcer's.
	Answers Answers
	// Waits, unless nil, is called when the first signals are sent and the wait for what they
	// do begins, which can take as long as the grace. The Queue uses it.
	Waits func()
	// UID is the user on whose account it is: whose lease has ended, or whose tree it is.
	UID uint32
	// Held are targets whose pidfds are open and whose identities were verified after
	// that. Do closes them all; whoever does not come to call it calls Release.
	Held []Held

	begun *kill // what SendFirstSignals has begun
}

// ends reports whether the request may end anyone.
func (r *Request) ends() bool { return r.Mode != wire.ModeObserve }

// firstSignal is what the tree is sent first.
func (r *Request) firstSignal() unix.Signal {
	if r.Signal == 0 {
		return unix.SIGTERM
	}
	return r.Signal
}

// A Held target is known to have the pidfd.
type Held struct {
	ID    event.ID
	Pidfd int
}

// Hold opens pidfds of as many of the targets as it can, and leaves some descriptors to
// everything else. Their identities are the
// caller's to verify now: see Request.Keep.
func Hold(targets []Target) (held []Held) {
	limit := fdLimit()
	for i := range targets {
		fd, err := pidfdWithin(targets[i].ID.PID, limit)
		if outOfFDs(err) {
			break
		}
		if err == nil {
			held = append(held, Held{targets[i].ID, fd})
		}
	}
	return held
}

// Keep lets go of those held whose identity was not proven after Hold.
func (r *Request) Keep(proven func(event.ID) bool) {
	r.Held = slices.DeleteFunc(r.Held, func(h Held) bool {
		if proven(h.ID) {
			return false
		}
		unix.Close(h.Pidfd)
		return true
	})
}

// Release closes the pidfds of a request that nobody carries out, and has continue whoever
// was stopped for it.
func (r *Request) Release() {
	if k := r.begun; k != nil {
		r.begun, k.req = nil, r // not the copy that was signalled
		k.close()
	}
	for _, h := range r.Held {
		unix.Close(h.Pidfd)
	}
	r.Held = nil
}

// Target is a process to be ended.
type Target struct {
	ID        event.ID // its Start exact, in ns
	Comm      string
	RSS, Swap *uint64 // bytes; nil where not known
	// Last says that it ends by itself when the others are gone, and does damage
	// when it ends before them: see ResourceTracker. It is not stopped, gets no
	// SIGTERM, and SIGKILL only if it outlives both the others and the grace.
	Last bool
}

// Identity knows exact starts.
type Identity interface {
	// Starts returns the start, in ns of CLOCK_BOOTTIME, of each of the processes
	// that have the pids during the call, zombies included; a pid that no process
	// has is left out. Ticks of procfs are not exact enough: two processes can
	// have one pid within 10 ms.
	Starts(pids []int32) (map[int32]uint64, error)
}

// Tree answers for what surrounds a kill. Its methods are called from Do's
// goroutine, and should give up when ctx ends.
type Tree interface {
	// Members returns who is to be ended by the request now: the living processes
	// of the tree less those that are spared. Every fork that happened before the
	// call is taken into account.
	Members(ctx context.Context, req *Request) ([]Target, error)
	// Recheck says why the process must not be sent sig after all, as things stand
	// now. SIGSTOP comes first, where there is one, then SIGTERM, then SIGKILL: what
	// was true before the first and is no more because of it (the memory of the
	// tree, say) is no reason.
	Recheck(ctx context.Context, req *Request, id event.ID, sig unix.Signal) error
	// Others returns the living processes that a Target with Last of this request is to
	// outlive although the request does not end them: those of the same leak.
	Others(ctx context.Context, req *Request) ([]event.ID, error)
}

// Protector knows who is never signalled, whatever a rule says. It is asked before
// every signal; a yes serves for permitFor.
type Protector interface {
	// Protected says why the process is protected, nil if it is not. A doubt is a
	// reason.
	Protected(Target) error
}

// Answers is all that is asked about a kill.
type Answers interface {
	Identity
	Tree
	Protector
}

// permitFor is how long the Protector's leave to signal a process serves: the stop and
// the SIGTERM that follows it at once ask once.
const permitFor = 2 * time.Millisecond

// Enforcer carries out requests. It is safe for concurrent use, and holds no process
// between two calls. The first three fields must be set where a request does not bring
// its own Answers. Without a Journal nothing is stopped before it is ended.
type Enforcer struct {
	Identity  Identity
	Tree      Tree
	Protector Protector
	Journal   Journal

	FS procfs.FS
	// KillWait is how long a process may take to die of SIGKILL; 0 means 5 s.
	KillWait time.Duration
	// LastWait is how long a Target with Last is given at least, from the death of
	// the last other one; 0 means 2 s.
	LastWait time.Duration
	// ReapWait is how long the parent of a dead process may take to reap it; 0
	// means 200 ms.
	ReapWait time.Duration

	own selfAndAncestors
}

// Do carries out one request and tells what became of each process. It blocks
// until then: callers give it a goroutine. When ctx ends it lets go: what it has
// stopped continues, and the kill is partial.
func (e *Enforcer) Do(ctx context.Context, req Request) wire.Kill {
	k := e.begunOrNew(ctx, &req)
	defer k.close()
	if err := k.begin(); err != nil {
		k.refuseAll(err)
		return k.result()
	}
	if req.Mode == wire.ModeEnforce {
		k.enforce()
	} else {
		k.observe()
	}
	return k.result()
}

// SendFirstSignals does of [Enforcer.Do], which is to follow soon, what comes before the first wait:
// it stops those held and sends them SIGTERM. To hand a request over to another thread takes
// longer than that. It does nothing, and reports false, where a target is not held or the
// request only observes. Who is born into the tree is left to Do, so that it takes no longer
// than there are targets. The request's Answers must not wait for anyone.
func (e *Enforcer) SendFirstSignals(req *Request) bool {
	if req.Mode != wire.ModeEnforce || req.Signal == unix.SIGKILL || len(req.Held) == 0 || len(req.Held) < len(req.Targets) {
		return false
	}
	k := e.begunOrNew(context.Background(), req)
	k.firstSignalsOnly = true
	if k.admitTargets() != nil {
		return false // Do meets the same trouble
	}
	k.terminate()
	k.firstSignalsOnly, k.firstSignalsAt = false, time.Now()
	req.begun = k
	return true
}

// begunOrNew returns the kill that SendFirstSignals has begun, or a new one.
func (e *Enforcer) begunOrNew(ctx context.Context, req *Request) *kill {
	k := req.begun
	if k == nil {
		k = &kill{Enforcer: e, answers: req.Answers, seen: make(map[event.ID]bool)}
		if k.answers == nil {
			k.answers = answers{e.Identity, e.Tree, e.Protector}
		}
	}
	req.begun = nil
	k.ctx, k.req = ctx, req
	return k
}

// answers are the Enforcer's own.
type answers struct {
	Identity
	Tree
	Protector
}

func orDefault(d, otherwise time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return otherwise
}

func (e *Enforcer) killWait() time.Duration { return orDefault(e.KillWait, 5*time.Second) }
func (e *Enforcer) lastWait() time.Duration { return orDefault(e.LastWait, 2*time.Second) }
func (e *Enforcer) reapWait() time.Duration { return orDefault(e.ReapWait, 200*time.Millisecond) }
