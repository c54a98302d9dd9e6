// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"context"
	"flag"
	"fmt"
	"log/slog"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/probe"
	"github.com/abot-trace/abot-trace/internal/proctest"
	"github.com/abot-trace/abot-trace/internal/wire"
)

var storm = flag.Int("storm", 20000, "forks after which memory is compared")

// TestMemoryAfterStorm compares what the tracer holds before and after a storm, once
// its history is full. It needs root, which CI must have.
func TestMemoryAfterStorm(t *testing.T) {
	proctest.Need(t, probe.Check())
	p, err := probe.Open(probe.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	tracer := New(p, Options{Log: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- tracer.Run(ctx) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	<-tracer.Ready()

	forks(t, 2*4096) // twice what is remembered of the stream
	// What others on the machine do in between counts as well, so a round may fail by
	// chance; a leak fails every one.
	const rounds = 3
	for round := 1; ; round++ {
		before, after := stormOnce(t, tracer)
		if after <= before+before/5 {
			return
		}
		if round == rounds {
			t.Fatalf("heap grew from %d to %d KiB, want at most a fifth more", before>>10, after>>10)
		}
	}
}

// stormOnce returns the living heap before and after a storm, none of which was lost.
func stormOnce(t *testing.T, tracer *Tracer) (before, after uint64) {
	t.Helper()
	before = held(t, tracer)
	seen := tracer.Stats()
	forks(t, *storm)
	after = held(t, tracer)
	now := tracer.Stats()
	if n := now.Events[wire.TypeFork] - seen.Events[wire.TypeFork]; n < uint64(*storm) {
		t.Errorf("%d forks seen of %d, %d records refused", n, *storm, now.Refused)
	}
	t.Logf("heap %d KiB before, %d KiB after %d forks; %d living, %d dead",
		before>>10, after>>10, *storm, now.Living, now.Dead)
	return before, after
}

// forks makes n processes, one after the other.
func forks(t *testing.T, n int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	script := fmt.Sprintf("i=0; while [ $i -lt %d ]; do (:); i=$((i+1)); done", n)
	if out, err := exec.CommandContext(ctx, "/bin/sh", "-c", script).CombinedOutput(); err != nil {
		t.Fatalf("storm: %v: %s", err, out)
	}
}

// held is the living heap when everything that has happened is applied.
func held(t *testing.T, tracer *Tracer) uint64 {
	t.Helper()
	settled(t, tracer)
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
