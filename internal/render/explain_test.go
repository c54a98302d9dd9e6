// SPDX-License-Identifier: Apache-2.0

package render

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/wire"
)

// TestExplainDead proves that a dead orphan's age stands still, and that the rule that
// ended it is named.
func TestExplainDead(t *testing.T) {
	born, orphaned, died := now.Add(-time.Hour), now.Add(-40*time.Minute), now.Add(-30*time.Minute)
	x := &wire.Explain{
		Process: wire.Process{PID: 7, StartNS: 9, Comm: "sleep", User: "root", State: wire.StateDead, Lineage: wire.LineageObserved,
			StartedAt: &born, ExitedAt: &died, Exit: &wire.Exit{Signal: "SIGTERM"},
			Orphan: &wire.Orphan{Since: &orphaned, Direct: true, Verdict: wire.VerdictLeaked}},
		EndedBy: &wire.Kill{KillID: "k-1", Rule: "stale", Mode: "enforce", Outcome: wire.KillDone,
			Processes: []wire.Killed{{PID: 7, StartNS: 9, Outcome: wire.OutcomeDied}}},
	}
	var b bytes.Buffer
	if err := Explain(&b, x, now, Style{}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"† SIGTERM, 30m ago", "was orphan (leaked) for 10m", "ended by rule stale (enforce): done: 1 died, k-1"} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("got:\n%s\nwant it to say %q", b.String(), want)
		}
	}
}
