// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"strings"
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/api"
	"github.com/abot-trace/abot-trace/internal/wire"
)

func TestHistory(t *testing.T) {
	rate := func(perDay float64) wire.StatusKept {
		now := time.Now()
		return wire.StatusKept{Since: &now, LimitBytes: 512 << 20, LimitAge: 14 * 86400, BytesPerDay: &perDay}
	}
	for _, test := range []struct {
		name    string
		history *wire.StatusHistory
		status  string
		says    string
	}{
		{"none", nil, Degraded, "keeps none"},
		{"new", &wire.StatusHistory{}, OK, "nothing is kept yet"},
		{"well", &wire.StatusHistory{Stream: rate(30 << 20)}, OK, "since "},
		{"full", &wire.StatusHistory{Error: "no room", Stream: rate(1)}, Degraded, "no room"},
		{"losses", &wire.StatusHistory{Lost: 7, Stream: rate(1)}, Degraded, "7 entries"},
		{"short", &wire.StatusHistory{Stream: rate(3072 << 20)}, Degraded, "for 4h only"},
	} {
		r := &Report{daemon: &api.Status{Status: wire.Status{Schema: wire.Schema, History: test.history}}}
		r.history()
		if len(r.Checks) != 1 || r.Checks[0].Status != test.status || !strings.Contains(r.Checks[0].Detail, test.says) ||
			(r.Checks[0].Hint == "") != (test.status == OK) {
			t.Errorf("%s: %+v", test.name, r.Checks)
		}
	}
	for _, r := range []*Report{{}, {daemon: new(api.Status)}} {
		if r.history(); len(r.Checks) != 0 {
			t.Errorf("without a daemon of this version: %+v", r.Checks)
		}
	}
}
