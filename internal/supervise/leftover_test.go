// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// shell is a CMD that leaves what the script says.
func shell(script string) []string { return []string{"sh", "-c", script} }

// TestLeftovers wants exit codes and summary of CMDs that leave something, or nothing.
func TestLeftovers(t *testing.T) {
	const kept = "ABOT_TRACE_KEEP=1 sleep 600 3>&- & "
	tests := []struct {
		name   string
		script string
		opts   options
		code   int
		left   map[string]string // command line: how it ended
		kept   int
	}{
		{"nothing", "sleep 0.1", options{FailOnLeak: true}, 0, nil, 0},
		{"one", "sleep 601 & sleep 0.3", options{FailOnLeak: true}, ExitLeak, map[string]string{"sleep 601": "SIGTERM"}, 0},
		{"not asked to fail", "sleep 602 &", options{}, 0, map[string]string{"sleep 602": "SIGTERM"}, 0},
		{"CMD's own code", "sleep 603 & exit 7", options{FailOnLeak: true}, 7, map[string]string{"sleep 603": "SIGTERM"}, 0},
		{"deaf", "trap '' TERM; sleep 604 &", options{FailOnLeak: true}, ExitLeak, map[string]string{"sleep 604": "SIGKILL"}, 0},
		{"notices by itself", "exec 4>&1; { sleep 0.05; } & exit 0", options{FailOnLeak: true}, 0, nil, 0},
		{"kept by mark", kept + "sleep 0.1", options{FailOnLeak: true}, 0, nil, 1},
		{"kept by pattern", "sleep 605 3>&- & sleep 0.1", options{FailOnLeak: true, Keep: "^sleep 605$"}, 0, nil, 1},
		{"report only", "sleep 606 3>&- & sleep 0.1", options{FailOnLeak: true, ReportOnly: true}, ExitLeak, map[string]string{"sleep 606": "would_end"}, 0},
		{"time-out", "sleep 607 & sleep 608", options{FailOnLeak: true, Timeout: 100 * time.Millisecond}, ExitTimeout, nil, 0},
		{"time-out of the deaf", "trap '' TERM; sleep 609 & sleep 610; sleep 611", options{Timeout: 100 * time.Millisecond}, ExitTimeout, nil, 0},
		{"in time", "exit 3", options{Timeout: time.Hour}, 3, nil, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := tt.opts
			o.Argv, o.Grace, o.Verbose = shell(tt.script), 300*time.Millisecond, true
			o.Summary = filepath.Join(t.TempDir(), "summary.json")
			s := start(t, o)
			s.wantEnd(t, tt.code)
			sum := readSummary(t, o.Summary)
			if sum.Schema != 1 || sum.ExitCode != tt.code || sum.TimedOut != (tt.code == ExitTimeout) || len(sum.Kept) != tt.kept {
				t.Errorf("summary: %+v", sum)
			}
			if len(sum.Left) != len(tt.left) {
				t.Errorf("left behind: %+v", sum.Left)
			}
			for _, l := range sum.Left {
				if how := strings.Join(l.Cmdline, " "); tt.left[how] != l.Ended || l.RSSBytes == 0 || l.AgeSeconds <= 0 || l.SpawnedBy.Comm != "sh" {
					t.Errorf("left behind: %+v, by %+v", l, l.SpawnedBy)
				}
				contains(t, "standard error", s.stderr.String(), "left behind: process "+itoa(l.PID))
			}
			if tt.opts.Timeout > 0 && tt.code == ExitTimeout {
				contains(t, "standard error", s.stderr.String(), "CMD did not end within 100ms")
			}
		})
	}
}

func readSummary(t *testing.T, file string) (sum Summary) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(b, &sum); err != nil {
		t.Fatalf("%v: %s", err, b)
	}
	return sum
}

// TestAskedToEnd wants no leak where CMD was told to end, and what told it.
func TestAskedToEnd(t *testing.T) {
	file := filepath.Join(t.TempDir(), "summary.json")
	s := start(t, options{Argv: shell("trap 'exit 0' TERM; sleep 600 & echo up >&3; wait"), Grace: time.Minute, FailOnLeak: true, Summary: file})
	s.life.expect(t, "up")
	s.signal(t, unix.SIGTERM)
	s.wantEnd(t, 0)
	if sum := readSummary(t, file); len(sum.Left) != 0 || sum.Signal != "SIGTERM" || sum.CommandCode == nil || *sum.CommandCode != 0 {
		t.Errorf("summary: %+v", sum)
	}
}

// TestUnderTimeout wants the grace under timeout(1), which signals its child and then
// the group that this child is in.
func TestUnderTimeout(t *testing.T) {
	s := start(t, options{Argv: shell("trap 'sleep 0.3; exit 5' TERM; echo up >&3; while :; do sleep 0.01; done"), Grace: time.Minute})
	s.life.expect(t, "up")
	s.signal(t, unix.SIGTERM)
	s.signal(t, unix.SIGTERM)
	s.wantEnd(t, 5)
}
