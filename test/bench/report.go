// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A report is everything that one run measured.
type report struct {
	plan                        plan
	long                        bool
	took                        time.Duration
	costs                       costs
	ours, peer                  delay
	kills                       []delay // as kills are
	sampling, drawing, starting []timings
	idle                        float64 // percent of a processor
	rssBefore, rssAfter         int64   // anonymous, bytes
	missing                     map[string]error
}

// goals of the slowdown, by storm.
var goals = map[string]string{
	"exec, J=1": "1.03", "exec, J=2": "1.06", "fork, J=1": "1.03", "fork, J=2": "1.06", "thread, J=1": "1.03",
}

func (r *report) print(w io.Writer) error {
	var b bytes.Buffer
	r.head(&b)
	for _, part := range []struct {
		name   string
		tables []func(*bytes.Buffer)
	}{
		{"storms", []func(*bytes.Buffer){r.slowdownTable, r.eventTable}},
		{"delays", []func(*bytes.Buffer){r.delayTable}},
		{"kills", []func(*bytes.Buffer){r.killTable}},
		{"looks", []func(*bytes.Buffer){r.lookTables}},
		{"delays", []func(*bytes.Buffer){r.restTable}},
	} {
		for _, table := range part.tables {
			if r.plan.has(part.name) {
				table(&b)
			}
		}
	}
	r.missingParts(&b)
	r.method(&b)
	_, err := w.Write(b.Bytes())
	return err
}

func (r *report) head(b *bytes.Buffer) {
	var uts unix.Utsname
	_ = unix.Uname(&uts)
	fmt.Fprintf(b, "# Performance\n\nWritten by `make bench`")
	if !r.long {
		fmt.Fprint(b, " in its short form, which is a look and no judgement")
	}
	fmt.Fprintf(b, ": %d processors (%s), Linux %s, %s, %s; the run took %.0f s.\n",
		runtime.NumCPU(), cpuModel(), unix.ByteSliceToString(uts.Release[:]), runtime.Version(),
		time.Now().UTC().Format("2006-01-02"), r.took.Seconds())
}

func cpuModel() string {
	text, _ := os.ReadFile("/proc/cpuinfo")
	for _, line := range strings.Split(string(text), "\n") {
		if name, model, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(model)
		}
	}
	return runtime.GOARCH
}

func (r *report) slowdownTable(b *bytes.Buffer) {
	fmt.Fprint(b, "\n## How much slower storms run\n\n"+
		"Time of a storm beside that with nothing attached, in the same round: median, and 95 % confidence interval.\n\n|")
	for _, a := range arms[1:] {
		fmt.Fprintf(b, " | %s", a.name)
	}
	fmt.Fprint(b, " | goal |\n|---|"+strings.Repeat("---|", len(arms))+"\n")
	for _, s := range r.plan.storms {
		fmt.Fprintf(b, "| %s", s)
		for _, a := range arms[1:] {
			c := r.costs[a.name][s.String()]
			if len(c.slowdown) == 0 {
				fmt.Fprint(b, " | not run")
				continue
			}
			low, high := interval(c.slowdown)
			fmt.Fprintf(b, " | %.2f (%.2f to %.2f)", median(c.slowdown), low, high)
		}
		fmt.Fprintf(b, " | %s |\n", goals[s.String()])
	}
}

func (r *report) eventTable(b *bytes.Buffer) {
	fmt.Fprint(b, "\n## What an event costs the tracer, and what is lost\n\n"+
		"CPU time per event seen, of the storm and of whatever else ran, in µs, median; events lost of those that the storms made.\n\n"+
		"| | exec storm, J=1 | exec storm, J=2 | lost, all storms |\n|---|---|---|---|\n")
	for _, a := range arms[1:] {
		lost, events := 0, 0
		for _, c := range r.costs[a.name] {
			lost, events = lost+c.lost, events+c.events
		}
		if events == 0 {
			continue
		}
		fmt.Fprintf(b, "| %s | %.2f | %.2f | %d of %d |\n", a.name, median(r.costs[a.name]["exec, J=1"].perEvent),
			median(r.costs[a.name]["exec, J=2"].perEvent), lost, events)
	}
	fmt.Fprint(b, "| goal | 1.0; 1.5 with output | | 0 |\n")
}

