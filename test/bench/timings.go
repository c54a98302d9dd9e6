// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os/exec"

	"github.com/shirou/gopsutil/v3/process"

	"github.com/abot-trace/abot-trace/internal/probe"
	"github.com/abot-trace/abot-trace/internal/sample"
)

// timings are what the time of one kind of look at all processes was, in ms, by the
// number of processes.
type timings struct {
	name string
	ms   map[int][]float64
}

// timeLooks measures sampling, drawing and starting with each number of idle processes
// beside what runs anyway.
func (b *bench) timeLooks(sizes []int, times int) (sampling, drawing, starting []timings, err error) {
	ours, gops, ps := newTimings("task iterator"), newTimings("gopsutil"), newTimings("ps -eo")
	tree, forest, pstree := newTimings("abot-trace tree"), newTimings("ps -e --forest"), newTimings("pstree -p")
	start := newTimings("start to READY")
	for i, n := range sizes {
		b.progress("looks", i, len(sizes))
		if err := b.timeAt(n, times, ours, gops, ps, tree, forest, pstree, start); err != nil {
			return nil, nil, nil, err
		}
	}
	return []timings{ours, gops, ps}, []timings{tree, forest, pstree}, []timings{start}, nil
}

func newTimings(name string) timings { return timings{name, make(map[int][]float64)} }

func (b *bench) timeAt(n, times int, ours, gops, ps, tree, forest, pstree, start timings) error {
	stop, err := b.idle(n)
	if err != nil {
		return err
	}
	defer stop()
	for range 3 {
		cmd, took, err := b.startDaemon()
		if err != nil {
			return err
		}
		end(cmd)
		start.ms[n] = append(start.ms[n], float64(took.Microseconds())/1e3)
	}
	p, err := probe.Open(probe.Options{})
	if err != nil {
		return err
	}
	defer p.Close()
	sampler := sample.NewSampler(sample.TaskFunc(p.EachTask), nil)
	cmd, _, err := b.startDaemon()
	if err != nil {
		return err
	}
	defer end(cmd)
	for _, m := range []struct {
		timings
		fn func() error
	}{
		{ours, func() error { _, err := sampler.Pass(); return err }},
		{gops, sampleGopsutil},
		{ps, func() error { return exec.Command("ps", "-eo", "pid,ppid,rss,time,comm").Run() }},
		{tree, func() error { return exec.Command(b.binary, "tree", "--socket", b.socket).Run() }},
		{forest, func() error { return exec.Command("ps", "-e", "--forest", "-o", "pid,user,rss,args").Run() }},
		{pstree, func() error { return exec.Command("pstree", "-p").Run() }},
	} {
		if m.ms[n], err = worked(times, m.fn); err != nil {
			b.missing[m.name] = err
		}
	}
	return nil
}

// sampleGopsutil reads what the task iterator does, process by process.
func sampleGopsutil() error {
	all, err := process.Processes()
	if err != nil {
		return err
	}
	for _, p := range all {
		// Who is gone meanwhile is no error.
		_, _ = p.Ppid()
		_, _ = p.MemoryInfo()
		_, _ = p.Times()
		_, _ = p.CreateTime()
		_, _ = p.Name()
	}
	return nil
}
