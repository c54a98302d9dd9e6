// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/abot-trace/abot-trace/internal/nearest"
	"github.com/abot-trace/abot-trace/internal/policy"
	"github.com/abot-trace/abot-trace/internal/program"
	"github.com/abot-trace/abot-trace/internal/quantity"
	"github.com/abot-trace/abot-trace/internal/render"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// filterFlags are the flags by which every list of processes is filtered. Each may be
// repeated: one of its values must match, and all flags must.
func filterFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "user", Usage: "only of this `USER`, by name or number"},
		&cli.StringSliceFlag{Name: "unit", Usage: "only in this systemd `UNIT`; globs as web*.service"},
		&cli.StringSliceFlag{Name: "container", Usage: "only in the container with this `NAME` or id; globs"},
		&cli.StringSliceFlag{Name: "pod", Usage: "only in this Kubernetes `POD`, as namespace/name; globs, in which * matches a slash too"},
		&cli.StringSliceFlag{Name: "image", Usage: "only in a container of this `IMAGE`; globs, in which * matches a slash too"},
		&cli.StringSliceFlag{Name: "program", Usage: "only this `PROGRAM`, or script of an interpreter, by its base name; globs"},
		&cli.StringSliceFlag{Name: "verdict", Usage: "only with this `VERDICT`: leaked, deliberate or unknown"},
		&cli.StringFlag{Name: "min-age", Usage: "only those that are this old, orphans since they are: `AGE` as 90s, 1h or 7d"},
		&cli.StringFlag{Name: "min-memory", Usage: "only with this much memory and swap, an orphan with its tree: `SIZE` as 500MB or 1GiB"},
	}
}

// placeFlags filter by what only the kernel's /proc knows, which lists of living processes
// can ask for.
func placeFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringSliceFlag{Name: "cwd", Usage: "only with this working `DIR`ECTORY, or one below it; globs"},
		&cli.StringSliceFlag{Name: "port", Usage: "only those that can be reached on this TCP or UDP `PORT`, or one of a range as 8000-8099"},
	}
}

// A filter picks processes, leaks and events by the flags of filterFlags.
type filter struct {
	command *cli.Context
	age     time.Duration
	memory  uint64
	cwds    []string // absolute
	ports   []policy.PortRange
	active  bool
}

// facts are those that the filter needs, and those that columns show.
func (f *filter) facts() (facts []string) {
	style := styleOf(f.command)
	shows := func(fact string) bool {
		return style.Wide || slices.ContainsFunc(style.Columns, func(column string) bool { return render.SameColumn(column, fact) })
	}
	if len(f.cwds) > 0 || shows(wire.FactCwd) {
		facts = append(facts, wire.FactCwd)
	}
	if len(f.ports) > 0 || shows(wire.FactPorts) {
		facts = append(facts, wire.FactPorts)
	}
	return facts
}

// newFilter reads the flags; its error is a usage error.
func newFilter(c *cli.Context) (*filter, error) {
	f := &filter{command: c}
	verdicts := []string{wire.VerdictLeaked, wire.VerdictDeliberate, wire.VerdictUnknown}
	for _, v := range c.StringSlice("verdict") {
		if !slices.Contains(verdicts, v) {
			return nil, usageError("--verdict %q%s: want leaked, deliberate or unknown", v, nearest.Hint(v, verdicts...))
		}
	}
	for _, flag := range []string{"user", "unit", "container", "pod", "image", "program"} {
		for _, pattern := range c.StringSlice(flag) {
			if _, err := path.Match(pattern, ""); err != nil {
				return nil, usageError("--%s %q: %w", flag, pattern, err)
			}
		}
	}
	var err error
	if text := c.String("min-age"); text != "" {
		if f.age, err = quantity.ParseDuration(text); err != nil {
			return nil, usageError("--min-age: %w", err)
		}
	}
	if text := c.String("min-memory"); text != "" {
		if f.memory, err = quantity.ParseSize(text); err != nil {
			return nil, usageError("--min-memory: %w", err)
		}
	}
	if err := f.readPlaces(); err != nil {
		return nil, err
	}
	for _, flag := range append(filterFlags(), placeFlags()...) {
		f.active = f.active || c.IsSet(flag.Names()[0])
	}
	return f, nil
}

// readPlaces reads the flags of placeFlags.
func (f *filter) readPlaces() error {
	for _, text := range f.command.StringSlice("cwd") {
		dir, err := filepath.Abs(text)
		if err == nil {
			_, err = path.Match(dir, "")
		}
		if err != nil {
			return usageError("--cwd %q: %w", text, err)
		}
		f.cwds = append(f.cwds, dir)
	}
	for _, text := range f.command.StringSlice("port") {
		r, ok := policy.ParsePortRange(text)
		if !ok {
			return usageError("--port %q: want a number of 1 to 65535, or a range as 8000-8099", text)
		}
		f.ports = append(f.ports, r)
	}
	return nil
}

