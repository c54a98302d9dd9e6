// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/abot-trace/abot-trace/internal/metrics"
	"github.com/abot-trace/abot-trace/internal/notify"
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
