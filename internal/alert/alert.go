// SPDX-License-Identifier: Apache-2.0

// Package alert turns readings into states and states into notices: one for each
// transition, a reminder now and then, a recovery with how long it lasted. It is
// pure: the caller brings the time.
package alert

import (
	"math"
	"slices"
	"time"

	"github.com/abot-trace/abot-trace/internal/wire"
)

// Level is the state of one alert. Greater is worse.
type Level uint8

// The levels.
const (
	OK Level = iota
	Warning
	Critical
)

// String returns the level's name on the wire.
func (l Level) String() string {
	switch l {
	case Warning:
		return wire.AlertWarning
	case Critical:
		return wire.AlertCritical
	default:
		return wire.AlertOK
	}
}

// Thresholds are the values from which on an alert is at a level. A threshold of
// zero is not used.
type Thresholds struct {
	Warning, Critical float64
}

// Level returns the level of one value, without memory.
func (t Thresholds) Level(value float64) Level {
	switch {
	case t.Critical > 0 && value >= t.Critical:
		return Critical
	case t.Warning > 0 && value >= t.Warning:
		return Warning
	default:
		return OK
	}
}

// at is the threshold of a level; infinite where there is none.
func (t Thresholds) at(l Level) float64 {
	v := t.Critical
	if l == Warning {
		v = t.Warning
	}
	if v == 0 {
		return math.Inf(1)
	}
	return v
}

// lowest is the threshold below which nothing is wrong.
func (t Thresholds) lowest() float64 { return min(t.at(Warning), t.at(Critical)) }

// Units of readings.
const (
	UnitPercent = "percent"
	UnitBytes   = "bytes"
	UnitSeconds = "seconds"
	UnitCores   = "cores"
	UnitCount   = "count"
)

// Reading is one measured value. A Value of NaN could not be measured: the alert
// stays as it is.
type Reading struct {
	Name       string // of the alert: "memory", "disk:/var"
	Value      float64
	Thresholds Thresholds
	Unit       string
	For        time.Duration // how long it has to be at a level before that is told
	Detail     string        // more for people, such as the name of a process: hostile input
}

// Settings say how steady a state must be. The zero value of a field takes its
// default.
type Settings struct {
	// Samples is how many readings in a row must agree before a state changes, up or
	// down. Default 2.
	Samples int
	// Margin is how far below a threshold, as a share of it, a value must fall to
	// leave the level. Default 0.03.
	Margin float64
	// Repeat is how often an alert that lasts is told again. Default 4 hours; less
	// than zero never.
	Repeat time.Duration
	// Hold is how long after the first readings nothing comes to a worse level. Default 0.
	Hold time.Duration
}

func (s Settings) withDefaults() Settings {
	if s.Samples <= 0 {
		s.Samples = 2
	}
	if s.Margin <= 0 {
		s.Margin = 0.03
	}
	if s.Repeat == 0 {
		s.Repeat = 4 * time.Hour
	}
	return s
}

// Instant is a time on two clocks. Every decision is made on Boot (CLOCK_BOOTTIME,
// which counts suspend and never steps); Wall is only shown.
type Instant struct {
	Boot time.Duration
	Wall time.Time
}

// Engine holds the state of all alerts. One goroutine uses it.
type Engine struct {
	settings Settings
	states   map[string]*state
	began    Instant // of the first readings; zero before
}

// state is one alert. The runs count readings in a row.
type state struct {
	level         Level
	since         Instant // when it came to the level
	began         Instant // when it last left OK
	lastPublished time.Duration
	over          [Critical + 1]int           // at or over the level's threshold
	overSince     [Critical + 1]time.Duration // the first of these
	toldAt        [Critical + 1]time.Duration // when people were told that it came to the level or a worse one; 0 is never
	told          Level                       // what people were told last
	under         [Critical + 1]int           // under it by more than the margin
	absent        int
	last          Reading
	measured      bool
}

// NewEngine returns an Engine whose alerts are all OK.
func NewEngine(settings Settings) *Engine {
	return &Engine{settings: settings.withDefaults(), states: map[string]*state{}}
}

// Configure changes the settings; the states stay.
func (e *Engine) Configure(settings Settings) { e.settings = settings.withDefaults() }

