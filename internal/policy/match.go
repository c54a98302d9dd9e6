// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/quantity"
	"github.com/abot-trace/abot-trace/internal/verdict"
)

// candidate is one orphan under evaluation, with what is asked more than once.
type candidate struct {
	engine *Engine
	view   View
	host   *Host
	now    uint64
	p      Process

	treeAsked, treeKnown bool
	tree                 uint64
	env                  environment
	envFilled            bool
	unread               bool // what it holds had to be known, and is being read
}

// reset makes c the candidate id; false when the view does not know it.
func (c *candidate) reset(id event.ID) bool {
	c.treeAsked, c.envFilled, c.unread = false, false, false
	return c.view.Process(id, &c.p)
}

func (c *candidate) treeMemory() (uint64, bool) {
	if !c.treeAsked {
		c.tree, c.treeKnown = c.view.TreeMemory(c.p.ID)
		c.treeAsked = true
	}
	return c.tree, c.treeKnown
}

func (c *candidate) environment() *environment {
	if c.envFilled {
		return &c.env
	}
	c.envFilled = true
	p := &c.p
	p.complete()
	uid, user := unknownUID, ""
	if p.KnowsUIDs() && p.UIDs.Is(p.UIDs.Real) {
		uid, user = int(p.UIDs.Real), p.nameOf(p.UIDs.Real)
	}
	tree, treeKnown := c.treeMemory()
	c.env.Host = *c.host
	c.env.Process = Subject{
		PID: int(p.ID.PID), Comm: p.Comm, Exe: p.Exe, Cmdline: p.Cmdline, User: user, UID: uid,
		Unit: p.Unit, Cgroup: p.Cgroup, Verdict: p.Verdict, Threads: p.Threads,
		AgeSeconds:    known(seconds(c.now, p.ID.Start), p.ID.Start != 0),
		OrphanSeconds: known(seconds(c.now, p.Since), p.Since != 0),
		RSSBytes:      known(float64(p.RSS), p.MemoryKnown),
		SwapBytes:     known(float64(p.Swap), p.MemoryKnown),
		TreeBytes:     known(float64(tree), treeKnown),
		CPUPercent:    known(p.CPUPercent, p.CPUKnown),
	}
	return &c.env
}

// unknownUID stands for a process whose user ids are not known, or not one user's.
const unknownUID = -1

func known(v float64, ok bool) float64 {
	if !ok {
		return math.NaN()
	}
	return v
}

// age returns the time since an instant, 0 for one that is not in the past.
func age(now, since uint64) time.Duration {
	if since >= now {
		return 0
	}
	return time.Duration(min(now-since, math.MaxInt64))
}

func seconds(now, since uint64) float64 { return age(now, since).Seconds() }

// after returns the instant d after t, without wrapping.
func after(t uint64, d time.Duration) uint64 {
	if sum := t + uint64(d); sum >= t {
		return sum
	}
	return math.MaxUint64
}

// A condition is one line of a rule's match.
type condition interface {
	// holds reports whether c meets it; when it does not yet but will by the mere
	// passing of time, at is that instant.
	holds(c *candidate) (ok bool, at uint64)
	// describe says in one phrase what it found.
	describe(c *candidate) string
}

// verdictIs waits, for a kill, until an unknown verdict will not change any more.
type verdictIs struct {
	of   []string
	kill bool
}

func (v verdictIs) holds(c *candidate) (bool, uint64) {
	if !slices.Contains(v.of, c.p.Verdict) {
		return false, 0
	}
	at := v.settled(c)
	return c.now >= at, at
}

// settled is when the verdict has nothing left to wait for.
func (v verdictIs) settled(c *candidate) uint64 {
	if !v.kill || c.p.Verdict != verdict.Unknown || c.p.Since == 0 {
		return 0
	}
	return after(c.p.Since, verdict.Settles)
}

func (v verdictIs) describe(c *candidate) string {
	switch {
	case c.p.Verdict == "":
		return "its verdict is not final yet"
	case !slices.Contains(v.of, c.p.Verdict):
		return fmt.Sprintf("its verdict is %s, not %s", c.p.Verdict, strings.Join(v.of, " or "))
	case c.now < v.settled(c):
		return fmt.Sprintf("its verdict is %s, which may change until it has been an orphan for %s",
			c.p.Verdict, quantity.FormatDuration(verdict.Settles))
	default:
		return "its verdict is " + c.p.Verdict
	}
}

type globCondition struct {
	field string
	globs []glob
	of    func(*Process) string
}

func (g *globCondition) holds(c *candidate) (bool, uint64) {
	return matchAny(g.globs, g.of(&c.p)), 0
}

func (g *globCondition) describe(c *candidate) string {
	value := g.of(&c.p)
	if matchAny(g.globs, value) {
		return fmt.Sprintf("its %s is %s", g.field, value)
	}
	if value == "" {
		return fmt.Sprintf("its %s is not known, or it has none", g.field)
	}
	patterns := make([]string, len(g.globs))
	for i, glob := range g.globs {
		patterns[i] = glob.pattern
	}
	return fmt.Sprintf("its %s is %s, which does not match %s", g.field, value, strings.Join(patterns, " or "))
}

type cmdlineMatches struct{ re *regexp.Regexp }

func (m *cmdlineMatches) holds(c *candidate) (bool, uint64) { return m.re.MatchString(c.p.Cmdline), 0 }

