// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/abot-trace/abot-trace/internal/describe"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/sample"
)

// TestUsageIn tells the share of CPU only once two passes have seen the process.
func TestUsageIn(t *testing.T) {
	id := event.ID{PID: 7, Start: 1}
	task := event.Task{ID: id, RSS: 3, Swap: 4, Threads: 5}
	now := 10 * time.Second
	sampler := sample.NewSampler(sample.TaskFunc(func(yield func(event.Task)) error {
		yield(task)
		return nil
	}), func() (boot, mono time.Duration) { return now, now })
	pass := func() *sample.Pass {
		p, err := sampler.Pass()
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	first := pass()
	task.CPU = uint64(time.Second)
	now += 4 * time.Second
	second := pass()
	quarter := 25.0
	for _, tt := range []struct {
		name string
		pass *sample.Pass
		id   event.ID
		want describe.Use
		ok   bool
	}{
		{"no pass", nil, id, describe.Use{}, false},
		{"somebody else", second, event.ID{PID: 7, Start: 2}, describe.Use{}, false},
		{"seen once", first, id, describe.Use{RSS: 3, Swap: 4, Threads: 5}, true},
		{"seen twice", second, id, describe.Use{RSS: 3, Swap: 4, Threads: 5, CPU: time.Second, CPUPercent: &quarter}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := usageIn(tt.pass)(tt.id)
			if diff := cmp.Diff(tt.want, got); diff != "" || ok != tt.ok {
				t.Errorf("known %v, want %v; -want +got:\n%s", ok, tt.ok, diff)
			}
		})
	}
}
