// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// How long a script may take, and how long a run is watched after it: the verdict is to
// be final 1 s after the orphaning, and the armed rule acts after 2 s.
const (
	scriptLimit = 120 * time.Second
	settled     = 1600 * time.Millisecond
	enforced    = 2600 * time.Millisecond
	lateLimit   = 10 * time.Second
	deathLimit  = 20 * time.Second
)

// An asked process is one that a run is about.
type asked struct {
	role string
	id   identity
}

// An answer is what one run was told of one process.
type answer struct {
	asked
	told    string // the first verdict, with its provisional mark
	settled string // the one that held 1.6 s after the deed; none where there was no orphan
	because string
	pending bool     // what held then was still provisional
	ended   bool     // by the armed rule
	alive   bool     // at the end of the run
	lines   []string // all that was told of it
}

// A trial is one run of a case in a world.
type trial struct {
	c       *testCase
	w       *world
	answers []answer
	output  string // of the script
	err     error  // why there is no answer
}

var runs atomic.Int32

// try runs a case once.
func (w *world) try(ctx context.Context, c *testCase) *trial {
	t := &trial{c: c, w: w}
	run := int(runs.Add(1))
	dir := filepath.Join(w.dir, "run", strconv.Itoa(run))
	t.err = t.run(ctx, run, dir)
	if t.err == nil {
		t.err = w.watch.trouble()
	}
	return t
}

func (t *trial) run(ctx context.Context, run int, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	text := fmt.Sprintf("run=%d dir=/test/run/%[1]d place=%s\n. /test/inside/prelude.sh\n%s\nready\n", run, t.w.place, t.c.script)
	if err := os.WriteFile(filepath.Join(dir, "script"), []byte(text), 0o644); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, scriptLimit)
	defer cancel()
	inside := fmt.Sprintf("/test/run/%d/script", run)
	var output bytes.Buffer
	cmd := t.w.command(ctx, fmt.Sprintf("case-%d", run), inside)
	cmd.Stdout, cmd.Stderr = &output, &output
	cmd.WaitDelay = time.Second
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	if t.w.place == plain {
		fmt.Fprintln(stdin, inside)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	processes, err := awaitTold(ctx, dir, "ready", done)
	if err == nil {
		t.watchOn(ctx, processes)
		err = os.WriteFile(filepath.Join(dir, "go"), nil, 0o644)
	}
	if err == nil {
		_, err = awaitTold(ctx, dir, "done", done)
	}
	err = errors.Join(err, t.sweep(context.WithoutCancel(ctx), run, processes))
	_ = stdin.Close()
	_ = cmd.Process.Kill()
	<-done
	t.output = strings.TrimSpace(output.String())
	if err != nil && t.output != "" {
		return fmt.Errorf("%w\n%s", err, t.output[max(0, len(t.output)-1500):])
	}
	return err
}

// sweep ends what a run has left.
func (t *trial) sweep(ctx context.Context, run int, processes []asked) error {
	args := []string{"python3", "-I", "/test/inside/sweep.py", strconv.Itoa(run)}
	for _, p := range processes {
		args = append(args, fmt.Sprintf("%d:%d", p.id.pid, p.id.start))
	}
	_, err := t.w.enter(ctx, args...)
	return err
}

