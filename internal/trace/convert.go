// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"time"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/safetext"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// A converter turns what the tree knows into the JSON contract. It belongs to the
// goroutine that owns the tree.
type converter struct {
	names  *resolver
	offset int64 // wall clock at boot
}

// process converts p. Likely secrets in command lines are hidden: what it returns
// leaves the daemon.
func (c *converter) process(p *tracker.Process) *wire.Process {
	w := &wire.Process{
		PID:       p.ID.PID,
		StartNS:   p.ID.Start,
		PPID:      p.Parent.PID,
		Comm:      p.Comm.String(),
		Exe:       p.Filename,
		Cmdline:   safetext.Redact(event.SplitCmdline(p.Cmdline)),
		Truncated: p.Truncated,
		State:     wire.StateRunning,
		Lineage:   p.Lineage.String(),
		Kthread:   p.Kthread,
	}
	uid := p.UID
	w.UID, w.User = &uid, c.names.user(uid)
	if p.HostPID != p.ID.PID {
		w.HostPID = p.HostPID
	}
	if p.ID.Start != 0 {
		at := wallTime(c.offset, p.ID.Start)
		w.StartedAt = &at
	}
	if !p.Kthread {
		g := c.names.group(p.ID, p.Cgroup, !p.Dead)
		w.Cgroup, w.Unit, w.Container = g.path, g.unitName(), g.unit.Container
	}
	if p.Spawner.PID != 0 {
		w.SpawnedBy = &wire.Ref{PID: p.Spawner.PID, StartNS: p.Spawner.Start, Comm: p.SpawnerComm.String()}
	}
	if p.Caller.PID != 0 {
		w.Caller = &wire.Ref{PID: p.Caller.PID, StartNS: p.Caller.Start}
	}
	if p.Dead {
		c.dead(w, &p.End)
	}
	if p.Orphan != nil {
		w.Orphan = c.orphan(p.Orphan)
	}
	return w
}

func (c *converter) dead(w *wire.Process, e *tracker.End) {
	w.State = wire.StateDead
	w.Exit = exit(e)
	if e.Time != 0 {
		at := wallTime(c.offset, e.Time)
		w.ExitedAt = &at
	}
	if e.PeakRSS != 0 {
		w.PeakRSS = &e.PeakRSS
	}
	if e.Known {
		seconds := time.Duration(e.CPU).Seconds()
		w.CPUSeconds = &seconds
	}
}

// exit converts how a process ended; nil where that is not known.
func exit(e *tracker.End) *wire.Exit {
	if !e.Known {
		return nil
	}
	x := &wire.Exit{Core: e.Status.Core(), OOM: e.OOM}
	if e.Status.Signaled() {
		x.Signal = event.SignalName(e.Status.Signal())
	} else {
		code := e.Status.Code()
		x.Code = &code
	}
	if k := e.Killer; k != nil && !k.FromKernel {
		x.KilledBy = &wire.Ref{PID: k.Sender.PID, StartNS: k.Sender.Start, Comm: k.SenderComm.String()}
	}
	return x
}

func (c *converter) orphan(o *tracker.Orphan) *wire.Orphan {
	w := &wire.Orphan{
		SinceNS:  o.Since,
		Direct:   o.Direct,
		Verdict:  o.Verdict,
		Evidence: o.Evidence,
	}
	if w.Verdict == "" {
		w.Verdict = wire.VerdictUnknown
	}
	if w.Evidence == nil {
		w.Evidence = []string{}
	}
	if o.Since != 0 {
		at := wallTime(c.offset, o.Since)
		w.Since = &at
	}
	if l := o.Leaker; l != nil {
		w.Leaker = &wire.Leaker{
			PID:     l.ID.PID,
			StartNS: l.ID.Start,
			Comm:    l.Comm.String(),
			Cmdline: safetext.Redact(event.SplitCmdline(l.Cmdline)),
			Exit:    exit(&l.End),
		}
	}
	if o.Adopter.PID != 0 {
		w.Adopter = &wire.Adopter{
			PID:       o.Adopter.PID,
			Comm:      o.AdopterComm.String(),
			Kind:      o.AdopterKind.String(),
			Confirmed: o.Confirmed,
		}
	}
	return w
}
