// SPDX-License-Identifier: Apache-2.0

// Command software runs software that nobody here wrote, from Debian's packages, in a
// container, does to it what happens to it in life, and looks at what the daemon tells of
// the processes: at once, when it has settled, and whether an armed rule has ended them.
// It fails where a verdict is not the one that an operator wants.
//
//	go run ./test/software -short
//	go run ./test/software -small
//	go run ./test/software -run nginx -places init -times 1 -v
//	go run ./test/software -write docs/verdicts.md
//
// # Adding a case
//
// A case is a row of one of the tables in the files cases_*.go, each about one idea. It
// has a name that says what happens, a script, and what is wanted of each role. The script
// is bash, run by root below the init, or as a unit of its own under systemd; see
// inside/prelude.sh for its words. It brings the software into the state that the case is
// about, says by "ask ROLE PID..." which processes are asked about while they live, and
// then does the deed (kills a master, closes a terminal). It must wait for facts, and end
// once the deed is done; the processes are then watched. Use $job for a command that does
// nothing for long, "$dir" for files and $port for a port: each run has its own. A script
// that changes what others share says so by uses; define cleanup() for what the sweep
// after the run cannot find: it ends the processes asked about, and all that have inherited
// the run's environment.
//
// What is wanted is what an operator would say who knows what was done, never what the
// daemon says today. A case in which the order of steps is left to the scheduler sets
// race. One that nobody could tell wants unknown and says why. One that could be told but
// is not yet says so in open, and counts as unknown in the figures. Packages stand in
// packages.go.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/test/debian"
)

// options are the command's.
type options struct {
	short, verbose bool
	small          bool
	run            string
	places         string
	jobs, times    int
	write, details string
}

func main() {
	var o options
	flag.BoolVar(&o.short, "short", false, "run each row once, where the whole runs it three times, with a race ten")
	flag.BoolVar(&o.small, "small", false, "run some cases of every kind, which need few packages, each row once")
	flag.BoolVar(&o.verbose, "v", false, "print every answer")
	flag.StringVar(&o.run, "run", "", "run only the cases whose names match a regular `expression`")
	flag.StringVar(&o.places, "places", "init,systemd", "comma-separated `places`")
	flag.IntVar(&o.jobs, "jobs", 4, "`number` of cases at once")
	flag.IntVar(&o.times, "times", 0, "run each row this `number` of times")
	flag.StringVar(&o.write, "write", "", "write the rows into the markdown `FILE`")
	flag.StringVar(&o.details, "details", "", "write all that was told in wrong rows into `FILE`")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "software:", err)
		os.Exit(1)
	}
}

func progress(s string) { fmt.Fprintln(os.Stderr, "software:", s) }

func run(ctx context.Context, o options) error {
	if os.Geteuid() != 0 {
		return errors.New("needs root")
	}
	match, err := regexp.Compile(o.run)
	if err != nil {
		return err
	}
	cases, err := selectCases(match)
	if err != nil {
		return err
	}
	cache, err := debian.CacheDir()
	if err != nil {
		return err
	}
	installed := packages
	if o.small {
		installed = smallPackages
		cases = slices.DeleteFunc(cases, func(c testCase) bool { return !slices.Contains(smallCases, c.name) })
	}
	base, err := debian.RootWith(ctx, cache, installed, progress)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "abot-trace-software-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	program, deb, err := debian.Package(ctx, dir)
	if err != nil {
		return err
	}
	var rows []*row
	for name := range strings.SplitSeq(o.places, ",") {
		more, err := o.runPlace(ctx, place(name), cases, base, program, deb)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		rows = append(rows, more...)
	}
	return o.report(cases, rows)
}

