// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/wire"
)

var (
	soakFor  = flag.Duration("soak", 15*time.Second, "how long TestSoak lasts")
	soakRate = flag.Int("soak-rate", 120, "processes a second that TestSoak makes: a day's in an hour, where a host makes five")
	soakFile = flag.String("soak-file", "", "where TestSoak writes its curves, as comma-separated values")
)

// soakRules end what is leaked, and observe the rest.
const soakRules = unhurried + `
rules:
  - {name: leaks, mode: enforce, match: {verdict: [leaked, unknown]}, orphaned_for: 0s, grace: 1s}
  - {name: large, match: {verdict: [leaked, unknown]}, memory_above: 1GiB}
notify: {per_user: 100}
`

// TestSoak has a daemon live with processes, leaks, kills, leases, reloads and readers that
// come and go, and wants its memory, descriptors, threads and goroutines flat. Of a short
// one that cannot be told.
func TestSoak(t *testing.T) {
	d := newKept(t, soakRules)
	d.start()
	ctx, cancel := context.WithTimeout(t.Context(), *soakFor)
	defer cancel()
	var load sync.WaitGroup
	every := func(pause time.Duration, fn func()) {
		load.Go(func() {
			for tick := time.NewTicker(pause); ; {
				select {
				case <-ctx.Done():
					tick.Stop()
					return
				case <-tick.C:
					fn()
				}
			}
		})
	}
	// A shell makes ten processes at a time.
	every(10*time.Second/time.Duration(*soakRate), func() { soakShell(ctx, "i=0; while [ $i -lt 9 ]; do /bin/true; i=$((i+1)); done") })
	every(2*time.Second, func() { soakShell(ctx, "sleep 20 & sleep 20 & kill -9 $$") })
	every(3*time.Second, func() { soakShell(ctx, "setsid sh -c 'sleep 5 & sleep 5' </dev/null >/dev/null 2>&1 & exit 0") })
	every(5*time.Second, func() {
		soakShell(ctx, binary()+" supervise --socket "+d.socket()+" --grace 200ms -- sh -c 'setsid sleep 20 & exit 0'")
	})
	every(30*time.Second, func() { d.signal(hangUp) })
	every(2*time.Second, func() { _, _ = d.client.Tree(ctx) })
	every(3*time.Second, func() { soakReader(ctx, d, 5*time.Second, 0) })
	every(20*time.Second, func() { soakReader(ctx, d, 20*time.Second, time.Millisecond) })

	curve := soakCurve(ctx, t, d)
	load.Wait()
	judgeSoak(t, curve)
	d.wantComplete()
}

func soakShell(ctx context.Context, script string) {
	cmd := exec.CommandContext(ctx, "sh", "-c", script)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	_ = cmd.Run() // some kill themselves
}

// soakReader follows everything for a while, at so much a line.
func soakReader(ctx context.Context, d *daemon, length, pause time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	_ = d.client.Events(ctx, nil, 0, true, func(*wire.Event) error {
		time.Sleep(pause)
		return nil
	})
}

// A soakPoint is what the daemon holds at an instant.
type soakPoint struct {
	second                                  int
	events, kills                           float64
	rss, heap, fds, threads, goroutines, mS float64
}

var soakColumns = []string{"second", "events", "kills", "rss_bytes", "heap_bytes", "descriptors", "threads", "goroutines", "tree_ms"}

func (p soakPoint) row() string {
	return fmt.Sprintf("%d,%.0f,%.0f,%.0f,%.0f,%.0f,%.0f,%.0f,%.1f", p.second, p.events, p.kills, p.rss, p.heap, p.fds, p.threads, p.goroutines, p.mS)
}

// soakCurve looks every five seconds until ctx ends.
func soakCurve(ctx context.Context, t *testing.T, d *daemon) (curve []soakPoint) {
	began := time.Now()
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return curve
		case <-tick.C:
			p := soakLook(t, d)
			p.second = int(time.Since(began).Seconds())
			curve = append(curve, p)
		}
	}
}

func soakLook(t *testing.T, d *daemon) (p soakPoint) {
	t.Helper()
	pid := d.cmd.Process.Pid
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		n, _ := strconv.ParseFloat(strings.Fields(value + " 0")[0], 64)
		switch name {
		case "VmRSS":
			p.rss = n * 1024
		case "Threads":
			p.threads = n
		}
	}
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	p.fds = float64(len(fds))
	began := time.Now()
	if _, err := d.client.Tree(t.Context()); err != nil {
		t.Errorf("tree: %v", err)
	}
	p.mS = float64(time.Since(began).Microseconds()) / 1000
	for line := range strings.Lines(d.metrics()) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		n, _ := strconv.ParseFloat(value, 64)
		switch base, _, _ := strings.Cut(name, "{"); base {
		case "abot_trace_events_total":
			p.events += n
		case "abot_trace_kills_total":
			p.kills += n
		case "abot_trace_goroutines":
			p.goroutines = n
		case "abot_trace_heap_bytes":
			p.heap = n
		}
	}
	return p
}

// settledSoak is how long a soak has to be to say what grows: in its first quarter the notable
// events that are remembered (4,096), and most of the ended leaks (1,024), are still being
// gathered.
const settledSoak = time.Hour

// judgeSoak writes the curves, and holds the last quarter against the second.
func judgeSoak(t *testing.T, curve []soakPoint) {
	t.Helper()
	if *soakFile != "" {
		var text strings.Builder
		fmt.Fprintln(&text, strings.Join(soakColumns, ","))
		for _, p := range curve {
			fmt.Fprintln(&text, p.row())
		}
		if err := os.WriteFile(*soakFile, []byte(text.String()), 0o644); err != nil {
			t.Error(err)
		}
	}
	last := curve[len(curve)-1]
	t.Logf("%d s, %.0f events, %.0f kills", last.second, last.events, last.kills)
	if last.kills == 0 {
		t.Error("nothing was ended")
	}
	if *soakFor < settledSoak {
		return
	}
	quarter := len(curve) / 4
	early, late := curve[quarter:2*quarter], curve[3*quarter:]
	for _, c := range []struct {
		name  string
		of    func(soakPoint) float64
		slack float64 // beyond a tenth
	}{
		{"resident bytes", func(p soakPoint) float64 { return p.rss }, 8 << 20},
		{"heap bytes", func(p soakPoint) float64 { return p.heap }, 8 << 20},
		{"descriptors", func(p soakPoint) float64 { return p.fds }, 16},
		{"threads", func(p soakPoint) float64 { return p.threads }, 4},
		{"goroutines", func(p soakPoint) float64 { return p.goroutines }, 16},
	} {
		before, after := median(early, c.of), median(late, c.of)
		t.Logf("%-15s second quarter %.0f, last quarter %.0f", c.name, before, after)
		if after > before*1.1+c.slack {
			t.Errorf("%s grow: %.0f in the second quarter, %.0f in the last", c.name, before, after)
		}
	}
}

func median(points []soakPoint, of func(soakPoint) float64) float64 {
	values := make([]float64, len(points))
	for i, p := range points {
		values[i] = of(p)
	}
	slices.Sort(values)
	return values[len(values)/2]
}
