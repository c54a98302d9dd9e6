// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os/exec"

	"github.com/shirou/gopsutil/v3/process"

	"github.com/abot-trace/abot-trace/internal/probe"
	"github.com/abot-trace/abot-trace/internal/sample"
)

// A look is what the time of one kind of look at all processes was, in ms, by the
// number of processes.
type look struct {
	name string
	ms   map[int][]float64
}

// looks measures sampling, drawing and starting with each number of idle processes
// beside what runs anyway.
func (b *bench) looks(sizes []int, times int) (sampling, drawing, starting []look, err error) {
	ours, gops, ps := newLook("task iterator"), newLook("gopsutil"), newLook("ps -eo")
	tree, forest, pstree := newLook("abot-trace tree"), newLook("ps -e --forest"), newLook("pstree -p")
	start := newLook("start to READY")
	for i, n := range sizes {
		b.progress("looks", i, len(sizes))
		if err := b.lookAt(n, times, ours, gops, ps, tree, forest, pstree, start); err != nil {
			return nil, nil, nil, err
		}
	}
	return []look{ours, gops, ps}, []look{tree, forest, pstree}, []look{start}, nil
}

func newLook(name string) look { return look{name, make(map[int][]float64)} }

func (b *bench) lookAt(n, times int, ours, gops, ps, tree, forest, pstree, start look) error {
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
		look
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