// runPlace runs the cases of one place.
func (o *options) runPlace(ctx context.Context, p place, cases []testCase, base, program, deb string) (rows []*row, err error) {
	for i := range cases {
		if slices.Contains(cases[i].in(), p) {
			rows = append(rows, &row{c: &cases[i], place: p})
		}
	}
	if len(rows) == 0 {
		return nil, nil
	}
	progress(fmt.Sprintf("booting %s for %d rows", p, len(rows)))
	w, err := openWorld(ctx, p, base, program, deb)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	places := make(chan struct{}, o.jobs)
	locks := map[string]*sync.RWMutex{}
	var all sync.WaitGroup
	for _, r := range rows {
		for _, name := range []string{r.c.uses, r.c.shares} {
			if locks[name] == nil {
				locks[name] = &sync.RWMutex{}
			}
		}
		uses, shares := locks[r.c.uses], locks[r.c.shares]
		all.Go(func() {
			if r.c.uses != "" {
				uses.Lock()
				defer uses.Unlock()
			}
			if r.c.shares != "" {
				shares.RLock()
				defer shares.RUnlock()
			}
			places <- struct{}{}
			defer func() { <-places }()
			o.runRow(ctx, w, r)
		})
	}
	all.Wait()
	return rows, ctx.Err()
}

// runRow runs a row as often as it is due.
func (o *options) runRow(ctx context.Context, w *world, r *row) {
	times := 3
	switch {
	case o.times > 0:
		times = o.times
	case o.short, o.small:
		times = 1
	case r.c.race:
		times = 10
	}
	began := time.Now()
	for range times {
		if ctx.Err() != nil {
			return
		}
		t := w.try(ctx, r.c)
		if o.small && (t.err != nil || t.undecided()) {
			// On a machine that does much else a script fails, or a manager does not answer in
			// time. What was decided wrongly is never asked twice.
			progress(fmt.Sprintf("%s: once more, after: %s", r.c.name, strings.Join(t.complaints(), "; ")))
			t = w.try(ctx, r.c)
		}
		r.trials = append(r.trials, t)
	}
	o.print(r, time.Since(began))
}

var printing sync.Mutex

func (o *options) print(r *row, took time.Duration) {
	printing.Lock()
	defer printing.Unlock()
	state, complaints := "ok   ", r.complaints()
	if len(complaints) > 0 {
		state = "WRONG"
	}
	fmt.Printf("%s %-7s %-70s %d runs, %.1fs\n", state, r.place, r.c.name, len(r.trials), took.Seconds())
	for _, line := range complaints {
		fmt.Printf("      %s\n", line)
	}
	if !o.verbose {
		return
	}
	for _, t := range r.trials {
		for _, a := range t.answers {
			fmt.Printf("      %s %d: %s -> %s, ended %t, alive %t: %s\n", a.role, a.id.pid, a.told, a.settled, a.ended, a.alive, a.because)
		}
	}
}

// report prints the figures, writes the files that are asked for, and fails where a row
// is wrong.
func (o *options) report(cases []testCase, rows []*row) error {
	slices.SortStableFunc(rows, func(a, b *row) int { return position(cases, a) - position(cases, b) })
	f := count(rows)
	fmt.Println(f)
	if o.write != "" {
		if err := writeDocument(o.write, rows); err != nil {
			return err
		}
	}
	if o.details != "" {
		file, err := os.Create(o.details)
		if err != nil {
			return err
		}
		writeDetails(file, rows)
		if err := file.Close(); err != nil {
			return err
		}
	}
	wrong := 0
	for _, r := range rows {
		if len(r.complaints()) > 0 {
			wrong++
		}
	}
	if missed := f.missed(); len(missed) > 0 {
		return fmt.Errorf("%d of %d rows are wrong: %s", wrong, len(rows), strings.Join(missed, "; "))
	}
	if wrong > 0 {
		return fmt.Errorf("%d of %d rows are wrong", wrong, len(rows))
	}
	return nil
}

func position(cases []testCase, r *row) int {
	return slices.IndexFunc(cases, func(c testCase) bool { return c.name == r.c.name })
}
