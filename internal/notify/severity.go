// SPDX-License-Identifier: Apache-2.0

// Package notify tells people and machines what happened: records for journald in
// its native protocol, and a link to the helper that delivers webhooks and hooks
// outside the privileged process. Nothing in it makes its caller wait: queues are
// bounded, and what did not fit is counted and told.
package notify

import (
	"fmt"
	"log/slog"
	"strings"

	"github.com/abot-trace/abot-trace/internal/wire"
)

// Severity is how much a notice matters; greater is worse. The zero value is SeverityInfo.
type Severity int8

// The severities, by the names that a configuration uses.
const (
	SeverityDebug    Severity = iota - 1 // lifecycle: fork, exec, exit
	SeverityInfo                         // deliberate orphans, resyncs
	SeverityNotice                       // unknown orphans, kills done, recoveries
	SeverityWarning                      // leaked orphans, losses, warnings
	SeverityError                        // partial kills, OOM
	SeverityCritical                     // critical alerts
)

// String returns the severity's name.
func (s Severity) String() string {
	if i := int(s - SeverityDebug); i >= 0 && i < len(wire.Severities) {
		return wire.Severities[i]
	}
	return fmt.Sprintf("severity(%d)", int(s))
}

// ParseSeverity returns the severity of that name.
func ParseSeverity(name string) (Severity, error) {
	for i, n := range wire.Severities {
		if n == name {
			return Severity(i) + SeverityDebug, nil
		}
	}
	return 0, fmt.Errorf("severity %q: want one of %s", name, strings.Join(wire.Severities, ", "))
}

// MarshalText implements [encoding.TextMarshaler].
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (s *Severity) UnmarshalText(text []byte) (err error) {
	*s, err = ParseSeverity(string(text))
	return err
}

// priority is the severity as syslog(3) numbers it.
func (s Severity) priority() int {
	switch {
	case s <= SeverityDebug:
		return 7
	case s >= SeverityCritical:
		return 2
	default:
		return 6 - int(s)
	}
}

// severityOf is the severity of a slog level.
func severityOf(l slog.Level) Severity {
	switch {
	case l < slog.LevelInfo:
		return SeverityDebug
	case l < slog.LevelWarn:
		return SeverityInfo
	case l < slog.LevelError:
		return SeverityWarning
	default:
		return SeverityError
	}
}