// awaitTold waits for the script to say a last word, and returns what it asks about.
func awaitTold(ctx context.Context, dir, last string, done chan error) ([]asked, error) {
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	ended := false
	for {
		told, err := os.ReadFile(filepath.Join(dir, "told"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		processes, said, err := readTold(string(told), last)
		if said || err != nil {
			return processes, err
		}
		if ended {
			return processes, fmt.Errorf("the script has ended before it was %s", last)
		}
		select {
		case <-tick.C:
		case err := <-done:
			done <- err
			ended = true // it may have said so just before
		case <-ctx.Done():
			return processes, fmt.Errorf("the script is not %s: %w", last, ctx.Err())
		}
	}
}

// readTold reads what a script has told, and whether it has said the last word.
func readTold(text, last string) (processes []asked, said bool, err error) {
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		switch {
		case len(f) == 1:
			said = said || f[0] == last
		case len(f) == 4 && f[0] == "ask":
			pid, err1 := strconv.ParseInt(f[2], 10, 32)
			start, err2 := strconv.ParseUint(f[3], 10, 64)
			if err := errors.Join(err1, err2); err != nil {
				return nil, false, fmt.Errorf("the script says %q: %w", line, err)
			}
			processes = append(processes, asked{f[1], identity{int32(pid), start}})
		case strings.HasPrefix(line, "fail") && strings.HasSuffix(line, "\n"):
			return processes, false, errors.New(strings.TrimSpace(line))
		}
	}
	return processes, said, nil
}

// watchOn looks at what is told of the processes until the armed rule has had its time.
func (t *trial) watchOn(ctx context.Context, processes []asked) {
	begin := time.Now()
	sleep(ctx, settled)
	// A slow machine may be late with what is due by now.
	for late := time.Now(); t.provisional(processes) && time.Since(late) < lateLimit; {
		sleep(ctx, 20*time.Millisecond)
	}
	for _, p := range processes {
		a := answer{asked: p, told: string(none), settled: string(none)}
		if words, _ := t.w.watch.of(p.id); len(words) > 0 {
			first, last := words[0], words[len(words)-1]
			a.told, a.settled, a.because, a.pending = first.String(), last.verdict, last.because, last.provisional
		}
		t.answers = append(t.answers, a)
	}
	sleep(ctx, enforced-time.Since(begin))
	for i := range t.answers {
		a := &t.answers[i]
		for begin := time.Now(); a.settled == string(leaked) && !a.ended && time.Since(begin) < deathLimit; sleep(ctx, 20*time.Millisecond) {
			_, outcome := t.w.watch.of(a.id)
			a.ended = outcome != ""
			if !t.w.alive(a.id) && time.Since(begin) > 500*time.Millisecond {
				break
			}
		}
		_, outcome := t.w.watch.of(a.id)
		a.ended, a.alive, a.lines = outcome != "", t.w.alive(a.id), t.w.watch.told(a.id)
	}
}

// provisional reports whether what holds of one that lives is still to be confirmed.
func (t *trial) provisional(processes []asked) bool {
	return slices.ContainsFunc(processes, func(p asked) bool {
		words, _ := t.w.watch.of(p.id)
		return len(words) > 0 && words[len(words)-1].provisional && t.w.alive(p.id)
	})
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

func (w word) String() string {
	if w.provisional {
		return w.verdict + ", provisional"
	}
	return w.verdict
}

// wrong says what is wrong with an answer, or nothing.
func (t *trial) wrong(a answer) string {
	w, ok := t.c.wants[a.role]
	switch {
	case !ok:
		return "nothing is wanted of the role " + a.role
	case w == kept && (a.settled == string(none) || a.settled == string(deliberate)):
	case w == kept && a.leftUnjudged():
	case string(w) == a.settled:
	case a.settled == string(unknown) && t.c.open != "" && w != none:
	default:
		return fmt.Sprintf("%s: it is %s (%s), want %s", a.role, a.settled, a.because, w)
	}
	if a.ended && w != leaked {
		return a.role + ": the armed rule has ended it"
	}
	if w == leaked && a.settled == string(leaked) && a.alive {
		return a.role + ": the armed rule has not ended it"
	}
	return ""
}

// leftUnjudged says that it has ended by itself before it was judged for good.
func (a answer) leftUnjudged() bool {
	return !a.alive && !a.ended && (a.pending || a.settled == string(unknown))
}

// undecided says that answers are wrong, and all of these are unknown.
func (t *trial) undecided() bool {
	wrong := slices.DeleteFunc(slices.Clone(t.answers), func(a answer) bool { return t.wrong(a) == "" })
	return len(wrong) > 0 && !slices.ContainsFunc(wrong, func(a answer) bool { return a.settled != string(unknown) || a.ended })
}

// complaints are what is wrong with a run.
func (t *trial) complaints() (lines []string) {
	if t.err != nil {
		return []string{t.err.Error()}
	}
	for role := range t.c.wants {
		if !slices.ContainsFunc(t.answers, func(a answer) bool { return a.role == role }) {
			lines = append(lines, "the script asked about no "+role)
		}
	}
	for _, a := range t.answers {
		if wrong := t.wrong(a); wrong != "" {
			lines = append(lines, wrong)
		}
	}
	slices.Sort(lines)
	return slices.Compact(lines)
}
