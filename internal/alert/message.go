// SPDX-License-Identifier: Apache-2.0

package alert

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
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
		return fmt.Sprintf("%s is ok again after %s: %s", r.Name, FormatDuration(lasted), why)
	case s.level == OK:
		return fmt.Sprintf("%s is ok again after %s: %s%s", r.Name, FormatDuration(lasted), Format(r.Value, r.Unit), detail)
	case s.level == previous:
		return fmt.Sprintf("%s is still %s after %s: %s%s", r.Name, s.level, FormatDuration(lasted), Format(r.Value, r.Unit), detail)
	case s.level < previous:
		settling := ""
		if r.Value < r.Thresholds.at(s.level) { // it is under both, but not for long
			settling = " while it settles"
		}
		return fmt.Sprintf("%s is no longer %s after %s, still %s%s: %s%s", r.Name, previous,
			FormatDuration(lasted), s.level, settling, Format(r.Value, r.Unit), detail)
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
		return trimZero(value) + " %"
	case UnitBytes:
		return FormatBytes(value)
	case UnitSeconds:
		// Beyond what a Duration can hold nothing is said exactly.
		return FormatDuration(time.Duration(min(value, math.MaxInt64/2e9) * 1e9))
	case UnitCount, "":
		return trimZero(value)
	default:
		return trimZero(value) + " " + unit
	}
}

func trimZero(value float64) string {
	return strings.TrimSuffix(strconv.FormatFloat(value, 'f', 1, 64), ".0")
}

// FormatBytes returns a size with three digits or so: "512 B", "1.5 GiB".
func FormatBytes(n float64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"}
	i := 0
	for i < len(units)-1 && n >= 1024 {
		n /= 1024
		i++
	}
	if i > 0 && n < 10 {
		return trimZero(n) + " " + units[i]
	}
	return strconv.FormatFloat(n, 'f', 0, 64) + " " + units[i]
}

// FormatDuration returns d in its two greatest units: "3d4h", "2h30m", "45s".
func FormatDuration(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < 0:
		return "0s"
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return pair(d, time.Minute, "m", time.Second, "s")
	case d < day:
		return pair(d, time.Hour, "h", time.Minute, "m")
	default:
		return pair(d, day, "d", time.Hour, "h")
	}
}

func pair(d, big time.Duration, bigName string, small time.Duration, smallName string) string {
	if rest := d % big / small; rest > 0 {
		return fmt.Sprintf("%d%s%d%s", d/big, bigName, rest, smallName)
	}
	return fmt.Sprintf("%d%s", d/big, bigName)
}
