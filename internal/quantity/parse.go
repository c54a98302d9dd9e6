// SPDX-License-Identifier: Apache-2.0

// Package quantity is the one grammar in which people write durations, sizes and
// percentages, and the one form in which they are told: 1d12h, 1.5 GiB, 85 %.
package quantity

import (
	"errors"
	"fmt"
	"math"
	"math/big"
	"strings"
	"time"

	"github.com/abot-trace/abot-trace/internal/nearest"
)

var durationUnits = map[string]time.Duration{
	"ms": time.Millisecond, "s": time.Second, "m": time.Minute, "h": time.Hour, "d": 24 * time.Hour,
}

var sizeUnits = map[string]uint64{
	"B": 1, "kB": 1e3, "KB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12,
	"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40,
}

// maxNumber bounds the digits of one number, so that its exact value stays cheap.
const maxNumber = 40

// ParseDuration reads 250ms, 90s, 1h30m, 24h, 7d. A number without a unit is an
// error, and so is a negative one.
func ParseDuration(text string) (time.Duration, error) {
	rest := text
	total := new(big.Rat)
	for first := true; first || rest != ""; first = false {
		number, after, err := cutNumber(text, rest)
		if err != nil {
			return 0, err
		}
		name, after := cutLetters(after)
		unit, ok := durationUnits[name]
		switch {
		case name == "":
			return 0, fmt.Errorf("%q has no unit: write %ss, %sm, %sh or %sd",
				text, numeral(number), numeral(number), numeral(number), numeral(number))
		case !ok:
			return 0, fmt.Errorf("%q: no unit %q%s: there are ms, s, m, h and d", text, name, nearest.Hint(name, "ms", "s", "m", "h", "d"))
		}
		total.Add(total, new(big.Rat).Mul(number, new(big.Rat).SetInt64(int64(unit))))
		rest = after
	}
	ns, ok := floor(total)
	if !ok || ns > math.MaxInt64 {
		return 0, fmt.Errorf("%q is too long: the most is 106751d", text)
	}
	return time.Duration(ns), nil
}

// ParseSize reads 500MB, 512MiB, 1.5GiB. A number without a unit is an error.
func ParseSize(text string) (uint64, error) {
	number, rest, err := cutNumber(text, text)
	if err != nil {
		return 0, err
	}
	name := strings.TrimPrefix(rest, " ")
	unit, ok := sizeUnits[name]
	switch {
	case name == "":
		return 0, fmt.Errorf("%q has no unit: write %sB, %sMB (millions of bytes) or %sMiB (2^20 bytes)",
			text, numeral(number), numeral(number), numeral(number))
	case !ok:
		return 0, fmt.Errorf("%q: no unit %q: there are B, kB, MB, GB, TB (powers of 1000) and KiB, MiB, GiB, TiB (powers of 1024)",
			text, name)
	}
	bytes, ok := floor(number.Mul(number, new(big.Rat).SetInt(new(big.Int).SetUint64(unit))))
	if !ok {
		return 0, fmt.Errorf("%q is too large", text)
	}
	return bytes, nil
}

// ParsePercent reads 85% or 99.5%.
func ParsePercent(text string) (float64, error) {
	number, rest, err := cutNumber(text, text)
	if err != nil {
		return 0, err
	}
	switch strings.TrimPrefix(rest, " ") {
	case "%":
	case "":
		return 0, fmt.Errorf("%q has no unit: write %s%%", text, numeral(number))
	default:
		return 0, fmt.Errorf("%q is not a percentage: write %s%%", text, numeral(number))
	}
	v, _ := number.Float64()
	if v > 100 {
		return 0, fmt.Errorf("%q is more than 100%%", text)
	}
	return v, nil
}

// cutNumber splits a decimal number off the front of rest, a part of text.
func cutNumber(text, rest string) (*big.Rat, string, error) {
	end := 0
	for end < len(rest) && (rest[end] >= '0' && rest[end] <= '9' || rest[end] == '.') {
		end++
	}
	switch {
	case strings.HasPrefix(rest, "-"):
		return nil, "", fmt.Errorf("%q is negative", text)
	case end == 0:
		return nil, "", fmt.Errorf("%q is not a number with a unit", text)
	case end > maxNumber:
		return nil, "", errors.New("the number has too many digits")
	}
	number, ok := new(big.Rat).SetString(rest[:end])
	if !ok {
		return nil, "", fmt.Errorf("%q is not a number with a unit", text)
	}
	return number, rest[end:], nil
}

func cutLetters(s string) (letters, rest string) {
	end := strings.IndexFunc(s, func(r rune) bool { return r >= '0' && r <= '9' || r == '.' })
	if end < 0 {
		end = len(s)
	}
	return s[:end], s[end:]
}

func numeral(r *big.Rat) string {
	return strings.TrimSuffix(strings.TrimRight(r.FloatString(3), "0"), ".")
}

// floor returns the whole part of r, false where it does not fit.
func floor(r *big.Rat) (uint64, bool) {
	n := new(big.Int).Quo(r.Num(), r.Denom())
	return n.Uint64(), n.IsUint64()
}
