// SPDX-License-Identifier: Apache-2.0

// Command bench measures what abot-trace costs its host, beside the bare kernel and
// beside other tracers, all in one run whose parts alternate, and prints the table of
// docs/performance.md. It needs root, two processors, cc, and at its best a machine
// that does nothing else.
//
//	go run ./test/bench            # under a minute: a look, not a judgement
//	go run ./test/bench -part kills # of the four, see parts
//	go run ./test/bench -full -write docs/performance.md
package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/abot-trace/abot-trace/internal/probe"
)

// bench is one run.
type bench struct {
	dir    string // scratch
	binary string // abot-trace
	storm  string // the workload
	socket string
	config string // without rules
	watch  *probe.Probe
	// missing says of a peer why it could not run.
	missing map[string]error
	began   time.Time
}

// A plan says how much is measured.
type plan struct {
	storms             []storm
	rounds, peerRounds int
	orphanings         int
	kills              int // trees left behind
	sizes              []int
	looks              int
	memory             int // forks before memory is compared
	idle               time.Duration
	part               string // of the parts, empty is all
}

// parts are what can be measured alone.
var parts = []string{"storms", "delays", "kills", "looks"}

func (p *plan) has(part string) bool { return p.part == "" || p.part == part }

func short() plan {
	return plan{storms: storms(1500), rounds: 2, peerRounds: 1, orphanings: 200, kills: 30,
		sizes: []int{100, 1000}, looks: 3, memory: 10000, idle: 10 * time.Second}
}

func full() plan {
	return plan{storms: storms(6000), rounds: 30, peerRounds: 5, orphanings: 2000, kills: 300,
		sizes: []int{100, 1000, 10000}, looks: 11, memory: 200000, idle: time.Minute}
}

func storms(count int) []storm {
	return []storm{
		{"exec", 1, count, 3}, {"exec", 2, count, 3},
		{"fork", 1, count, 2}, {"fork", 2, count, 2},
		{"thread", 1, 3 * count, 0},
	}
}

func main() {
	long := flag.Bool("full", false, "measure long enough to judge: some minutes")
	write := flag.String("write", "", "write the tables to `FILE` too, their figures beside it as JSON, and what README says of cost")
	part := flag.String("part", "", "measure only `PART`: "+strings.Join(parts, ", "))
	flag.Parse()
	p := short()
	if *long {
		p = full()
	}
	p.part = *part
	if !slices.Contains(append(parts, ""), p.part) || p.part != "" && *write != "" {
		fmt.Fprintf(os.Stderr, "bench: -part: one of %s, and not to be written\n", strings.Join(parts, ", "))
		os.Exit(2)
	}
	if err := run(p, *long, *write); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(p plan, long bool, write string) error {
	dir, err := os.MkdirTemp("", "abot-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	// As in service, where /run is: what the daemon writes beside its socket stays in memory.
	run, err := os.MkdirTemp("/dev/shm", "abot-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(run)
	b := &bench{dir: dir, binary: filepath.Join(dir, "abot-trace"), socket: filepath.Join(run, "sock"),
		missing: make(map[string]error), began: time.Now()}
	b.config = filepath.Join(dir, "config.yaml")
	if err := os.WriteFile(b.config, []byte("rules: []\n"), 0o644); err != nil {
		return err
	}
	build := exec.Command("go", "build", "-o", b.binary, "./cmd/abot-trace")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w: %s", err, out)
	}
	if b.storm, err = buildStorm(dir); err != nil {
		return err
	}
	r, err := b.measure(p)
	if err != nil {
		return err
	}
	r.long, r.took = long, time.Since(b.began)
	var text bytes.Buffer
	if err := r.print(io.MultiWriter(os.Stdout, &text)); err != nil || write == "" {
		return err
	}
	if err := os.WriteFile(write, text.Bytes(), 0o644); err != nil {
		return err
	}
	return writeFigures(text.Bytes(), write, "README.md")
}

func (b *bench) measure(p plan) (*report, error) {
	r := &report{plan: p, missing: b.missing}
	var err error
	if p.has("storms") {
		if r.costs, err = b.slowdowns(p.storms, p.rounds, p.peerRounds); err != nil {
			return nil, err
		}
	}
	if p.has("delays") {
		if err := b.measureDaemon(p, r); err != nil {
			return nil, err
		}
		if r.peer, err = b.delays(p.orphanings, b.listenBpftrace); err != nil {
			b.missing["bpftrace's delay"] = err
		}
	}
	if p.has("kills") {
		if r.kills, err = b.killing(p.kills); err != nil {
			return nil, err
		}
	}
	if p.has("looks") {
		r.sampling, r.drawing, r.starting, err = b.timeLooks(p.sizes, p.looks)
	}
	return r, err
}

// measureDaemon measures what one daemon does: delays, idle cost, memory.
func (b *bench) measureDaemon(p plan, r *report) error {
	cmd, _, err := b.startDaemon()
	if err != nil {
		return err
	}
	defer end(cmd)
	b.progress("delays", 0, 1)
	if r.ours, err = b.delays(p.orphanings, b.listenOurs); err != nil {
		return err
	}
	pid := cmd.Process.Pid
	t := &tracer{procs: []*exec.Cmd{cmd}}
	b.settle(t)
	before, began := t.cpu(), time.Now()
	time.Sleep(p.idle)
	r.idle = float64(t.cpu()-before) / float64(time.Since(began)) * 100
	b.progress("memory", 0, 1)
	r.rssBefore = rss(pid)
	if _, err := b.run(storm{kind: "fork", jobs: 2, count: p.memory / 2}); err != nil {
		return err
	}
	b.settle(t)
	r.rssAfter = rss(pid)
	return nil
}

// progress says on stderr where the run stands.
func (b *bench) progress(what string, done, of int) {
	fmt.Fprintf(os.Stderr, "bench: %4.0f s  %s %d/%d\n", time.Since(b.began).Seconds(), what, done, of)
}
