// SPDX-License-Identifier: Apache-2.0

package leak

import (
	"math"
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/wire"
)

// TestInside: a leak of 100 bytes for four hours, that used a core in the first of them.
func TestInside(t *testing.T) {
	at := func(h float64) time.Time {
		return time.Date(2026, 11, 29, 0, 0, 0, 0, time.UTC).Add(time.Duration(h * float64(time.Hour)))
	}
	bytes, cpu, end := 100*4*3600.0, 3600.0, at(8)
	told := Course{{at(5), 100 * 3600, 3600}, {at(6), 100 * 2 * 3600, 3600}}
	for name, tt := range map[string]struct {
		since, until float64 // hours; 0 is no bound
		ended        bool
		told         Course
		bytes, cpu   float64 // hours; below 0 is not open then
	}{
		"no bound":                    {ended: true, told: told, bytes: 4, cpu: 1},
		"all of it":                   {since: 1, until: 20, ended: true, told: told, bytes: 4, cpu: 1},
		"its first hour":              {since: 4, until: 5, ended: true, told: told, bytes: 1, cpu: 1},
		"half of that":                {since: 4, until: 4.5, ended: true, told: told, bytes: 0.5, cpu: 0.5},
		"from the middle on":          {since: 6, ended: true, told: told, bytes: 2, cpu: 0},
		"from the middle on, open":    {since: 6, told: told, bytes: 2, cpu: 0},
		"up to the middle":            {until: 5.5, ended: true, told: told, bytes: 1.5, cpu: 1},
		"where nobody was told":       {since: 5, until: 6, ended: true, bytes: 1, cpu: 0.25},
		"before":                      {until: 3, ended: true, bytes: -1},
		"after":                       {since: 9, ended: true, bytes: -1},
		"after, and it is open":       {since: 9, bytes: 0, cpu: 0},
		"told after its end, in jest": {ended: true, told: Course{{at(30), 1e18, 1e18}}, since: 6, bytes: 2, cpu: 0.5},
	} {
		t.Run(name, func(t *testing.T) {
			l := wire.Leak{ID: "L", OpenedAt: at(4), ByteSeconds: &bytes, CPUSeconds: &cpu}
			if tt.ended {
				l.EndedAt = &end
			}
			var since, until time.Time
			if tt.since != 0 {
				since = at(tt.since)
			}
			if tt.until != 0 {
				until = at(tt.until)
			}
			got := Inside([]wire.Leak{l}, map[string]Course{"L": tt.told}, end, since, until)
			if len(got) == 0 {
				if tt.bytes >= 0 {
					t.Error("it is left out")
				}
				return
			}
			if b, c := *got[0].ByteSeconds/100/3600, *got[0].CPUSeconds/3600; math.Abs(b-tt.bytes) > 1e-9 || math.Abs(c-tt.cpu) > 1e-9 {
				t.Errorf("%v hours of memory, %v of a processor, want %v, %v", b, c, tt.bytes, tt.cpu)
			}
			if *l.ByteSeconds != bytes {
				t.Error("the list itself was changed")
			}
		})
	}
}

// TestCourseIsBounded: what is kept of a leak that is told of for ever has its ends, and its
// figures in between.
func TestCourseIsBounded(t *testing.T) {
	var c Course
	begin := time.Date(2026, 11, 29, 0, 0, 0, 0, time.UTC)
	const told = 100_000
	for i := range told {
		held := float64(i)
		c.Add(&wire.Leak{ByteSeconds: &held}, begin.Add(time.Duration(i)*time.Second))
	}
	c.Add(&wire.Leak{}, begin)
	if len(c) > maxCourse || len(c) < maxCourse/2 {
		t.Fatalf("%d instants", len(c))
	}
	for _, second := range []float64{told / 7, told / 2, told - 1} {
		if got := c.at(begin.Add(time.Duration(second * float64(time.Second)))).ByteSeconds; math.Abs(got-second) > 2*told/maxCourse {
			t.Errorf("at %v: %v", second, got)
		}
	}
}
