// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"errors"
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/trace"
)

func TestAlive(t *testing.T) {
	now := time.Now()
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	for _, test := range []struct {
		name  string
		stats trace.Stats
		began time.Time
		want  bool
	}{
		{"seen", trace.Stats{CanarySeen: ago(time.Second)}, ago(time.Hour), true},
		{"not seen for long", trace.Stats{CanarySeen: ago(time.Minute)}, ago(time.Hour), false},
		{"not seen for long, after a pause", trace.Stats{CanarySeen: ago(time.Minute)}, ago(time.Second), true},
		{"not seen yet", trace.Stats{}, ago(time.Second), true},
		{"never seen", trace.Stats{}, ago(time.Minute), false},
		{"not made", trace.Stats{CanaryError: errors.New("no pid")}, ago(time.Minute), true},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := alive(test.stats, test.began); got != test.want {
				t.Errorf("alive: %v, want %v", got, test.want)
			}
		})
	}
}
