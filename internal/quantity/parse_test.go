// SPDX-License-Identifier: Apache-2.0

package quantity

import (
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	durations := map[string]time.Duration{"0s": 0, "250ms": 250 * time.Millisecond, "90s": 90 * time.Second,
		"1.5h": 90 * time.Minute, "1h30m": 90 * time.Minute, "7d": 168 * time.Hour, "106751d": 106751 * 24 * time.Hour}
	for text, want := range durations {
		if got, err := ParseDuration(text); err != nil || got != want {
			t.Errorf("%s: got %v, %v, want %v", text, got, err, want)
		}
	}
	sizes := map[string]uint64{"0B": 0, "500MB": 500e6, "512MiB": 512 << 20, "1.5 GiB": 3 << 29, "1kB": 1000, "1KB": 1000,
		"18446744073709551615B": 1<<64 - 1}
	for text, want := range sizes {
		if got, err := ParseSize(text); err != nil || got != want {
			t.Errorf("%s: got %v, %v, want %v", text, got, err, want)
		}
	}
	percents := map[string]float64{"0%": 0, "85%": 85, "99.5 %": 99.5, "100%": 100}
	for text, want := range percents {
		if got, err := ParsePercent(text); err != nil || got != want {
			t.Errorf("%s: got %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{"", ".", "1", "s", "1.2.3s", "1e3s", "+1s", "1 s s", "１s", "18446744073709551616B", "1d1"} {
		if got, err := ParseDuration(text); err == nil {
			t.Errorf("%q: got %v, want an error", text, got)
		}
		if got, err := ParseSize(text); err == nil {
			t.Errorf("%q: got %v, want an error", text, got)
		}
		if got, err := ParsePercent(text); err == nil {
			t.Errorf("%q: got %v, want an error", text, got)
		}
	}
}

// FuzzParse: what parses is in range, and no text makes a parser panic.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{"1h30m", "-1s", "99999999999999999d", "1.5GiB", "85%", "1e9s", "0.0000000000000000000000000001ms"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if d, err := ParseDuration(text); err == nil && d < 0 {
			t.Errorf("duration %q: got %v", text, d)
		}
		if p, err := ParsePercent(text); err == nil && (p < 0 || p > 100) {
			t.Errorf("percent %q: got %v", text, p)
		}
		_, _ = ParseSize(text)
	})
}
