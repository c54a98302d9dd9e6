// SPDX-License-Identifier: Apache-2.0

package quantity

import (
	"testing"
	"time"
)

func TestParseTime(t *testing.T) {
	zone := time.FixedZone("there", 2*3600)
	now := time.Date(2026, 3, 1, 12, 30, 0, 0, zone)
	for text, want := range map[string]string{
		"2h":                        "2026-03-01T10:30:00+02:00",
		"7d":                        "2026-02-22T12:30:00+02:00",
		"2026-02-27T03:00:00Z":      "2026-02-27T05:00:00+02:00",
		"2026-02-27T03:00:00-08:00": "2026-02-27T13:00:00+02:00",
		"2026-02-27T03:00":          "2026-02-27T03:00:00+02:00",
		"2026-02-27T03:00:30":       "2026-02-27T03:00:30+02:00",
		"03:00":                     "2026-03-01T03:00:00+02:00",
		"12:30":                     "2026-03-01T12:30:00+02:00",
		"12:31":                     "2026-02-28T12:31:00+02:00",
		"23:59:59":                  "2026-02-28T23:59:59+02:00",
	} {
		got, err := ParseTime(text, now)
		if err != nil || got.In(zone).Format(time.RFC3339) != want {
			t.Errorf("%s: %v, %v, want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"", "5", "yesterday", "25:00", "3:0:0:0", "2026-02-30T03:00", "-2h", "2026-02-27"} {
		if got, err := ParseTime(text, now); err == nil {
			t.Errorf("%q: %v", text, got)
		}
	}
}

func FuzzParseTime(f *testing.F) {
	for _, text := range []string{"2h", "03:00", "2026-02-27T03:00", "2026-02-27T03:00:00Z"} {
		f.Add(text)
	}
	now := time.Date(2026, 3, 1, 12, 30, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, text string) {
		at, err := ParseTime(text, now)
		if err == nil && len(text) <= 8 && text[len(text)-1] != 'Z' && at.After(now) {
			t.Errorf("%q is %v, after now", text, at)
		}
	})
}
