// SPDX-License-Identifier: Apache-2.0

package alert

import (
	"fmt"
	"math"

	"github.com/abot-trace/abot-trace/internal/quantity"
)

// message tells a notice in one sentence. What it holds of the outside (Detail) is
// escaped where it is shown.
func (s *state) message(previous Level, now Instant, why string) string {
	r, lasted := s.last, now.Boot-s.began.Boot
	detail := ""
	if r.Detail != "" && why == "" {
		detail = " (" + r.Detail + ")"
	}
	switch {
	case s.level == OK && why != "":
		return fmt.Sprintf("%s is ok again after %s: %s", r.Name, quantity.FormatDuration(lasted), why)
	case s.level == OK:
		return fmt.Sprintf("%s back below %s: %s%s, after %s", r.Name, Format(r.Thresholds.lowest(), r.Unit), Format(r.Value, r.Unit), detail,
			quantity.FormatDuration(lasted))
	case s.level == previous:
		return fmt.Sprintf("%s is still %s after %s: %s%s", r.Name, s.level, quantity.FormatDuration(lasted), Format(r.Value, r.Unit), detail)
	case s.level < previous:
		settling := ""
		if r.Value < r.Thresholds.at(s.level) { // it is under both, but not for long
			settling = " while it settles"
		}
		return fmt.Sprintf("%s is no longer %s after %s, still %s%s: %s%s", r.Name, previous,
			quantity.FormatDuration(lasted), s.level, settling, Format(r.Value, r.Unit), detail)
	case math.IsInf(r.Thresholds.at(s.level), 1):
		return fmt.Sprintf("%s is %s: %s%s", r.Name, s.level, Format(r.Value, r.Unit), detail)
	default:
		return fmt.Sprintf("%s is %s: %s, threshold %s%s", r.Name, s.level, Format(r.Value, r.Unit),
			Format(r.Thresholds.at(s.level), r.Unit), detail)
	}
}

// Format returns a value for people: "85.3 %", "1.5 GiB", "2h30m".
func Format(value float64, unit string) string {
	switch unit {
	case UnitPercent:
		return quantity.FormatPercent(value)
	case UnitBytes:
		return quantity.FormatSize(uint64(value))
	case UnitSeconds:
		return quantity.FormatDuration(quantity.Seconds(value))
	case UnitCount, "":
		return quantity.FormatNumber(value)
	default:
		return quantity.FormatNumber(value) + " " + unit
	}
}
