// SPDX-License-Identifier: Apache-2.0

package quantity

import (
	"math"
	"strconv"
	"strings"
	"time"
)

const day = 24 * time.Hour

// FormatDuration returns d in its two largest units that count, as ParseDuration reads it:
// "3d4h", "1m30s", "350ms". A negative one is "0s".
func FormatDuration(d time.Duration) string { return string(AppendDuration(nil, d)) }

// AppendDuration appends what FormatDuration returns.
func AppendDuration(b []byte, d time.Duration) []byte {
	switch {
	case d < time.Millisecond:
		return append(b, "0s"...)
	case d < time.Second:
		return append(strconv.AppendInt(b, d.Milliseconds(), 10), "ms"...)
	case d < time.Minute:
		return append(strconv.AppendInt(b, int64(d/time.Second), 10), 's')
	case d < time.Hour:
		return appendPair(b, d, time.Minute, 'm', time.Second, 's')
	case d < day:
		return appendPair(b, d, time.Hour, 'h', time.Minute, 'm')
	default:
		return appendPair(b, d, day, 'd', time.Hour, 'h')
	}
}

func appendPair(b []byte, d, large time.Duration, largeUnit byte, small time.Duration, smallUnit byte) []byte {
	b = append(strconv.AppendInt(b, int64(d/large), 10), largeUnit)
	if rest := d % large / small; rest > 0 {
		b = append(strconv.AppendInt(b, int64(rest), 10), smallUnit)
	}
	return b
}

var binaryUnits = [...]string{" B", " KiB", " MiB", " GiB", " TiB", " PiB", " EiB"}

// FormatSize returns a measured size in binary units, with three digits at most:
// "512 B", "1.04 GiB", "40 MiB".
func FormatSize(bytes uint64) string {
	v, i := scale(bytes)
	switch {
	case i == 0 || v >= 99.95:
		return strconv.FormatFloat(v, 'f', 0, 64) + binaryUnits[i]
	case v < 9.995:
		return trimZeros(strconv.FormatFloat(v, 'f', 2, 64)) + binaryUnits[i]
	default:
		return trimZeros(strconv.FormatFloat(v, 'f', 1, 64)) + binaryUnits[i]
	}
}

// AppendShortSize appends a measured size for a column of them, with a decimal below ten
// only: "1.0 GiB", "40 MiB".
func AppendShortSize(b []byte, bytes uint64) []byte {
	v, i := scale(bytes)
	decimals := 0
	if i > 0 && v < 10 {
		decimals = 1
	}
	return append(strconv.AppendFloat(b, v, 'f', decimals, 64), binaryUnits[i]...)
}

// scale returns bytes in the largest unit of which there is one at least.
func scale(bytes uint64) (v float64, unit int) {
	v = float64(bytes)
	for v >= 1024 && unit < len(binaryUnits)-1 {
		v /= 1024
		unit++
	}
	// Rounded to three digits it may reach the next one.
	if v >= 1023.5 && unit > 0 && unit < len(binaryUnits)-1 {
		v /= 1024
		unit++
	}
	return v, unit
}

// FormatLimit returns a size that somebody has written exactly, and so as it was written
// where that has few digits: "500 MB", "1.5 GiB".
func FormatLimit(bytes uint64) string {
	best, bestUnit := strconv.FormatUint(bytes, 10), " B"
	for _, system := range []struct {
		base  uint64
		units [4]string
	}{{1024, [4]string{" KiB", " MiB", " GiB", " TiB"}}, {1000, [4]string{" kB", " MB", " GB", " TB"}}} {
		size := uint64(1)
		for _, unit := range system.units {
			size *= system.base
			if text, exact := inUnits(bytes, size); exact && len(text) < len(best) {
				best, bestUnit = text, unit
			}
		}
	}
	return best + bestUnit
}

// inUnits returns the number of units, and whether it is exact with three decimals.
func inUnits(bytes, size uint64) (text string, exact bool) {
	whole, rest := bytes/size, bytes%size
	thousandths := rest * 1000 / size
	if rest*1000%size != 0 || whole == 0 && rest != 0 {
		return "", false
	}
	return trimZeros(strconv.FormatUint(whole, 10) + "." + strconv.FormatUint(1000+thousandths, 10)[1:]), true
}

// FormatPercent returns a share with one decimal where that is not zero: "85.3 %".
func FormatPercent(percent float64) string { return FormatNumber(percent) + " %" }

// FormatNumber returns a number with one decimal where that is not zero: "85.3", "4".
func FormatNumber(v float64) string {
	return strings.TrimSuffix(strconv.FormatFloat(v, 'f', 1, 64), ".0")
}

// Seconds is a duration of so many seconds; beyond what a Duration can hold it is the
// longest.
func Seconds(seconds float64) time.Duration {
	return time.Duration(min(seconds, math.MaxInt64/2e9) * 1e9)
}

func trimZeros(number string) string {
	if !strings.Contains(number, ".") {
		return number
	}
	return strings.TrimSuffix(strings.TrimRight(number, "0"), ".")
}

// Count says how many of what noun names there are: "1 rule", "12 processes".
func Count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return strconv.Itoa(n) + " " + Plural(noun)
}

// Plural is the plural of a noun that takes s, or es after an s.
func Plural(noun string) string {
	if strings.HasSuffix(noun, "s") {
		noun += "e"
	}
	return noun + "s"
}