func (m *cmdlineMatches) describe(c *candidate) string {
	switch {
	case m.re.MatchString(c.p.Cmdline):
		return fmt.Sprintf("its command line matches %s", m.re)
	case c.p.Cmdline == "":
		return "its command line is not known"
	default:
		return fmt.Sprintf("its command line does not match %s", m.re)
	}
}

type spawnedByMatches struct{ re *regexp.Regexp }

func (m *spawnedByMatches) find(c *candidate) (found Process, ok bool) {
	id := c.engine.nearest(&c.p, m)
	return found, !id.IsZero() && c.view.Process(id, &found)
}

func (m *spawnedByMatches) holds(c *candidate) (bool, uint64) {
	return !c.engine.nearest(&c.p, m).IsZero(), 0
}

func (m *spawnedByMatches) describe(c *candidate) string {
	a, ok := m.find(c)
	if !ok {
		return fmt.Sprintf("no known ancestor's command line matches %s", m.re)
	}
	return fmt.Sprintf("the command line of its ancestor pid %d (%s) matches %s", a.ID.PID, a.Comm, m.re)
}

type leakerMatches struct{ re *regexp.Regexp }

func (m *leakerMatches) holds(c *candidate) (bool, uint64) {
	return m.re.MatchString(c.p.LeakerCmdline), 0
}

func (m *leakerMatches) describe(c *candidate) string {
	switch {
	case m.re.MatchString(c.p.LeakerCmdline):
		return fmt.Sprintf("the command line of its leaker matches %s", m.re)
	case c.p.LeakerCmdline == "":
		return "the command line of its leaker is not known"
	default:
		return fmt.Sprintf("the command line of its leaker does not match %s", m.re)
	}
}

type stdioAbandoned struct{}

func (stdioAbandoned) holds(c *candidate) (bool, uint64) { return c.p.Abandoned, 0 }

func (stdioAbandoned) describe(c *candidate) string {
	if c.p.Abandoned {
		return "nobody is at the other end of its standard input, output or error"
	}
	return "somebody is at the other ends of its standard input, output and error, or that is not known"
}

type orphanedFor time.Duration

func (d orphanedFor) holds(c *candidate) (bool, uint64) {
	if c.p.Since == 0 {
		return false, 0
	}
	at := after(c.p.Since, time.Duration(d))
	return c.now >= at, at
}

func (d orphanedFor) describe(c *candidate) string {
	if c.p.Since == 0 {
		return "since when it is an orphan is not known"
	}
	return describeAge("it has been an orphan for", age(c.now, c.p.Since), time.Duration(d))
}

type olderThan time.Duration

func (d olderThan) holds(c *candidate) (bool, uint64) {
	at := after(c.p.ID.Start, time.Duration(d))
	return c.now >= at, at
}

func (d olderThan) describe(c *candidate) string {
	return describeAge("its age is", age(c.now, c.p.ID.Start), time.Duration(d))
}

func describeAge(what string, is, limit time.Duration) string {
	if is >= limit {
		return fmt.Sprintf("%s %s, at least %s", what, quantity.FormatDuration(is), quantity.FormatDuration(limit))
	}
	return fmt.Sprintf("%s %s, less than %s", what, quantity.FormatDuration(is), quantity.FormatDuration(limit))
}

type memoryAbove uint64

func (m memoryAbove) holds(c *candidate) (bool, uint64) {
	bytes, ok := c.treeMemory()
	return ok && bytes > uint64(m), 0
}

func (m memoryAbove) describe(c *candidate) string {
	bytes, ok := c.treeMemory()
	switch {
	case !ok:
		return "the memory of its tree is not sampled"
	case bytes > uint64(m):
		return fmt.Sprintf("its tree holds %s, more than %s", quantity.FormatSize(bytes), quantity.FormatLimit(uint64(m)))
	default:
		return fmt.Sprintf("its tree holds %s, not more than %s", quantity.FormatSize(bytes), quantity.FormatLimit(uint64(m)))
	}
}

// leak is what is known of the leak that c belongs to.
func (c *candidate) leak() (Leak, bool) {
	if c.p.Leak == "" {
		return Leak{}, false
	}
	return c.view.Leak(c.p.Leak)
}

type leakMemoryAbove uint64

func (m leakMemoryAbove) holds(c *candidate) (bool, uint64) {
	l, ok := c.leak()
	return ok && l.BytesKnown && l.Bytes > uint64(m), 0
}

func (m leakMemoryAbove) describe(c *candidate) string {
	l, ok := c.leak()
	switch {
	case !ok:
		return "it belongs to no leak"
	case !l.BytesKnown:
		return "the memory of its leak is not sampled"
	case l.Bytes > uint64(m):
		return fmt.Sprintf("its leak holds %s, more than %s", quantity.FormatSize(l.Bytes), quantity.FormatLimit(uint64(m)))
	default:
		return fmt.Sprintf("its leak holds %s, not more than %s", quantity.FormatSize(l.Bytes), quantity.FormatLimit(uint64(m)))
	}
}

type leakProcessesAbove int

func (n leakProcessesAbove) holds(c *candidate) (bool, uint64) {
	l, ok := c.leak()
	return ok && l.Processes > int(n), 0
}

func (n leakProcessesAbove) describe(c *candidate) string {
	l, ok := c.leak()
	switch {
	case !ok:
		return "it belongs to no leak"
	case l.Processes > int(n):
		return fmt.Sprintf("its leak has %d processes, more than %d", l.Processes, int(n))
	default:
		return fmt.Sprintf("its leak has %d processes, not more than %d", l.Processes, int(n))
	}
}
