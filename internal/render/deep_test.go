// SPDX-License-Identifier: Apache-2.0

package render

import (
	"strings"
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/wire"
)

// TestDeepTree wants the text of a chain to grow with its depth and not with the square of
// it, and to say how deep a process is.
func TestDeepTree(t *testing.T) {
	draw := func(depth int) string {
		now := time.Unix(1000, 0)
		d := NewDrawing(now, depth, TreeOptions{})
		for i := range depth {
			p := &wire.Process{PID: int32(i + 1), StartNS: uint64(i + 1), Comm: "deep", State: wire.StateRunning, StartedAt: &now}
			if i > 0 {
				p.SpawnedBy = &wire.Ref{PID: int32(i), StartNS: uint64(i)}
			}
			d.Add(p)
		}
		text, err := d.Append(nil, true)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	shallow, deep := draw(1000), draw(10000)
	if len(deep) > 11*len(shallow) || len(deep) > 10000*400 {
		t.Errorf("%d bytes at depth 1,000, %d at 10,000", len(shallow), len(deep))
	}
	if lines := strings.Count(deep, "\n"); lines != 10001 {
		t.Errorf("%d lines", lines)
	}
	if !strings.Contains(deep, "…9999 └─ deep") {
		t.Error("the last process is not told as 9999 levels down")
	}
	if strings.Contains(draw(60), "…") {
		t.Error("a tree that is not deep is cut")
	}
}
