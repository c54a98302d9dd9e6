// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/boottime"
	"github.com/abot-trace/abot-trace/internal/wire"
)

var attackFile = flag.String("attack-file", "", "the markdown file whose table of attacks TestAttack writes anew")

// The users of TestAttack. The other two are root, and one of the socket's group.
const (
	attacker = "2001"
	neighbor = "2002"
)

// attackRules end what is leaked at once, whoever's it is.
const attackRules = unhurried + `
socket: {group: "` + neighbor + `"}
rules:
  - {name: all, mode: enforce, match: {verdict: [leaked], cmdline: ^sleep}, orphaned_for: 0s, grace: 1s}
`

// Each victim is a parent that dies and its child, which is known by how long it sleeps.
var victims = map[string]string{"0": "3330", neighbor: "3332"}

var attacks = []struct{ name, what string }{
	{"30 connections with pipelined requests", "pipeline"},
	{"connections whose request never ends", "hold"},
	{"two loops that leave an orphan each", "orphans"},
	{"two loops that leave fifty each", "families"},
	{"a living chain of 600, orphans at its end", "chain"},
}

// A strain is what the others meet with during an attack.
type strain struct {
	orphans, kills []time.Duration // from a parent's death to the reader's line, and to its child's end
	requests       []time.Duration
	refused        []string
}

// TestAttack has one user attack the daemon while another one and root work: beside the
// same load without the attack, what they are told and what is ended for them is not
// later than twice as much, and no request of theirs is refused or takes a second. The
// short form makes too few of each to say more than the last.
func TestAttack(t *testing.T) {
	d := startDaemon(t, attackRules)
	// Who reads and measures is not to wait for the attack's processes.
	setNice(t, -20)
	t.Cleanup(func() { setNice(t, 0) })
	phase := either(4*time.Second, 20*time.Second)
	var table strings.Builder
	fmt.Fprint(&table, "| user 2001 | orphan p50 / p99 | x | kill p50 / p99 | x | slowest request |\n|---|---|---|---|---|---|\n")
	base := d.strained(t, "spin", phase)
	row(&table, "two processes that only run", base, base)
	for _, a := range attacks {
		s := d.strained(t, a.what, phase)
		row(&table, a.name, s, base)
		if len(s.refused) > 0 {
			t.Errorf("%s: %d requests refused: %s", a.name, len(s.refused), s.refused[0])
		}
		if slowest := slices.Max(s.requests); slowest > either(patience, time.Second) {
			t.Errorf("%s: a request took %v", a.name, slowest)
		}
		if !*long {
			continue
		}
		if r := ratio(s.orphans, base.orphans); r > 2 {
			t.Errorf("%s: orphans are told %.1f times as late", a.name, r)
		}
		if r := ratio(s.kills, base.kills); r > 2 {
			t.Errorf("%s: kills take %.1f times as long", a.name, r)
		}
	}
	t.Logf("\n%s", table.String())
	if *attackFile != "" {
		writeAttacks(t, table.String())
	}
}

func row(w *strings.Builder, name string, s, base strain) {
	fmt.Fprintf(w, "| %s | %s / %s | %.1f | %s / %s | %.1f | %s |\n", name,
		short(centile(s.orphans, 50)), short(centile(s.orphans, 99)), ratio(s.orphans, base.orphans),
		short(centile(s.kills, 50)), short(centile(s.kills, 99)), ratio(s.kills, base.kills), short(slices.Max(s.requests)))
}

func short(d time.Duration) string { return fmt.Sprintf("%.2f ms", float64(d.Microseconds())/1000) }

func ratio(s, base []time.Duration) float64 {
	return float64(centile(s, 99)) / float64(centile(base, 99))
}

func centile(list []time.Duration, n int) time.Duration {
	if len(list) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(list))
	return sorted[min(len(sorted)-1, len(sorted)*n/100)]
}

// strained has the attacker do what for a time, and the others work beside it.
func (d *daemon) strained(t *testing.T, what string, length time.Duration) (s strain) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	script, err := filepath.Abs("testdata/attack.py")
	if err != nil {
		t.Fatal(err)
	}
	attack := asUser(attacker, python(t), "-S", script, what, fmt.Sprint((length + 2*time.Second).Seconds()), d.socket())
	var said bytes.Buffer
	attack.Stderr = &said
	var work sync.WaitGroup
	reading := d.readStrain(ctx, &work, &s)
	<-reading
	if err := attack.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		// All that is the attacker's, in the namespace of the tests.
		_ = asUser(attacker, "sh", "-c", "kill -9 -1").Run()
		_ = attack.Wait()
		if said.Len() > 0 {
			t.Errorf("%s: %s", what, said.String())
		}
	}()
	time.Sleep(time.Second) // the attack is under way
	until := time.Now().Add(length)
	for uid, seconds := range victims {
		work.Go(func() { leaveVictims(uid, seconds, until) })
	}
	work.Go(func() { d.request(t, until, &s) })
	time.Sleep(time.Until(until))
	time.Sleep(500 * time.Millisecond) // for the last kills
	cancel()
	work.Wait()
	if len(s.orphans) == 0 || len(s.kills) == 0 {
		t.Errorf("%s: %d orphans and %d kills of the others", what, len(s.orphans), len(s.kills))
	}
	return s
}

