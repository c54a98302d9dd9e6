// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/abot-trace/abot-trace/internal/metrics"
	"github.com/abot-trace/abot-trace/internal/notify"
	"github.com/abot-trace/abot-trace/internal/wire"
)

func TestHelperCounts(t *testing.T) {
	got := helperCounts(notify.Report{Targets: map[string]notify.Target{"exec[0]": {Delivered: 1, Failed: 2, Dropped: 3}}}, 4)
	want := map[metrics.Notice]uint64{
		{Target: "helper", Result: "dropped"}:    4,
		{Target: "exec[0]", Result: "delivered"}: 1,
		{Target: "exec[0]", Result: "failed"}:    2,
		{Target: "exec[0]", Result: "dropped"}:   3,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestAddOrphan counts every orphan, and what trees use once: by their direct orphans.
func TestAddOrphan(t *testing.T) {
	rss, swap, cpu := uint64(3), uint64(4), 150.0
	tree := &wire.Usage{Processes: 2, RSSBytes: &rss, SwapBytes: &swap, CPUPercent: &cpu}
	by := make(map[string]metrics.Orphans)
	for _, o := range []wire.Orphan{
		{Verdict: wire.VerdictLeaked, Direct: true, Tree: tree},
		{Verdict: wire.VerdictLeaked, Tree: tree},
		{Verdict: wire.VerdictLeaked, Direct: true, Tree: tree},
		{Verdict: wire.VerdictUnknown, Direct: true},
	} {
		addOrphan(by, &wire.Process{Orphan: &o})
	}
	want := map[string]metrics.Orphans{
		wire.VerdictLeaked:  {Count: 3, RSS: 6, Swap: 8, CPUPercent: 300},
		wire.VerdictUnknown: {Count: 1},
	}
	if diff := cmp.Diff(want, by); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