func (r *report) delayTable(b *bytes.Buffer) {
	fmt.Fprintf(b, "\n## From a parent's death to the line that says so\n\nµs from the kernel's stamp to the line in the hands of another process, %d orphanings each.\n\n"+
		"| | idle p50 | idle p99 | exec storm p50 | exec storm p99 |\n|---|---|---|---|---|\n", r.plan.orphanings)
	row := func(name string, d delay) {
		if len(d.idle) > 0 && len(d.busy) > 0 {
			fmt.Fprintf(b, "| %s | %.0f | %.0f | %.0f | %.0f |\n", name, median(d.idle), quantile(d.idle, 0.99), median(d.busy), quantile(d.busy, 0.99))
		}
	}
	row("abot-trace: orphan, verdict, evidence", r.ours)
	row("bpftrace one-liner: an exit", r.peer)
	fmt.Fprint(b, "| goal | 60 | 200 | | 400 |\n")
}

func (r *report) killTable(b *bytes.Buffer) {
	fmt.Fprintf(b, "\n## From a parent's death to its tree's death\n\nµs from a parent's death, by SIGKILL, as the kernel stamped it, to the moment in which another process has seen that the last of those whom it left is dead; all obey SIGTERM; %d trees each.\n\n"+
		"| | idle p50 | idle p99 | exec storm p50 | exec storm p99 |\n|---|---|---|---|---|\n", r.plan.kills)
	for i, d := range r.kills {
		fmt.Fprintf(b, "| %s | %.0f | %.0f | %.0f | %.0f |\n", kills[i].name, median(d.idle), quantile(d.idle, 0.99), median(d.busy), quantile(d.busy, 0.99))
	}
	for _, k := range kills {
		if k.goal != "" {
			fmt.Fprintf(b, "| goal, %s | %s\n", k.name, k.goal)
		}
	}
}

func (r *report) lookTables(b *bytes.Buffer) {
	r.lookTable(b, "One look at all processes", r.sampling, "1 µs per process")
	r.lookTable(b, "The tree, printed", r.drawing, "1,000: 5; 10,000: 20")
	r.lookTable(b, "From start to READY", r.starting, "10,000: 300")
}

func (r *report) lookTable(b *bytes.Buffer, title string, looks []timings, goal string) {
	fmt.Fprintf(b, "\n## %s\n\nms, median, by the number of processes beside those of the host.\n\n|", title)
	for _, n := range r.plan.sizes {
		fmt.Fprintf(b, " | %d", n)
	}
	fmt.Fprint(b, " |\n|---|"+strings.Repeat("---|", len(r.plan.sizes))+"\n")
	for _, l := range looks {
		fmt.Fprintf(b, "| %s", l.name)
		for _, n := range r.plan.sizes {
			fmt.Fprintf(b, " | %.2f", median(l.ms[n]))
		}
		fmt.Fprint(b, " |\n")
	}
	fmt.Fprintf(b, "\nGoal: %s.\n", goal)
}

func (r *report) restTable(b *bytes.Buffer) {
	fmt.Fprintf(b, "\n## At rest, and after a storm\n\n| | | goal |\n|---|---|---|\n"+
		"| CPU of a daemon at rest over %.0f s, %% of one processor | %.3f | 0.1 |\n"+
		"| anonymous memory before a storm of %d processes | %.1f MiB | |\n"+
		"| and after it | %.1f MiB (%+.0f %%) | +20 %% |\n",
		r.plan.idle.Seconds(), r.idle, r.plan.memory, float64(r.rssBefore)/(1<<20), float64(r.rssAfter)/(1<<20),
		100*float64(r.rssAfter-r.rssBefore)/float64(r.rssBefore))
}

// missingParts says what could not be measured, and why.
func (r *report) missingParts(b *bytes.Buffer) {
	names := make([]string, 0, len(r.missing))
	for name := range r.missing {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(b, "\nNot measured: %s: %v.\n", name, r.missing[name])
	}
}

func (r *report) method(b *bytes.Buffer) {
	fmt.Fprintf(b, `
## Method

A storm is a static C program that forks (or vforks and executes itself, or makes a
thread) and waits, %d times in a row; with J=2 there are two, each pinned to a processor
of its own. One round runs every storm once with nothing attached and once under each
tracer, in an order drawn anew for each round; each tracer is started for its storm, and
has said that it is ready. Ratios are taken within a round, so that a machine that is
slower for a while does not count against one side. There were %d rounds for abot-trace
alone and %d with all.

abot-trace keeps the tree and judges; forkstat and bpftrace print each event to a file.
The daemon has the priority that its unit gives it (nice -20), the others that of whoever
starts them.
CPU per event is that of the tracer's processes from the storm's start until it has
worked off what is left. What forkstat has lost is counted from the lines that are
missing, what bpftrace has lost from its own word.

Memory is anonymous memory: the resident size counts the ring twice, because it is mapped
twice in a row.
`, r.plan.storms[0].count, r.plan.rounds, r.plan.peerRounds)
}
