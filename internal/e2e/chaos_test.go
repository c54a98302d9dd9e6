// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"flag"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/abot-trace/abot-trace/internal/api"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// The chaos suite takes from the daemon what it needs: processor, memory, disk, pids,
// readers, journald, its own files. Each test looks from outside at what came of it:
// no orphan missed, none told twice, nobody ended but whom a rule was meant for, and
// what was lost told to the last record.

// long asks for the long form of the suite; `make test-chaos` does.
var long = flag.Bool("chaos", false, "the long form of the chaos suite")

// either returns the size of the form that was asked for.
func either[T any](short, whole T) T {
	if *long {
		return whole
	}
	return short
}

// bulky is a command whose records are large.
var bulky = "/bin/true " + strings.Repeat("x", 3000)

// A storm is a shell that starts processes without pause, one after the other.
type storm struct {
	t   testing.TB
	cmd *exec.Cmd
}

// startStorm runs the line so many times.
func startStorm(t testing.TB, n int, line string) *storm {
	t.Helper()
	s := &storm{t, exec.Command("sh", "-c", `i=0; while [ $i -lt $1 ]; do `+line+`; i=$((i+1)); done`, "storm", strconv.Itoa(n))}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
	})
	return s
}

// wait waits until it is over.
func (s *storm) wait() {
	s.t.Helper()
	if err := s.cmd.Wait(); err != nil {
		s.t.Fatalf("storm: %v", err)
	}
}

// orphanLine is a line of the log that tells an orphaning, by its id.
var orphanLine = regexp.MustCompile(`event=orphan id=(\S+-orphan-(\d+)-[0-9a-f]+)`)

// wantTold wants the orphaning of every pair told, by the one id that it has. A daemon
// that was killed may have told what its successor, which cannot know that, tells again.
func (d *daemon) wantTold(pairs []*pair, killed int) {
	d.t.Helper()
	var times map[int]map[string]int
	d.await("all are told", func() bool {
		times = d.told()
		return !slices.ContainsFunc(pairs, func(p *pair) bool { return times[p.child.pid] == nil })
	})
	for _, p := range pairs {
		if len(times[p.child.pid]) != 1 {
			d.t.Errorf("%s: told by the ids %v, want one", p.name, times[p.child.pid])
		}
		for id, n := range times[p.child.pid] {
			if n > 1+killed {
				d.t.Errorf("%s: told %d times as %s", p.name, n, id)
			}
		}
	}
}

// told is how often the log tells each orphan's event, by pid and id.
func (d *daemon) told() map[int]map[string]int {
	times := make(map[int]map[string]int)
	for _, m := range orphanLine.FindAllStringSubmatch(d.log.String(), -1) {
		pid, _ := strconv.Atoi(m[2])
		if times[pid] == nil {
			times[pid] = make(map[string]int)
		}
		times[pid][m[1]]++
	}
	return times
}

// wantLeaks wants every pair's child reported once, as leaked by its parent, and told.
func (d *daemon) wantLeaks(pairs []*pair, killed int) {
	d.t.Helper()
	for _, p := range pairs {
		wantLeak(d.t, p, d.reported(p))
	}
	wantOnceEach(d.t, d, pairs)
	d.wantTold(pairs, killed)
}

// status asks the daemon for its figures.
func (d *daemon) status() *api.Status {
	d.t.Helper()
	s, err := d.client.Status(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	return s
}

// records is how many of the kernel's records this life of the daemon has read.
func records(s *api.Status) uint64 {
	return s.Events[wire.TypeFork] + s.Events[wire.TypeExec] + s.Events[wire.TypeExit] + s.Events[wire.TypeSignal]
}

// lost is how many records were told as lost, in all.
func (d *daemon) lost() (records uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range d.events {
		if e.Lost != nil {
			records += e.Lost.Records
		}
	}
	return records
}

// wantComplete wants no record lost since the programs were attached.
func (d *daemon) wantComplete() {
	d.t.Helper()
	if s := d.status(); s.Refused != 0 || d.lost() != 0 {
		d.t.Errorf("%d records refused, %d told as lost", s.Refused, d.lost())
	}
}

// pairsOf makes so many pairs.
func pairsOf(t testing.TB, n int, name string) []*pair {
	t.Helper()
	pairs := make([]*pair, n)
	for i := range pairs {
		pairs[i] = newPair(t, fmt.Sprintf("%s %d", name, i))
	}
	return pairs
}

func killMains(pairs []*pair) {
	for _, p := range pairs {
		p.killMain()
	}
}
