// SPDX-License-Identifier: Apache-2.0

package render

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/abot-trace/abot-trace/internal/wire"
)

func TestMonitor(t *testing.T) {
	value, rss, swap, one := 91.5, uint64(600<<20), uint64(400<<20), 1.0
	doc := &wire.Monitor{
		Checks: []wire.Check{
			{Name: "disk:/a\x1b", Status: "critical", Value: &value, Unit: "percent", Detail: "9 of 10"},
			{Name: "process_memory", Status: "warning", Value: &one, Unit: "count", Detail: "over 477 MiB"},
			{Name: "memory", Status: "unknown", Unit: "percent"},
			{Name: "cpu", Status: "ok", Value: new(float64), Unit: "percent"},
		},
		HighMemory: []wire.Process{{PID: 7, User: "joe", Cmdline: []string{"x", "--password=y", "a\nb"}, RSSBytes: &rss, SwapBytes: &swap},
			{PID: 8, Comm: "k\x1b"}},
	}
	const want = `CRITICAL  disk:/a\x1b     █████████░     91.5 %  9 of 10
WARNING   process_memory                      1  over 477 MiB
UNKNOWN   memory                              -
ok        cpu             ░░░░░░░░░░        0 %

Processes with much memory
       7  1000 MiB  joe         x '--password=***' $'a\nb'
       8         -  -           [k\x1b]
`
	var out strings.Builder
	if err := Monitor(&out, doc, Style{}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}

	out.Reset()
	if err := Monitor(&out, doc, Style{Color: true, Width: 50}); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "\x1b[31mCRITICAL") {
		t.Errorf("no colour:\n%q", out.String())
	}
	for line := range strings.Lines(out.String()) {
		for _, code := range []string{"\x1b[0m", "\x1b[1m", "\x1b[2m", "\x1b[31m", "\x1b[32m", "\x1b[33m", "\x1b[36m"} {
			line = strings.ReplaceAll(line, code, "")
		}
		if n := len([]rune(strings.TrimRight(line, "\n"))); n > 50 {
			t.Errorf("%d columns, want at most 50: %q", n, line)
		}
	}
}
