// SPDX-License-Identifier: Apache-2.0

package sample

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"github.com/shirou/gopsutil/v3/common"
	"github.com/shirou/gopsutil/v3/cpu"
	"github.com/shirou/gopsutil/v3/load"
	"github.com/shirou/gopsutil/v3/mem"
)

// Host is one look at the machine. A part that could not be read is nil, and the
// reason is in Errors.
type Host struct {
	Memory   *Memory
	Swap     *Memory // nil where there is no swap at all
	CPU      *CPU
	Load     *[3]float64 // over 1, 5 and 15 minutes
	Disks    []Disk
	Pressure map[string]Pressure // by "cpu", "memory", "io"; empty where the kernel has no PSI
	Errors   []error
}

// Memory is how much of something is in use. For memory, Available is the kernel's
// own estimate of what programs can still get (MemAvailable).
type Memory struct {
	Total, Available uint64 // bytes
}

// Used is Total less Available.
func (m Memory) Used() uint64 { return m.Total - min(m.Available, m.Total) }

// Percent is the used share.
func (m Memory) Percent() float64 {
	if m.Total == 0 {
		return 0
	}
	return 100 * float64(m.Used()) / float64(m.Total)
}

// CPU is how busy the machine was between two looks.
type CPU struct {
	Cores   int
	Percent float64 // of all cores; time stolen by a hypervisor counts as busy, waiting for disks as idle
}

// HostReader looks at the machine. One goroutine uses it.
type HostReader struct {
	ctx    context.Context
	procfs string
	disks  diskReader
	before *cpu.TimesStat
}

// NewHostReader returns a reader that finds procfs at root; empty is /proc.
func NewHostReader(root string) *HostReader {
	if root == "" {
		root = "/proc"
	}
	env := common.EnvMap{common.HostProcEnvKey: root}
	return &HostReader{ctx: context.WithValue(context.Background(), common.EnvKey, env), procfs: root,
		disks: diskReader{procfs: root, pending: map[string]chan statfsResult{}}}
}

// Read looks once. CPU is the share since the call before, and so nil at the first.
func (r *HostReader) Read() Host {
	var h Host
	fail := func(what string, err error) {
		if err != nil {
			h.Errors = append(h.Errors, fmt.Errorf("%s: %w", what, err))
		}
	}
	var err error
	h.Memory, h.Swap, err = r.memory()
	fail("memory", err)
	h.CPU, err = r.cpu()
	fail("cpu", err)
	h.Load, err = r.load()
	fail("load", err)
	h.Disks, err = r.disks.read()
	fail("disks", err)
	h.Pressure, err = readPressure(r.procfs)
	fail("pressure", err)
	return h
}

func (r *HostReader) memory() (memory, swap *Memory, err error) {
	// Its own Used and UsedPercent leave page cache out by other rules.
	v, err := mem.VirtualMemoryWithContext(r.ctx)
	if err != nil {
		return nil, nil, err
	}
	if v.Total == 0 {
		return nil, nil, errors.New("no MemTotal in meminfo")
	}
	if v.SwapTotal > 0 {
		swap = &Memory{v.SwapTotal, v.SwapFree}
	}
	return &Memory{v.Total, v.Available}, swap, nil
}

func (r *HostReader) cpu() (*CPU, error) {
	times, err := cpu.TimesWithContext(r.ctx, false)
	if err != nil {
		return nil, err
	}
	if len(times) != 1 {
		return nil, errors.New("no cpu line in stat")
	}
	now, before := times[0], r.before
	r.before = &now
	if before == nil {
		return nil, nil
	}
	return &CPU{runtime.NumCPU(), busyPercent(*before, now)}, nil
}

// busyPercent is the busy share of the time between two readings. Guest time is
// part of user time already. The idle counters can run backwards (proc(5)).
func busyPercent(before, now cpu.TimesStat) float64 {
	busy := func(t cpu.TimesStat) float64 {
		return t.User + t.Nice + t.System + t.Irq + t.Softirq + t.Steal
	}
	idle := max(0, now.Idle+now.Iowait-before.Idle-before.Iowait)
	used := max(0, busy(now)-busy(before))
	if used+idle == 0 {
		return 0
	}
	return 100 * used / (used + idle)
}

func (r *HostReader) load() (*[3]float64, error) {
	avg, err := load.AvgWithContext(r.ctx)
	if err != nil {
		return nil, err
	}
	return &[3]float64{avg.Load1, avg.Load5, avg.Load15}, nil
}

// Interval returns the time until the next look: base far from every threshold,
// a sixth of it at one, never less than a second. Nearness is the greatest share
// of a threshold that any value has reached.
func Interval(base time.Duration, nearness float64) time.Duration {
	const from, closest = 0.8, 6.0
	share := min(1, max(0, (nearness-from)/(1-from)))
	next := time.Duration(float64(base) / (1 + share*(closest-1)))
	return max(min(base, time.Second), next)
}
