// SPDX-License-Identifier: Apache-2.0

package quantity

import (
	"fmt"
	"time"
)

// ParseTime returns the time that a text names: by an age before now (7d), as RFC 3339, or in
// the zone of now as 2026-01-31T15:04 or 15:04, which is the last one before now; with seconds
// or without.
func ParseTime(text string, now time.Time) (time.Time, error) {
	if age, err := ParseDuration(text); err == nil {
		return now.Add(-age), nil
	}
	if at, err := time.Parse(time.RFC3339, text); err == nil {
		return at, nil
	}
	for _, form := range []string{"2006-01-02T15:04:05", "2006-01-02T15:04"} {
		if at, err := time.ParseInLocation(form, text, now.Location()); err == nil {
			return at, nil
		}
	}
	for _, form := range []string{"15:04:05", "15:04"} {
		clock, err := time.Parse(form, text)
		if err != nil {
			continue
		}
		on := func(day int) time.Time {
			return time.Date(now.Year(), now.Month(), day, clock.Hour(), clock.Minute(), clock.Second(), 0, now.Location())
		}
		if at := on(now.Day()); !at.After(now) {
			return at, nil
		}
		return on(now.Day() - 1), nil
	}
	return time.Time{}, fmt.Errorf("%q: want an age with a unit, as 90s, 1h or 7d, or a time as 2026-01-31T15:04:05Z, 2026-01-31T15:04 or 15:04", text)
}
