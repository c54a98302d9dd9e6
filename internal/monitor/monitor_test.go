// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/abot-trace/abot-trace/internal/alert"
	"github.com/abot-trace/abot-trace/internal/config"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/sample"
	"github.com/abot-trace/abot-trace/internal/wire"
)

type tasks []event.Task

func (s tasks) Tasks(yield func(event.Task)) error {
	for _, t := range s {
		yield(t)
	}
	return nil
}

func pass(t *testing.T, list ...event.Task) *sample.Pass {
	t.Helper()
	p, err := sample.NewSampler(tasks(list), nil).Pass()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func orphan(comm, verdict string, age time.Duration) wire.Process {
	since := now.Add(-age)
	return wire.Process{PID: 7, Comm: comm, Orphan: &wire.Orphan{Verdict: verdict, Since: &since}}
}

func TestReport(t *testing.T) {
	// This pid cannot exist, so that nothing of this machine gets into the test.
	big := event.Task{ID: event.ID{PID: math.MaxInt32, Start: 1}, Comm: event.MakeComm("big\x1b[31m"), RSS: 400e6, Swap: 200e6}
	l := Snapshot{
		Time: now,
		Host: sample.Host{
			Memory: &sample.Memory{Total: 1000 << 20, Available: 200 << 20},
			CPU:    &sample.CPU{Cores: 2, Percent: 10}, Load: &[3]float64{1, 2, 3},
			Disks: []sample.Disk{
				{Mount: "/", Total: 100 << 30, Used: 95 << 30, Percent: 95, InodesPercent: 10},
				{Mount: "/nfs", Err: errors.New("the file system does not answer"), InodesPercent: -1},
				{Mount: "/tmp", Tmpfs: true, Total: 1 << 30, Used: 1 << 20, Percent: 0.1, InodesPercent: 1},
			},
			Pressure: map[string]sample.Pressure{"memory": {Some: sample.Stall{Avg10: 3.25}}},
		},
		Pass: pass(t, big, event.Task{ID: event.ID{PID: 2, Start: 2}, RSS: 100e6}),
		Orphans: []wire.Process{orphan("young", wire.VerdictLeaked, time.Hour), orphan("old", wire.VerdictLeaked, 25*time.Hour),
			orphan("older", wire.VerdictUnknown, 50*time.Hour), orphan("tmux", wire.VerdictDeliberate, 99*time.Hour), {PID: 1}},
		OrphansKnown: true,
	}
	got := Report(defaults(), l)
	var lines []string
	for _, c := range got.Checks {
		value := "-"
		if c.Value != nil {
			value = alert.Format(*c.Value, c.Unit)
		}
		lines = append(lines, fmt.Sprintf("%s %s %s (%s)", c.Status, c.Name, value, c.Detail))
	}
	want := []string{
		"critical disk:/ 95 % (95 GiB of 100 GiB)",
		"warning memory 80 % (800 MiB of 1000 MiB, pressure 3.2 %)",
		"warning orphans 2 (over 1d, the oldest older[7])",
		`warning process_memory 1 (over 500 MB, the largest big\x1b[31m[2147483647] with 572 MiB)`,
		"unknown disk:/nfs - (the file system does not answer)",
		"ok cpu 10 % (2 cores, load 1.00 2.00 3.00)",
		"ok inodes:/ 10 % ()",
		"ok tmpfs:/tmp 0.1 % (1 MiB of 1 GiB, memory)",
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got.Status != "critical" || len(got.Orphans) != 2 || len(got.HighMemory) != 1 || got.HighMemory[0].PID != math.MaxInt32 {
		t.Errorf("status %s, %d orphans, high memory %v", got.Status, len(got.Orphans), got.HighMemory)
	}
}

func TestNothingMeasured(t *testing.T) {
	got := Report(defaults(), Snapshot{Time: now})
	if got.Status != StatusUnknown {
		t.Errorf("status %s, want unknown", got.Status)
	}
	for _, c := range got.Checks {
		if c.Name == "orphans" {
			t.Error("something is said of orphans that nobody watched")
		}
	}
	if got.Orphans == nil || got.HighMemory == nil {
		t.Error("lists are null in JSON")
	}
}

func TestReadingsHaveThresholds(t *testing.T) {
	l := Snapshot{Time: now, Host: sample.Host{Swap: &sample.Memory{Total: 10}}, Pass: pass(t)}
	for _, r := range Readings(defaults(), l) {
		if r.Thresholds == (alert.Thresholds{}) {
			t.Errorf("%s can never alert", r.Name)
		}
	}
}

func TestExitCode(t *testing.T) {
	for status, want := range map[string]int{"ok": 0, "warning": 1, "critical": 2, "unknown": 3} {
		if got := ExitCode(status); got != want {
			t.Errorf("%s: exit %d, want %d", status, got, want)
		}
	}
}

// defaults are the settings where no configuration says otherwise.
func defaults() Settings { return FromConfig(config.Default().Monitor) }

// TestSilentDaemonIsUnknown proves that a monitor that was not told of orphans, and should
// have been, says so by a check and by its exit code.
func TestSilentDaemonIsUnknown(t *testing.T) {
	l := Snapshot{Time: time.Now(), Pass: &sample.Pass{}, OrphansError: "no daemon at /run/x"}
	l.Host.Memory = &sample.Memory{Total: 100, Available: 90}
	l.Host.CPU = &sample.CPU{Percent: 1, Cores: 1}
	doc := Report(defaults(), l)
	if doc.Status != StatusUnknown || ExitCode(doc.Status) != 3 {
		t.Errorf("got status %q and exit %d, want unknown and 3", doc.Status, ExitCode(doc.Status))
	}
	if c := doc.Checks[0]; c.Name != "orphans" || c.Status != StatusUnknown || c.Detail != l.OrphansError {
		t.Errorf("got %+v first, want orphans unknown, and why", c)
	}
	if l.OrphansError = ""; Report(defaults(), l).Status != wire.AlertOK {
		t.Error("without a daemon that is expected it is not ok")
	}
}

// TestSwitchedOff: what is off, and disks that are excluded, are neither alerted on nor listed.
func TestSwitchedOff(t *testing.T) {
	c, err := config.Parse("test.yaml", []byte("monitor: {memory: off, orphan_age: off, process_memory: off, cpu: {for: 90s}, disk: {exclude: [/mnt/*]}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	s := FromConfig(c.Monitor)
	l := Snapshot{Time: time.Now(), OrphansKnown: true, Pass: &sample.Pass{},
		Host: sample.Host{CPU: &sample.CPU{Percent: 95}, Disks: []sample.Disk{{Mount: "/mnt/a", Percent: 99}, {Mount: "/", Percent: 50}}}}
	var names []string
	for _, r := range Readings(s, l) {
		if names = append(names, r.Name); r.Name == "cpu" && r.For != 90*time.Second {
			t.Errorf("cpu for %v", r.For)
		}
	}
	if want := []string{"cpu", "disk:/", "inodes:/"}; !slices.Equal(names, want) {
		t.Errorf("got %q, want %q", names, want)
	}
	if doc := Report(s, l); len(doc.Orphans) != 0 || len(doc.HighMemory) != 0 {
		t.Errorf("%+v", doc)
	}
	for text, want := range map[string]string{
		"monitor: {cpu: {exclude: [/mnt]}}": "is for disk alone",
		"monitor: {disk: {exclude: ['[']}}": "syntax error",
		"monitor: {disk: {for: 5}}":         "no unit",
	} {
		if _, err := config.Parse("test.yaml", []byte(text+"\n")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
