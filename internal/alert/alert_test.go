// SPDX-License-Identifier: Apache-2.0

package alert

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

var limits = Thresholds{Warning: 75, Critical: 85}

func reading(value float64) []Reading {
	return []Reading{{Name: "memory", Value: value, Thresholds: limits, Unit: UnitPercent}}
}

var wall = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// at is n minutes after the start, on clocks that agree.
func at(n int) Instant {
	return Instant{time.Duration(n) * time.Minute, wall.Add(time.Duration(n) * time.Minute)}
}

func TestStates(t *testing.T) {
	gone, nan := math.Inf(-1), math.NaN()
	tests := []struct {
		name     string
		settings Settings
		values   []float64 // one a minute; gone leaves the reading out
		want     []string  // minute: state message
	}{
		{"stays ok", Settings{}, []float64{10, 74.9, 20}, nil},
		{"one sample is no alert", Settings{}, []float64{90, 10, 90, 10}, nil},
		{"warning after two", Settings{}, []float64{80, 80, 80},
			[]string{"1 warning<ok memory is warning: 80 %, threshold 75 %"}},
		{"straight to critical", Settings{}, []float64{90, 90},
			[]string{"1 critical<ok memory is critical: 90 %, threshold 85 %"}},
		{"up in steps and down in one", Settings{}, []float64{80, 80, 90, 90, 10, 10},
			[]string{"1 warning<ok memory is warning: 80 %, threshold 75 %",
				"3 critical<warning memory is critical: 90 %, threshold 85 %",
				"5 ok<critical memory back below 75 %: 10 %, after 4m"}},
		{"one low sample is no recovery", Settings{}, []float64{90, 90, 10, 90, 10, 90},
			[]string{"1 critical<ok memory is critical: 90 %, threshold 85 %"}},
		{"down to warning", Settings{}, []float64{90, 90, 80, 80},
			[]string{"1 critical<ok memory is critical: 90 %, threshold 85 %",
				"3 warning<critical memory is no longer critical after 2m, still warning: 80 %"}},
		{"no flapping within the margin", Settings{}, []float64{75, 75, 74, 76, 73, 75, 74, 74, 73},
			[]string{"1 warning<ok memory is warning: 75 %, threshold 75 %"}},
		{"mixed levels give the lower one", Settings{}, []float64{80, 90},
			[]string{"1 warning<ok memory is warning: 90 %, threshold 75 %"}},
		{"one sample where so set", Settings{Samples: 1}, []float64{90, 10},
			[]string{"0 critical<ok memory is critical: 90 %, threshold 85 %", "1 ok<critical memory back below 75 %: 10 %, after 1m"}},
		{"repeat", Settings{Repeat: 2 * time.Minute}, []float64{80, 80, 80, 80, 81},
			[]string{"1 warning<ok memory is warning: 80 %, threshold 75 %", "3 warning<warning memory is still warning after 2m: 80 %"}},
		{"never repeat", Settings{Repeat: -1}, []float64{80, 80, 80, 80, 80},
			[]string{"1 warning<ok memory is warning: 80 %, threshold 75 %"}},
		{"not measurable changes nothing", Settings{}, []float64{90, 90, nan, nan, nan, 10, 10},
			[]string{"1 critical<ok memory is critical: 90 %, threshold 85 %", "6 ok<critical memory back below 75 %: 10 %, after 5m"}},
		{"up and down is told once a repeat interval", Settings{Samples: 1, Repeat: 5 * time.Minute}, []float64{80, 10, 80, 10, 90, 80, 80, 80, 80, 80},
			[]string{"0 warning<ok memory is warning: 80 %, threshold 75 %", "1 ok<warning memory back below 75 %: 10 %, after 1m",
				"4 critical<ok memory is critical: 90 %, threshold 85 %", "5 warning<critical memory is no longer critical after 1m, still warning: 80 %"}},
		{"told late where it lasts", Settings{Samples: 1, Repeat: 3 * time.Minute}, []float64{80, 10, 80, 80, 80},
			[]string{"0 warning<ok memory is warning: 80 %, threshold 75 %", "1 ok<warning memory back below 75 %: 10 %, after 1m",
				"4 warning<ok memory is warning: 80 %, threshold 75 %"}},
		{"held after the start", Settings{Samples: 1, Hold: 3 * time.Minute}, []float64{90, 90, 10, 90, 10},
			[]string{"3 critical<ok memory is critical: 90 %, threshold 85 %", "4 ok<critical memory back below 75 %: 10 %, after 1m"}},
		{"gone recovers", Settings{}, []float64{90, 90, gone, gone, gone},
			[]string{"1 critical<ok memory is critical: 90 %, threshold 85 %", "3 ok<critical memory is ok again after 2m: no longer there"}},
		{"gone once", Settings{}, []float64{90, 90, gone, 90},
			[]string{"1 critical<ok memory is critical: 90 %, threshold 85 %"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			engine := NewEngine(tt.settings)
			var got []string
			for i, v := range tt.values {
				readings := reading(v)
				if v == gone {
					readings = nil
				}
				for _, a := range engine.Observe(at(i), readings) {
					got = append(got, fmt.Sprintf("%d %s<%s %s", i, a.State, a.Previous, a.Message))
				}
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestThresholdInNotice(t *testing.T) {
	engine := NewEngine(Settings{Samples: 1})
	up := engine.Observe(at(0), reading(90))
	down := engine.Observe(at(1), reading(10))
	if len(up) != 1 || len(down) != 1 {
		t.Fatalf("%d and %d notices, want 1 and 1", len(up), len(down))
	}
	if up[0].Threshold == nil || *up[0].Threshold != 85 || up[0].Value == nil || *up[0].Value != 90 {
		t.Errorf("up: %+v", up[0])
	}
	if down[0].Threshold == nil || *down[0].Threshold != 85 {
		t.Errorf("down: %+v, want the threshold that was left", down[0])
	}
}

// TestStepDown holds the text of a value that has fallen far under both thresholds, while
// the lower level lasts.
func TestStepDown(t *testing.T) {
	s := &state{level: Warning, last: Reading{Name: "cpu", Value: 11.2, Unit: UnitPercent, Thresholds: Thresholds{Warning: 80, Critical: 90}}}
	a := s.notice(Critical, at(3), "")
	const want = "cpu is no longer critical after 3m, still warning while it settles: 11.2 %"
	if s.began = at(0); s.message(Critical, at(3), "") != want {
		t.Errorf("got %q, want %q", s.message(Critical, at(3), ""), want)
	}
	if a.Threshold == nil || *a.Threshold != 90 {
		t.Errorf("got %+v, want the threshold that was left", a)
	}
}

func TestMissingThresholds(t *testing.T) {
	engine := NewEngine(Settings{Samples: 1})
	only := func(th Thresholds, v float64) string {
		engine.Observe(at(0), []Reading{{Name: "x", Value: v, Thresholds: th}})
		return engine.Level("x").String()
	}
	if got := only(Thresholds{Critical: 5}, 4); got != "ok" {
		t.Errorf("under the only threshold: %s", got)
	}
	if got := only(Thresholds{Critical: 5}, 5); got != "critical" {
		t.Errorf("at the only threshold: %s", got)
	}
	// A reload took the thresholds away: the alert ends.
	if got := only(Thresholds{}, 5); got != "ok" {
		t.Errorf("without thresholds: %s", got)
	}
}

func TestFormat(t *testing.T) {
	tests := []struct {
		value float64
		unit  string
		want  string
	}{
		{85, UnitPercent, "85 %"}, {85.26, UnitPercent, "85.3 %"}, {0, UnitBytes, "0 B"}, {1536, UnitBytes, "1.5 KiB"},
		{500e6, UnitBytes, "477 MiB"}, {3 << 30, UnitBytes, "3 GiB"}, {math.MaxFloat64, UnitSeconds, "53375d23h"},
		{90, UnitSeconds, "1m30s"}, {3600, UnitSeconds, "1h"}, {100000, UnitSeconds, "1d3h"}, {0.5, UnitSeconds, "500ms"},
		{1.04, UnitCores, "1 cores"}, {3, UnitCount, "3"},
	}
	for _, tt := range tests {
		if got := Format(tt.value, tt.unit); got != tt.want {
			t.Errorf("Format(%v, %s) = %q, want %q", tt.value, tt.unit, got, tt.want)
		}
	}
}

func TestNearness(t *testing.T) {
	engine := NewEngine(Settings{})
	if got := engine.Nearness(); got != 0 {
		t.Errorf("nothing measured: %v", got)
	}
	engine.Observe(at(0), reading(37.5))
	if got := engine.Nearness(); got != 0.5 {
		t.Errorf("half way: %v", got)
	}
	engine.Observe(at(1), reading(90))
	engine.Observe(at(2), reading(90))
	if got := engine.Nearness(); got != 1 {
		t.Errorf("alert on: %v", got)
	}
}

// TestNoticesAreTransitions: whatever is measured and whatever the wall clock
// does, every notice continues the one before it, a repetition keeps its distance,
// and calm always ends in ok.
func TestNoticesAreTransitions(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		settings := Settings{Samples: rapid.IntRange(1, 4).Draw(t, "samples"),
			Repeat: time.Duration(rapid.IntRange(1, 30).Draw(t, "repeat")) * time.Minute}
		engine := NewEngine(settings)
		values := rapid.SliceOfN(rapid.OneOf(rapid.Float64Range(0, 100), rapid.SampledFrom([]float64{72.7, 74.9, 75, 84.9, 85, math.NaN()})), 0, 60).Draw(t, "values")
		state, told, raised, boot := "ok", time.Duration(0), time.Duration(0), time.Duration(0)
		observe := func(v float64) {
			// Suspend makes a step long; the wall clock jumps as it likes.
			boot += time.Duration(rapid.IntRange(1, 600).Draw(t, "step")) * time.Second
			jump := time.Duration(rapid.IntRange(-1e6, 1e6).Draw(t, "jump")) * time.Second
			notices := engine.Observe(Instant{boot, wall.Add(jump)}, reading(v))
			if len(notices) > 1 {
				t.Fatalf("%d notices of one alert at once", len(notices))
			}
			for _, n := range notices {
				if n.Previous != state {
					t.Fatalf("notice %s<%s, but the state was %s", n.State, n.Previous, state)
				}
				if n.State == n.Previous && (n.State == "ok" || boot-told < settings.Repeat) {
					t.Fatalf("repetition of %s after %v", n.State, boot-told)
				}
				if strings.Contains(n.Message, "-") {
					t.Fatalf("negative duration: %s", n.Message)
				}
				if n.State != "ok" {
					raised = boot
				}
				state, told = n.State, boot
			}
			if got := engine.Level("memory"); got.String() != state && (got == OK || boot-raised >= settings.Repeat) {
				t.Fatalf("level %s, told %s, which was worse %v ago", got, state, boot-raised)
			}
		}
		for _, v := range values {
			observe(v)
		}
		for range settings.Samples {
			observe(0)
		}
		if state != "ok" {
			t.Fatalf("no recovery: %s", state)
		}
	})
}

// TestNoFlapping: a value that stays within the margin of a threshold causes at
// most one notice.
func TestNoFlapping(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		engine := NewEngine(Settings{Samples: rapid.IntRange(1, 3).Draw(t, "samples"), Repeat: -1})
		notices := 0
		for i, v := range rapid.SliceOfN(rapid.Float64Range(72.8, 77), 1, 200).Draw(t, "values") {
			notices += len(engine.Observe(at(i), reading(v)))
		}
		if notices > 1 {
			t.Fatalf("%d notices around one threshold", notices)
		}
	})
}

// TestFor: what has to last is told when it has, and not when it came and went.
func TestFor(t *testing.T) {
	engine := NewEngine(Settings{Samples: 1, Repeat: -1})
	var got []string
	for i, v := range []float64{95, 95, 10, 95, 95, 95, 95, 10} {
		r := reading(v)
		r[0].For = 2 * time.Minute
		for _, a := range engine.Observe(at(i), r) {
			got = append(got, fmt.Sprintf("%d %s", i, a.State))
		}
	}
	if want := []string{"5 critical", "7 ok"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
