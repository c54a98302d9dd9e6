// SPDX-License-Identifier: Apache-2.0

package quantity

import (
	"math"
	"testing"
	"time"
)

func TestFormatDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 0: "0s", 1500 * time.Microsecond: "1ms", 999 * time.Millisecond: "999ms", time.Second: "1s",
		59 * time.Second: "59s", time.Minute: "1m", 90 * time.Second: "1m30s", time.Hour: "1h", time.Hour + time.Second: "1h",
		24 * time.Hour: "1d", 26*time.Hour + time.Minute: "1d2h", 100 * 24 * time.Hour: "100d",
	} {
		if got := FormatDuration(d); got != want {
			t.Errorf("%v: got %q, want %q", d, got, want)
		}
	}
}

func TestFormatSize(t *testing.T) {
	for _, tt := range []struct {
		bytes       uint64
		want, short string
	}{
		{0, "0 B", "0 B"}, {1023, "1023 B", "1023 B"}, {1024, "1 KiB", "1.0 KiB"}, {10 << 10, "10 KiB", "10 KiB"},
		{12*1<<20 + 300<<10, "12.3 MiB", "12 MiB"}, {500e6, "477 MiB", "477 MiB"}, {3 << 29, "1.5 GiB", "1.5 GiB"},
		{1116691497, "1.04 GiB", "1.0 GiB"}, {1023 << 20, "1023 MiB", "1023 MiB"}, {1<<30 - 1, "1 GiB", "1.0 GiB"},
		{math.MaxUint64, "16 EiB", "16 EiB"},
	} {
		if got := FormatSize(tt.bytes); got != tt.want {
			t.Errorf("%d: got %q, want %q", tt.bytes, got, tt.want)
		}
		if got := string(AppendShortSize(nil, tt.bytes)); got != tt.short {
			t.Errorf("%d, short: got %q, want %q", tt.bytes, got, tt.short)
		}
	}
}

// TestFormatLimit wants what somebody wrote to come back as it was written.
func TestFormatLimit(t *testing.T) {
	for text, want := range map[string]string{
		"500MB": "500 MB", "512MiB": "512 MiB", "1.5GiB": "1.5 GiB", "1GB": "1 GB", "2kB": "2 kB", "0B": "0 B", "999B": "999 B",
		"1234567B": "1234567 B", "1000KiB": "1000 KiB", "64TiB": "64 TiB", "39.5MB": "39.5 MB",
	} {
		bytes, err := ParseSize(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := FormatLimit(bytes); got != want {
			t.Errorf("%s: got %q, want %q", text, got, want)
		}
	}
}

// FuzzFormatLimit wants the form to be exact: read again, it is the same size.
func FuzzFormatLimit(f *testing.F) {
	for _, n := range []uint64{0, 1, 500e6, 3 << 29, math.MaxUint64, 1 << 50} {
		f.Add(n)
	}
	f.Fuzz(func(t *testing.T, n uint64) {
		text := FormatLimit(n)
		if got, err := ParseSize(text); err != nil || got != n {
			t.Fatalf("%d: %q is read as %d, %v", n, text, got, err)
		}
	})
}

func TestFormatPercent(t *testing.T) {
	for v, want := range map[float64]string{85: "85 %", 85.34: "85.3 %", 0: "0 %", 99.96: "100 %"} {
		if got := FormatPercent(v); got != want {
			t.Errorf("%v: got %q, want %q", v, got, want)
		}
	}
	if d := Seconds(1e300); d < 100*365*day {
		t.Errorf("got %v of a number beyond a duration", d)
	}
}

func TestCount(t *testing.T) {
	for _, c := range []struct {
		n          int
		noun, want string
	}{
		{0, "rule", "0 rules"}, {1, "rule", "1 rule"}, {2, "rule", "2 rules"},
		{0, "process", "0 processes"}, {1, "process", "1 process"}, {12, "process", "12 processes"},
	} {
		if got := Count(c.n, c.noun); got != c.want {
			t.Errorf("Count(%d, %q) = %q, want %q", c.n, c.noun, got, c.want)
		}
	}
}
