// SPDX-License-Identifier: Apache-2.0

package render

import (
	"bytes"
	"io"
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/replay"
	"github.com/abot-trace/abot-trace/internal/wire"
)

func TestArm(t *testing.T) {
	tried := []replay.Tried{
		{Leak: "L0123456789ab", Time: *ago(3 * time.Hour), Processes: 16, Bytes: 3 << 30, Name: "gunicorn: master [web]", Fate: replay.FateOpen},
		{Leak: "Lba9876543210", Time: *ago(time.Hour), Processes: 1, Name: "ssh-agent", Fate: replay.FateDeliberate},
		{Time: *ago(time.Minute), Processes: 2, Name: hostile, Fate: replay.FateItself},
	}
	seen := replay.Summary{Events: 4711, From: *ago(4 * time.Hour), Sampled: true}
	rules := []wire.RuleStatus{
		{Name: "stale-workers", Mode: wire.ModeEnforce, ArmedBy: "alice", ArmedAt: ago(50 * time.Hour), LeaksPerDay: 10, Today: 2, Leaks: 7, Processes: 80,
			Bytes: 5 << 30, Suspended: []string{"F00112233445566"}},
		{Name: "by-file", Mode: wire.ModeEnforce},
		{Name: "hostile", Mode: wire.ModeEnforce, ArmedBy: hostile},
	}
	for name, print := range map[string]func(w io.Writer) error{
		"trial":         func(w io.Writer) error { return Trial(w, "stale-workers", tried, &seen, now, Style{}) },
		"trial nothing": func(w io.Writer) error { return Trial(w, "stale-workers", nil, &replay.Summary{}, now, Style{}) },
		"list":          func(w io.Writer) error { return Armed(w, rules, now, Style{}) },
		"list none":     func(w io.Writer) error { return Armed(w, nil, now, Style{}) },
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			if err := print(&b); err != nil {
				t.Fatal(err)
			}
			golden(t, b.Bytes())
		})
	}
}
