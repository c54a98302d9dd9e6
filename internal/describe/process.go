// SPDX-License-Identifier: Apache-2.0

package describe

import (
	"time"
	"unicode/utf8"

	"github.com/abot-trace/abot-trace/internal/boottime"
	"github.com/abot-trace/abot-trace/internal/container"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/procfs"
	"github.com/abot-trace/abot-trace/internal/safetext"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// A Converter turns what the tree knows into the JSON contract. It belongs to one
// goroutine, as its names do.
type Converter struct {
	names    *Names
	offset   int64 // wall clock at boot
	cmdlines map[string][]string
	comms    map[event.Comm]string
	// What was looked for last, so that most need not be looked for.
	lastCmdlines [16]struct {
		text  string
		words []string
	}
	lastComms [16]struct {
		name event.Comm
		text string
	}
	drawn bool // see NewDrawing
	past  bool // see At
}

// NewConverter returns a converter for JSON.
func NewConverter(names *Names) *Converter {
	return &Converter{names: names, offset: boottime.Offset(), cmdlines: make(map[string][]string), comms: make(map[event.Comm]string)}
}

// NewDrawing returns a converter for what is drawn: text is what JSON would have made of
// it, and what no drawing shows is left out.
func NewDrawing(names *Names) *Converter {
	c := NewConverter(names)
	c.drawn = true
	return c
}

// At has times told by the wall clock as it stood once: offset is it at boot, ns.
func (c *Converter) At(offset int64) *Converter {
	c.offset, c.past = offset, true
	return c
}

// Refresh asks the wall clock where it stands now.
func (c *Converter) Refresh() {
	if !c.past {
		c.offset = boottime.Offset()
	}
}

// Wall is the wall time of an instant of CLOCK_BOOTTIME, in ns, as of the last Refresh.
func (c *Converter) Wall(ns uint64) time.Time { return boottime.Wall(c.offset, ns) }

// Bounds on what the Converter remembers: command lines and names come again with each
// fork, exec and exit of the same program. A full memory starts again.
const (
	maxCached        = 1024
	maxCachedCmdline = 512 // bytes of a command line
)

// cmdline splits a command line and hides its likely secrets. The result is shared.
func (c *Converter) cmdline(text string) []string {
	if text == "" {
		return nil
	}
	last := &c.lastCmdlines[len(text)%len(c.lastCmdlines)]
	if last.text != text {
		last.text, last.words = text, c.findCmdline(text)
	}
	return last.words
}

func (c *Converter) findCmdline(text string) []string {
	if words, ok := c.cmdlines[text]; ok {
		return words
	}
	words := safetext.Redact(event.SplitCmdline(text))
	for i := range words {
		words[i] = c.text(words[i])
	}
	if len(text) <= maxCachedCmdline {
		if len(c.cmdlines) == maxCached {
			clear(c.cmdlines)
		}
		c.cmdlines[text] = words
	}
	return words
}

func (c *Converter) comm(name event.Comm) string {
	last := &c.lastComms[int(name[0]^name[2])%len(c.lastComms)]
	if last.name != name || last.text == "" {
		last.name, last.text = name, c.findComm(name)
	}
	return last.text
}

func (c *Converter) findComm(name event.Comm) string {
	text, ok := c.comms[name]
	if !ok {
		if len(c.comms) == maxCached {
			clear(c.comms)
		}
		text = c.text(name.String())
		c.comms[name] = text
	}
	return text
}

// text is s as it comes out of JSON, which has no bytes that are not UTF-8.
func (c *Converter) text(s string) string {
	if !c.drawn || utf8.ValidString(s) {
		return s
	}
	return string([]rune(s))
}

// A Scratch holds a process and what it points to, so that they are allocated at once, or
// not at all when one scratch serves again and again.
type Scratch struct {
	process         wire.Process
	uid             uint32
	started, ended  time.Time
	spawner, caller wire.Ref
	exit            wire.Exit
	code            int
	peakRSS         uint64
	seconds         float64
	use             Use
}

// Process converts p. Likely secrets in command lines are hidden: what it returns
// leaves the daemon.
func (c *Converter) Process(p *tracker.Process) *wire.Process { return c.Fill(new(Scratch), p) }

// FillUsing is Fill with what the process uses now; usage says false of whom it does not
// know.
func (c *Converter) FillUsing(r *Scratch, p *tracker.Process, usage func(event.ID) (Use, bool)) *wire.Process {
	w := c.Fill(r, p)
	if p.Dead {
		return w
	}
	if u, ok := usage(p.ID); ok {
		r.use, r.seconds = u, u.CPU.Seconds()
		w.RSSBytes, w.SwapBytes, w.CPUPercent = &r.use.RSS, &r.use.Swap, u.CPUPercent
		w.Threads, w.CPUSeconds = u.Threads, &r.seconds
	}
	return w
}

// Fill is Process into a scratch, of which all is written anew.
func (c *Converter) Fill(r *Scratch, p *tracker.Process) *wire.Process {
	r.process = wire.Process{
		PID:       p.ID.PID,
		StartNS:   p.ID.Start,
		PPID:      p.Parent.PID,
		Comm:      c.comm(p.Comm),
		Exe:       p.Filename,
		Cmdline:   c.cmdline(p.Cmdline),
		Truncated: p.Truncated,
		State:     wire.StateRunning,
		Lineage:   p.Lineage.String(),
		Kthread:   p.Kthread,
	}
	w := &r.process
	r.uid = p.UID
	w.UID, w.User = &r.uid, c.names.User(p.UID)
	if p.HostPID != p.ID.PID {
		w.HostPID = p.HostPID
	}
	if p.ID.Start != 0 {
		r.started = c.Wall(p.ID.Start)
		w.StartedAt = &r.started
	}
	if !p.Kthread && !c.drawn {
		g := c.names.Group(p.ID, p.Cgroup, !p.Dead)
		w.Cgroup, w.Unit, w.Container = g.Path, g.UnitName(), g.Unit.Container
		if w.Container != "" {
			info, _ := c.names.Container(g)
			w.ContainerName, w.ContainerImage, w.Pod = info.Name, info.Image, Pod(info)
		}
	}
	if p.Spawner.PID != 0 {
		r.spawner = wire.Ref{PID: p.Spawner.PID, StartNS: p.Spawner.Start, Comm: c.comm(p.SpawnerComm)}
		w.SpawnedBy = &r.spawner
	}
	if p.Caller.PID != 0 {
		r.caller = wire.Ref{PID: p.Caller.PID, StartNS: p.Caller.Start}
		w.Caller = &r.caller
	}
	if p.Dead {
		c.end(r, &p.End)
	}
	if p.Orphan != nil {
		w.Orphan = c.orphan(p.Orphan)
	}
	return w
}

// Ports are where a process can be reached.
func Ports(ports []procfs.Port) (list []wire.Port) {
	for _, p := range ports {
		list = append(list, wire.Port{Proto: p.Proto, Addr: p.Addr.Addr().String(), Port: p.Addr.Port()})
	}
	return list
}

// Pod is a container's pod, nil where it is in none.
func Pod(info container.Info) *wire.Pod {
	if info.Pod == (container.Pod{}) {
		return nil
	}
	return &wire.Pod{Namespace: info.Pod.Namespace, Name: info.Pod.Name, UID: info.Pod.UID}
}

// end adds how the process ended.
func (c *Converter) end(r *Scratch, e *tracker.End) {
	w := &r.process
	w.State = wire.StateDead
	if e.Known {
		r.exit = c.exit(e, &r.code)
		w.Exit = &r.exit
		r.seconds = time.Duration(e.CPU).Seconds()
		w.CPUSeconds = &r.seconds
	}
	if e.Time != 0 {
		r.ended = c.Wall(e.Time)
		w.ExitedAt = &r.ended
	}
	if e.PeakRSS != 0 {
		r.peakRSS = e.PeakRSS
		w.PeakRSS = &r.peakRSS
	}
}

// exit converts how a process ended, which is known. An exit code goes to code.
func (c *Converter) exit(e *tracker.End, code *int) wire.Exit {
	x := wire.Exit{Core: e.Status.Core(), OOM: e.OOM}
	if e.Status.Signaled() {
		x.Signal = event.SignalName(e.Status.Signal())
	} else {
		*code = e.Status.Code()
		x.Code = code
	}
	if k := e.Killer; k != nil && !k.FromKernel {
		x.KilledBy = &wire.Ref{PID: k.Sender.PID, StartNS: k.Sender.Start, Comm: c.comm(k.SenderComm)}
	}
	if a := e.Asked; a != nil {
		x.AskedBy = &wire.Asked{Signal: event.SignalName(a.Signal.Signal), Seconds: time.Duration(e.Time - a.Time).Seconds()}
		if !a.FromKernel {
			x.AskedBy.PID, x.AskedBy.StartNS = a.Sender.PID, a.Sender.Start
			x.AskedBy.Comm, x.AskedBy.Cmdline = c.comm(a.SenderComm), c.cmdline(a.Cmdline)
		}
	}
	return x
}

// Signal converts a signal with its sender.
func (c *Converter) Signal(s *tracker.Sent) *wire.Signal {
	w := &wire.Signal{Signal: event.SignalName(s.Signal.Signal), Suppressed: s.Suppressed}
	if s.Effect != event.Fatal {
		w.Effect = s.Effect.String()
	}
	if s.FromKernel {
		return w
	}
	w.Sender = &wire.Sender{PID: s.Sender.PID, StartNS: s.Sender.Start, Comm: c.comm(s.SenderComm),
		Cmdline: c.cmdline(s.Cmdline), UID: s.SenderUID}
	for _, a := range s.Ancestors {
		w.Sender.Ancestors = append(w.Sender.Ancestors, wire.Ref{PID: a.ID.PID, StartNS: a.ID.Start, Comm: c.comm(a.Comm)})
	}
	return w
}

// Leaker converts the dead spawner of an orphan.
func (c *Converter) Leaker(l *tracker.Leaker) *wire.Leaker {
	w := &wire.Leaker{PID: l.ID.PID, StartNS: l.ID.Start, Comm: c.comm(l.Comm), Cmdline: c.cmdline(l.Cmdline)}
	if l.End.Known {
		x := c.exit(&l.End, new(int))
		w.Exit = &x
	}
	return w
}

func (c *Converter) orphan(o *tracker.Orphan) *wire.Orphan {
	w := &wire.Orphan{
		SinceNS:     o.Since,
		Direct:      o.Direct,
		Verdict:     o.Verdict,
		Provisional: o.Provisional,
		Evidence:    o.Evidence,
		Leak:        o.Leak,
	}
	if o.Abandoned {
		w.Stdio = wire.StdioAbandoned
	}
	if w.Verdict == "" {
		w.Verdict = wire.VerdictUnknown
	}
	if w.Evidence == nil {
		w.Evidence = []string{}
	}
	if o.Since != 0 {
		at := c.Wall(o.Since)
		w.Since = &at
	}
	if o.Leaker != nil {
		w.Leaker = c.Leaker(o.Leaker)
	}
	if o.Adopter.PID != 0 {
		w.Adopter = &wire.Adopter{
			PID:       o.Adopter.PID,
			Comm:      c.comm(o.AdopterComm),
			Kind:      o.AdopterKind.String(),
			Confirmed: o.Confirmed,
		}
	}
	return w
}
