// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/quantity"
)

// Limit is one resource limit, as setrlimit(2) takes it.
type Limit struct {
	Name       string // as in limitKinds
	Soft, Hard uint64 // counts, bytes or seconds; unlimited is unix.RLIM_INFINITY
}

// limitKind says which limit a name stands for and how its value is written.
type limitKind struct {
	resource int
	parse    func(string) (uint64, error)
}

var limitKinds = map[string]limitKind{
	"as":     {unix.RLIMIT_AS, parseBytes},
	"core":   {unix.RLIMIT_CORE, parseBytes},
	"cpu":    {unix.RLIMIT_CPU, parseSeconds},
	"nofile": {unix.RLIMIT_NOFILE, parseCount},
	"nproc":  {unix.RLIMIT_NPROC, parseCount},
}

// ParseLimits reads "NAME=VALUE[,NAME=VALUE...]". VALUE is one value for both
// limits or SOFT:HARD: a count for nofile and nproc, a size with its unit for as
// and core, a duration for cpu, or "unlimited". A bare 0 is fine everywhere.
func ParseLimits(s string) ([]Limit, error) {
	var limits []Limit
	for item := range strings.SplitSeq(s, ",") {
		name, value, ok := strings.Cut(item, "=")
		if !ok {
			return nil, fmt.Errorf("limit %q: want NAME=VALUE", item)
		}
		kind, ok := limitKinds[name]
		if !ok {
			return nil, fmt.Errorf("unknown limit %q: there are as, core, cpu, nofile, nproc", name)
		}
		soft, hard, both := strings.Cut(value, ":")
		if !both {
			hard = soft
		}
		l := Limit{Name: name}
		var err error
		if l.Soft, err = parseLimit(kind, soft); err != nil {
			return nil, fmt.Errorf("limit %s: %w", name, err)
		}
		if l.Hard, err = parseLimit(kind, hard); err != nil {
			return nil, fmt.Errorf("limit %s: %w", name, err)
		}
		if l.Soft > l.Hard {
			return nil, fmt.Errorf("limit %s: soft %s is above hard %s", name, soft, hard)
		}
		limits = append(limits, l)
	}
	return limits, nil
}

func parseLimit(kind limitKind, s string) (uint64, error) {
	if s == "unlimited" {
		return unix.RLIM_INFINITY, nil
	}
	return kind.parse(s)
}

func parseCount(s string) (uint64, error) {
	n, err := strconv.ParseUint(s, 10, 63)
	if err != nil {
		return 0, fmt.Errorf("%q is not a count", s)
	}
	return n, nil
}

// parseBytes reads a size as the configuration does; 0 needs no unit.
func parseBytes(s string) (uint64, error) {
	if s == "0" {
		return 0, nil
	}
	n, err := quantity.ParseSize(s)
	if err == nil && n > math.MaxInt64 {
		err = fmt.Errorf("%q is too large", s)
	}
	return n, err
}

func parseSeconds(s string) (uint64, error) {
	d, err := ParseDuration(s)
	if err != nil {
		return 0, err
	}
	if d%time.Second != 0 {
		return 0, fmt.Errorf("%q is not a whole number of seconds", s)
	}
	return uint64(d / time.Second), nil
}

// ParseDuration reads a duration as the configuration does ("90s", "1d12h"); 0 needs no
// unit.
func ParseDuration(s string) (time.Duration, error) {
	if s == "0" {
		return 0, nil
	}
	return quantity.ParseDuration(s)
}

// setLimits applies limits to this process. The address space comes last: this
// program needs some itself until it becomes CMD.
func setLimits(limits []Limit) error {
	limits = slices.Clone(limits)
	slices.SortStableFunc(limits, func(a, b Limit) int {
		return boolInt(a.Name == "as") - boolInt(b.Name == "as")
	})
	for _, l := range limits {
		// syscall's, not x/sys: it also tells the runtime not to restore nofile.
		err := syscall.Setrlimit(limitKinds[l.Name].resource, &syscall.Rlimit{Cur: l.Soft, Max: l.Hard})
		if err != nil {
			return fmt.Errorf("limit %s: %w", l.Name, errors.Join(err, errSetup))
		}
	}
	return nil
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}