// place reports whether the process is where it is asked for.
func (f *filter) place(p *wire.Process) bool {
	below := func(dir string) bool {
		for at := p.Cwd; at != ""; at = path.Dir(at) {
			if ok, _ := path.Match(dir, at); ok || at == dir {
				return true
			}
			if at == "/" || at == "." {
				break
			}
		}
		return false
	}
	reached := func(r policy.PortRange) bool {
		return slices.ContainsFunc(p.Ports, func(port wire.Port) bool { return r.Has(port.Port) })
	}
	return (len(f.cwds) == 0 || slices.ContainsFunc(f.cwds, below)) && (len(f.ports) == 0 || slices.ContainsFunc(f.ports, reached))
}

// chosen reports whether the flag was not given, or with a glob that matches one of the
// values.
func chosen(c *cli.Context, flag string, values ...string) bool {
	want := c.StringSlice(flag)
	return len(want) == 0 || slices.ContainsFunc(want, func(pattern string) bool {
		return slices.ContainsFunc(values, func(value string) bool {
			ok, _ := path.Match(pattern, value)
			return value != "" && (ok || pattern == value)
		})
	})
}

// chosenWide is chosen for values with slashes that divide no directories: * matches them.
func chosenWide(c *cli.Context, flag, value string) bool {
	want := c.StringSlice(flag)
	return len(want) == 0 || value != "" && slices.ContainsFunc(want, func(pattern string) bool {
		return policy.MatchWide(pattern, value)
	})
}

// process reports whether the process passes.
func (f *filter) process(p *wire.Process, now time.Time) bool {
	verdict, since, memory := "", p.StartedAt, sumOf(p.RSSBytes, p.SwapBytes)
	if o := p.Orphan; o != nil {
		verdict, since = o.Verdict, cmp.Or(o.Since, since)
		if o.Tree != nil {
			memory = sumOf(o.Tree.RSSBytes, o.Tree.SwapBytes)
		}
	}
	uid := ""
	if p.UID != nil {
		uid = strconv.FormatUint(uint64(*p.UID), 10)
	}
	c := f.command
	return chosen(c, "user", p.User, uid) && chosen(c, "unit", p.Unit) && chosen(c, "container", p.Container, p.ContainerName) &&
		chosenWide(c, "pod", p.Pod.FullName()) && chosenWide(c, "image", p.ContainerImage) &&
		chosen(c, "program", programsOf(p)...) && chosen(c, "verdict", verdict) &&
		(f.age == 0 || since != nil && now.Sub(*since) >= f.age) && memory >= f.memory && f.place(p)
}

// programsOf are the names by which a process may be meant.
func programsOf(p *wire.Process) []string {
	names := []string{p.Comm, baseOf(p.Exe)}
	if len(p.Cmdline) > 0 {
		of := program.Of(p.Cmdline, p.Exe, p.Comm)
		names = append(names, baseOf(p.Cmdline[0]), of.Label())
	}
	return names
}

func baseOf(file string) string {
	if file == "" {
		return ""
	}
	return path.Base(file)
}

func sumOf(sizes ...*uint64) (sum uint64) {
	for _, size := range sizes {
		if size != nil {
			sum += *size
		}
	}
	return sum
}

// leak reports whether the leak passes: by its leaker, its verdict, its age and what it
// holds, or held at most.
func (f *filter) leak(l *wire.Leak, now time.Time) bool {
	c := f.command
	return chosen(c, "verdict", l.Verdict) && chosen(c, "user", l.Leaker.User) && chosen(c, "unit", l.Leaker.Unit) &&
		chosen(c, "container", l.Leaker.Container, l.Leaker.ContainerName) &&
		chosenWide(c, "pod", l.Leaker.Pod.FullName()) && chosenWide(c, "image", l.Leaker.ContainerImage) && chosen(c, "program", l.Program, l.Leaker.Comm, baseOf(l.Leaker.Exe)) &&
		now.Sub(l.OpenedAt) >= f.age && leakMemory(l) >= f.memory
}

// leakMemory is what an open leak holds, and an ended one held at most.
func leakMemory(l *wire.Leak) uint64 {
	if l.State == wire.LeakStateEnded {
		return sumOf(l.PeakBytes)
	}
	return sumOf(l.RSSBytes, l.SwapBytes)
}

// event reports whether what the event is about passes. A loss of events is told to
// everyone: nobody knows what was lost.
func (f *filter) event(e *wire.Event) bool {
	switch {
	case !f.active || e.Type == wire.TypeLost:
		return true
	case e.Leak != nil:
		return f.leak(e.Leak, e.Time)
	case e.Process != nil:
		return f.process(e.Process, e.Time)
	}
	return false
}
