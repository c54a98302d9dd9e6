// SPDX-License-Identifier: Apache-2.0

// Package monitor holds what is measured against its thresholds: as readings for
// alerts in the daemon, as checks and a report for people.
package monitor

import (
	"cmp"
	"fmt"
	"math"
	"path"
	"slices"
	"time"

	"github.com/abot-trace/abot-trace/internal/alert"
	"github.com/abot-trace/abot-trace/internal/quantity"
	"github.com/abot-trace/abot-trace/internal/safetext"
	"github.com/abot-trace/abot-trace/internal/sample"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// StatusUnknown is the status of what could not be measured.
const StatusUnknown = "unknown"

// Settings are the thresholds, in percent, and the limits of the two lists.
type Settings struct {
	// Interval is how often the daemon looks, far from every threshold.
	Interval time.Duration
	// Memory is on what MemAvailable leaves, CPU on all cores, Disk on space and
	// inodes of each file system.
	Memory, CPU, Disk          alert.Thresholds
	MemoryFor, CPUFor, DiskFor time.Duration // how long it has to be so
	DiskExclude                []string      // globs on mount points that are not looked at
	OrphanAge                  time.Duration // orphans older than this are listed; 0 is none
	ProcessMemory              uint64        // processes over this (RSS and swap, bytes) are listed; 0 is none
	Alerts                     alert.Settings
}

// A Snapshot is everything that was measured at one time.
type Snapshot struct {
	Time time.Time
	Host sample.Host
	Pass *sample.Pass // nil where processes could not be listed
	// Orphans are those that live, with their verdicts. Without OrphansKnown nobody
	// has watched, and nothing is said of them.
	Orphans      []wire.Process
	OrphansKnown bool
	// OrphansError says why the daemon, which is to know them, did not tell; empty where
	// it did, or where none is expected.
	OrphansError string
}

// Readings returns what alerts are made of. Names: "memory", "cpu", "disk:/var",
// "inodes:/var", "orphans", "process_memory".
func Readings(s Settings, l Snapshot) []alert.Reading {
	var out []alert.Reading
	for _, r := range measure(s, l) {
		if r.Thresholds != (alert.Thresholds{}) {
			out = append(out, r)
		}
	}
	return out
}

// measure lists every figure, in the order of a report.
func measure(s Settings, l Snapshot) []alert.Reading {
	out := append(hostReadings(s, l), diskReadings(s, l.Host.Disks)...)
	if l.OrphansKnown && s.OrphanAge > 0 {
		old := OldOrphans(s, l)
		out = append(out, alert.Reading{Name: "orphans", Unit: alert.UnitCount, Value: float64(len(old)),
			Thresholds: alert.Thresholds{Warning: 1}, Detail: orphanDetail(s, old)})
	}
	if l.OrphansError != "" && s.OrphanAge > 0 {
		out = append(out, alert.Reading{Name: "orphans", Unit: alert.UnitCount, Value: math.NaN(),
			Thresholds: alert.Thresholds{Warning: 1}, Detail: l.OrphansError})
	}
	if s.ProcessMemory == 0 {
		return out
	}
	value, detail := math.NaN(), ""
	if l.Pass != nil {
		high := l.Pass.Above(s.ProcessMemory)
		value = float64(len(high))
		if len(high) > 0 {
			detail = fmt.Sprintf("over %s, the largest %s with %s", quantity.FormatLimit(uint64(s.ProcessMemory)),
				name(high[0]), quantity.FormatSize(uint64(high[0].Memory())))
		}
	}
	return append(out, alert.Reading{Name: "process_memory", Unit: alert.UnitCount, Value: value,
		Thresholds: alert.Thresholds{Warning: 1}, Detail: detail})
}

func hostReadings(s Settings, l Snapshot) []alert.Reading {
	memory := alert.Reading{Name: "memory", Unit: alert.UnitPercent, Thresholds: s.Memory, For: s.MemoryFor, Value: math.NaN()}
	if m := l.Host.Memory; m != nil {
		memory.Value, memory.Detail = m.Percent(), ofTotal(m)+pressureDetail(l.Host, "memory")
	}
	out := []alert.Reading{memory}
	if m := l.Host.Swap; m != nil {
		out = append(out, alert.Reading{Name: "swap", Unit: alert.UnitPercent, Value: m.Percent(), Detail: ofTotal(m)})
	}
	cpu := alert.Reading{Name: "cpu", Unit: alert.UnitPercent, Thresholds: s.CPU, For: s.CPUFor, Value: math.NaN()}
	if c := l.Host.CPU; c != nil {
		cpu.Value, cpu.Detail = c.Percent, fmt.Sprintf("%d cores", c.Cores)
		if load := l.Host.Load; load != nil {
			cpu.Detail += fmt.Sprintf(", load %.2f %.2f %.2f", load[0], load[1], load[2])
		}
		cpu.Detail += pressureDetail(l.Host, "cpu")
	}
	out = append(out, cpu)
	// The machine may look idle while one process holds a whole core.
	if l.Pass != nil {
		if u, ok := l.Pass.Busiest(); ok {
			out = append(out, alert.Reading{Name: "cpu_process", Unit: alert.UnitCores, Value: u.CPUPercent / 100, Detail: name(u)})
		}
	}
	return out
}

func diskReadings(s Settings, disks []sample.Disk) []alert.Reading {
	var out []alert.Reading
	for _, d := range disks {
		if slices.ContainsFunc(s.DiskExclude, func(glob string) bool { ok, _ := path.Match(glob, d.Mount); return ok }) {
			continue
		}
		mount := safetext.Terminal(d.Mount)
		r := alert.Reading{Name: "disk:" + mount, Unit: alert.UnitPercent, Thresholds: s.Disk, For: s.DiskFor, Value: d.Percent}
		r.Detail = fmt.Sprintf("%s of %s", quantity.FormatSize(uint64(d.Used)), quantity.FormatSize(uint64(d.Total)))
		if d.Tmpfs {
			r.Name = "tmpfs:" + mount
			r.Detail += ", memory"
		}
		if d.Err != nil {
			r.Value, r.Detail = math.NaN(), d.Err.Error()
		}
		out = append(out, r)
		if d.Err == nil && d.InodesPercent >= 0 && !d.Tmpfs {
			out = append(out, alert.Reading{Name: "inodes:" + mount, Unit: alert.UnitPercent, Thresholds: s.Disk, For: s.DiskFor, Value: d.InodesPercent})
		}
	}
	return out
}

func ofTotal(m *sample.Memory) string {
	return fmt.Sprintf("%s of %s", quantity.FormatSize(uint64(m.Used())), quantity.FormatSize(uint64(m.Total)))
}

func pressureDetail(h sample.Host, resource string) string {
	if p, ok := h.Pressure[resource]; ok && p.Some.Avg10 > 0 {
		return fmt.Sprintf(", pressure %.1f %%", p.Some.Avg10)
	}
	return ""
}

func name(u sample.Usage) string {
	return fmt.Sprintf("%s[%d]", safetext.Terminal(u.Comm.String()), u.ID.PID)
}

// OldOrphans returns the orphans over the age that nobody left on purpose, the
// oldest first; one whose age is not known is not among them.
func OldOrphans(s Settings, l Snapshot) []wire.Process {
	var out []wire.Process
	if s.OrphanAge == 0 {
		return nil
	}
	for _, p := range l.Orphans {
		o := p.Orphan
		if o != nil && o.Verdict != wire.VerdictDeliberate && o.Since != nil && l.Time.Sub(*o.Since) > s.OrphanAge {
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b wire.Process) int { return a.Orphan.Since.Compare(*b.Orphan.Since) })
	return out
}

func orphanDetail(s Settings, old []wire.Process) string {
	if len(old) == 0 {
		return ""
	}
	return fmt.Sprintf("over %s, the oldest %s[%d]", quantity.FormatDuration(s.OrphanAge), safetext.Terminal(old[0].Comm), old[0].PID)
}

// Report returns the document of `monitor --json`: checks with the worst first.
func Report(s Settings, l Snapshot) wire.Monitor {
	doc := wire.Monitor{Schema: wire.Schema, Time: l.Time, Checks: checks(measure(s, l)), Orphans: OldOrphans(s, l),
		HighMemory: []wire.Process{}}
	if doc.Orphans == nil {
		doc.Orphans = []wire.Process{}
	}
	doc.Status = wire.AlertOK
	if len(doc.Checks) > 0 {
		doc.Status = doc.Checks[0].Status
	}
	if l.Pass != nil && s.ProcessMemory > 0 {
		for _, u := range l.Pass.Above(s.ProcessMemory) {
			doc.HighMemory = append(doc.HighMemory, sample.Describe(u, l.Pass.Boot, l.Time))
		}
	}
	return doc
}

func checks(readings []alert.Reading) []wire.Check {
	out := make([]wire.Check, 0, len(readings))
	for _, r := range readings {
		c := wire.Check{Name: r.Name, Status: StatusUnknown, Unit: r.Unit, Detail: r.Detail,
			Warning: known(r.Thresholds.Warning), Critical: known(r.Thresholds.Critical)}
		if !math.IsNaN(r.Value) {
			c.Status = r.Thresholds.Level(r.Value).String()
			c.Value = &r.Value
		}
		out = append(out, c)
	}
	slices.SortStableFunc(out, func(a, b wire.Check) int { return cmp.Compare(badness(b.Status), badness(a.Status)) })
	return out
}

// known returns a threshold for the wire, where absent means that there is none.
func known(threshold float64) *float64 {
	if threshold == 0 {
		return nil
	}
	return &threshold
}

// badness orders statuses; what cannot be measured is worse than ok, and better
// than what is known to be bad.
func badness(status string) int {
	return slices.Index([]string{wire.AlertOK, StatusUnknown, wire.AlertWarning, wire.AlertCritical}, status)
}

// ExitCode is the exit of `abot-trace monitor`: 0 ok, 1 warning, 2 critical, 3 unknown.
func ExitCode(status string) int {
	switch status {
	case wire.AlertOK:
		return 0
	case wire.AlertWarning:
		return 1
	case wire.AlertCritical:
		return 2
	default:
		return 3
	}
}
