// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"strings"
	"time"
)

// FormatDuration writes d as the configuration spells durations, with the two
// largest units that count: "1d2h", "90s" as "1m30s", "250ms".
func FormatDuration(d time.Duration) string {
	if d < time.Second {
		return d.Round(time.Millisecond).String()
	}
	units := []struct {
		size time.Duration
		name string
	}{{24 * time.Hour, "d"}, {time.Hour, "h"}, {time.Minute, "m"}, {time.Second, "s"}}
	var b strings.Builder
	parts := 0
	for _, u := range units {
		if n := d / u.size; n > 0 && parts < 2 {
			fmt.Fprintf(&b, "%d%s", n, u.name)
			d -= n * u.size
			parts++
		} else if parts > 0 {
			break
		}
	}
	return b.String()
}

// FormatBytes writes n in binary units with three digits: "512 B", "1.50 GiB".
func FormatBytes(n uint64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	v, i := float64(n)/1024, 0
	// 999.5 and more would print four digits.
	for v >= 999.5 && i < len(units)-1 {
		v /= 1024
		i++
	}
	switch {
	case v < 9.995:
		return fmt.Sprintf("%.2f %ciB", v, units[i])
	case v < 99.95:
		return fmt.Sprintf("%.1f %ciB", v, units[i])
	default:
		return fmt.Sprintf("%.0f %ciB", v, units[i])
	}
}