// leaveVictims has a user's parents die, one after the other, with a child each.
func leaveVictims(uid, seconds string, until time.Time) {
	for time.Now().Before(until) {
		_ = asUser(uid, "sh", "-c", "sleep "+seconds+" & kill -9 $$").Run()
		time.Sleep(10 * time.Millisecond)
	}
}

// asUser is a command of a user's, at the usual priority.
func asUser(uid string, argv ...string) *exec.Cmd {
	cmd := exec.Command("nice", append([]string{"-n", "20", "setpriv", "--reuid=" + uid, "--regid=" + uid, "--clear-groups", "--no-new-privs"}, argv...)...)
	cmd.Dir = "/"
	return cmd
}

// python is an interpreter that any user can run.
func python(t *testing.T) string {
	t.Helper()
	const path = "/usr/bin/python3"
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// setNice sets the priority of every thread of the tests.
func setNice(t *testing.T, nice int) {
	t.Helper()
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	for _, thread := range threads {
		if tid, err := strconv.Atoi(thread.Name()); err == nil {
			_ = unix.Setpriority(unix.PRIO_PROCESS, tid, nice)
		}
	}
}

// readStrain follows what is told of the others' processes. The channel is closed when it
// follows.
func (d *daemon) readStrain(ctx context.Context, work *sync.WaitGroup, s *strain) <-chan struct{} {
	following := make(chan struct{})
	died := make(map[int32]uint64) // when the parent did
	work.Go(func() {
		close(following)
		_ = d.client.Events(ctx, []string{wire.TypeOrphan, wire.TypeKill}, boottime.Now(), true, func(e *wire.Event) error {
			now := boottime.Now()
			switch {
			case e.Type == wire.TypeOrphan && isVictim(e.Process) && died[e.Process.PID] == 0:
				died[e.Process.PID] = e.Process.Orphan.SinceNS
				s.orphans = append(s.orphans, time.Duration(now-e.Process.Orphan.SinceNS))
			case e.Type == wire.TypeKill && e.Kill.Outcome == wire.KillDone:
				for _, p := range e.Kill.Processes {
					if since := died[p.PID]; since != 0 {
						s.kills = append(s.kills, time.Duration(e.TimeNS-since))
						delete(died, p.PID)
					}
				}
			}
			return nil
		})
	})
	return following
}

func isVictim(p *wire.Process) bool {
	return p != nil && p.Orphan != nil && len(p.Cmdline) == 2 && (p.Cmdline[1] == victims["0"] || p.Cmdline[1] == victims[neighbor])
}

// request has root and the neighbor ask, in turn.
func (d *daemon) request(t *testing.T, until time.Time, s *strain) {
	asks := []func() error{
		func() error { _, err := d.client.Status(t.Context()); return err },
		func() error { _, err := d.client.Orphans(t.Context()); return err },
		func() error { return d.neighborAsks() },
	}
	for i := 0; time.Now().Before(until); i++ {
		began := time.Now()
		if err := asks[i%len(asks)](); err != nil {
			s.refused = append(s.refused, err.Error())
		}
		s.requests = append(s.requests, time.Since(began))
		time.Sleep(20 * time.Millisecond)
	}
}

// neighborAsks is a whole command of the neighbor's.
func (d *daemon) neighborAsks() error {
	out, err := asUser(neighbor, binary(), "orphans", "--json", "--socket", d.socket()).Output()
	if err != nil {
		return fmt.Errorf("the neighbor: %w", err)
	}
	var list []wire.Process
	return json.Unmarshal(out, &list)
}

// writeAttacks puts the table between its marks in a file.
func writeAttacks(t *testing.T, table string) {
	t.Helper()
	const begin, end = "<!-- attacks -->\n", "<!-- /attacks -->"
	text, err := os.ReadFile(*attackFile)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, ok := strings.Cut(string(text), begin)
	_, tail, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("%s has no place for the table", *attackFile)
	}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		t.Fatal(err)
	}
	made := fmt.Sprintf("\nLinux %s, %d processors.\n\n", unix.ByteSliceToString(uts.Release[:]), len(cpus(t)))
	if err := os.WriteFile(*attackFile, []byte(head+begin+made+table+end+tail), 0o644); err != nil {
		t.Fatal(err)
	}
}

func cpus(t *testing.T) []string {
	t.Helper()
	list, err := filepath.Glob("/sys/devices/system/cpu/cpu[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	return list
}