// Observe takes one set of readings and returns the notices that they cause, sorted
// by name. An alert whose name is missing from Samples sets in a row is gone, and
// recovers.
func (e *Engine) Observe(now Instant, readings []Reading) []wire.Alert {
	if e.began == (Instant{}) {
		e.began = now
	}
	var out []wire.Alert
	seen := make(map[string]bool, len(readings))
	for _, r := range readings {
		if seen[r.Name] {
			continue
		}
		seen[r.Name] = true
		s := e.states[r.Name]
		if s == nil {
			s = &state{since: now}
			e.states[r.Name] = s
		}
		out = append(out, e.read(s, now, r)...)
	}
	for name, s := range e.states {
		if !seen[name] {
			out = append(out, e.miss(name, s, now)...)
		}
	}
	slices.SortFunc(out, func(a, b wire.Alert) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return out
}

// read applies one reading.
func (e *Engine) read(s *state, now Instant, r Reading) []wire.Alert {
	s.absent = 0
	if math.IsNaN(r.Value) {
		return e.remind(s, now)
	}
	s.last, s.measured = r, true
	for l := Warning; l <= Critical; l++ {
		threshold := r.Thresholds.at(l)
		if count(&s.over[l], r.Value >= threshold); s.over[l] == 1 {
			s.overSince[l] = now.Boot
		}
		count(&s.under[l], r.Value < threshold*(1-e.settings.Margin) || math.IsInf(threshold, 1))
	}
	next := e.next(s, now)
	if next == s.level {
		return e.remind(s, now)
	}
	return e.tell(s, next, now, "")
}

// tell changes the level, and returns a notice of that; none of a level that people were told
// of within the repeat interval: what goes up and down is told once in it.
func (e *Engine) tell(s *state, next Level, now Instant, why string) []wire.Alert {
	s.move(next, now)
	if next == s.told || next > s.told && e.toldLately(s, now) {
		return nil
	}
	return []wire.Alert{s.publish(now, why)}
}

// toldLately reports whether people were told of the present level, or of a worse one, within
// the repeat interval.
func (e *Engine) toldLately(s *state, now Instant) bool {
	last := s.toldAt[s.level]
	return last != 0 && e.settings.Repeat > 0 && now.Boot-last < e.settings.Repeat
}

func count(run *int, holds bool) {
	if holds {
		*run++
	} else {
		*run = 0
	}
}

// next is the level that the last readings in a row agree on.
func (e *Engine) next(s *state, now Instant) Level {
	n := e.settings.Samples
	for l := Critical; l > s.level && now.Boot-e.began.Boot >= e.settings.Hold; l-- {
		if s.over[l] >= n && now.Boot-s.overSince[l] >= s.last.For {
			return l
		}
	}
	level := s.level
	for level > OK && s.under[level] >= n {
		level--
	}
	return level
}

// miss notes that an alert was not among the readings.
func (e *Engine) miss(name string, s *state, now Instant) []wire.Alert {
	if s.absent++; s.absent < e.settings.Samples {
		return nil
	}
	delete(e.states, name)
	if s.level == OK {
		return nil
	}
	return e.tell(s, OK, now, "no longer there")
}

// remind repeats an alert that lasts, and tells of one that nobody was told of before.
func (e *Engine) remind(s *state, now Instant) []wire.Alert {
	switch {
	case s.level == OK || e.settings.Repeat < 0:
		return nil
	case s.level != s.told && e.toldLately(s, now), s.level == s.told && now.Boot-s.lastPublished < e.settings.Repeat:
		return nil
	}
	return []wire.Alert{s.publish(now, "")}
}

// move changes the level.
func (s *state) move(next Level, now Instant) {
	if s.level == OK {
		s.began = now
	}
	s.level, s.since = next, now
}

// publish returns a notice of the present level, after the one that was told last.
func (s *state) publish(now Instant, why string) wire.Alert {
	previous := s.told
	s.told, s.lastPublished = s.level, now.Boot
	for l := Warning; l <= s.level; l++ {
		s.toldAt[l] = max(now.Boot, 1)
	}
	return s.notice(previous, now, why)
}

func (s *state) notice(previous Level, now Instant, why string) wire.Alert {
	a := wire.Alert{Name: s.last.Name, State: s.level.String(), Previous: previous.String(),
		Unit: s.last.Unit, Since: s.since.Wall}
	if why == "" {
		value := s.last.Value
		a.Value = &value
	}
	// The threshold that was crossed: of the level left on the way down.
	if threshold := s.last.Thresholds.at(max(s.level, previous)); !math.IsInf(threshold, 1) {
		a.Threshold = &threshold
	}
	a.Message = s.message(previous, now, why)
	return a
}

// Level returns the present level of an alert.
func (e *Engine) Level(name string) Level {
	if s := e.states[name]; s != nil {
		return s.level
	}
	return OK
}

// States yields every alert with its level, in no order.
func (e *Engine) States(yield func(name string, level Level) bool) {
	for name, s := range e.states {
		if !yield(name, s.level) {
			return
		}
	}
}

// Nearness is the greatest share of its next threshold that any alert's last value
// has reached: 1 is at it. An alert that is on counts as 1, as its end is near too.
func (e *Engine) Nearness() float64 {
	var near float64
	for _, s := range e.states {
		switch {
		case !s.measured:
		case s.level > OK:
			return 1
		case !math.IsInf(s.last.Thresholds.at(Warning), 1):
			near = max(near, s.last.Value/s.last.Thresholds.Warning)
		case s.last.Thresholds.Critical > 0:
			near = max(near, s.last.Value/s.last.Thresholds.Critical)
		}
	}
	return near
}
