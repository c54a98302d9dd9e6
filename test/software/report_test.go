// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestCases wants every row to be one that can be run.
func TestCases(t *testing.T) {
	cases, err := selectCases(regexp.MustCompile(""))
	if err != nil {
		t.Fatal(err)
	}
	if len(cases) < 120 {
		t.Errorf("%d cases, want 120 or more", len(cases))
	}
	asked := regexp.MustCompile(`\bask(?:_job|_living)? "?(\w+)`)
	for _, c := range cases {
		roles := map[string]bool{}
		for _, m := range asked.FindAllStringSubmatch(c.script, -1) {
			roles[m[1]] = true
			if _, ok := c.wants[m[1]]; !ok {
				t.Errorf("%s: the script asks about %s, of which nothing is wanted", c.name, m[1])
			}
		}
		for role := range c.wants {
			if !roles[role] {
				t.Errorf("%s: the script does not ask about %s", c.name, role)
			}
		}
	}
}

// TestSmallCases wants the small form to have cases that there are, for both places.
func TestSmallCases(t *testing.T) {
	places := map[place]int{}
	for _, name := range smallCases {
		i := slices.IndexFunc(allCases(), func(c testCase) bool { return c.name == name })
		if i < 0 {
			t.Errorf("there is no case %q", name)
			continue
		}
		for _, p := range allCases()[i].in() {
			places[p]++
		}
	}
	if places[plain] < 20 || places[systemd] < 10 {
		t.Errorf("cases by place: %v", places)
	}
	for _, name := range smallPackages {
		if !slices.Contains(packages, name) {
			t.Errorf("no case of the long form needs the package %s", name)
		}
	}
}

// TestUndecided wants a run to be repeated for want of a verdict, never for a wrong one.
func TestUndecided(t *testing.T) {
	wants := map[string]want{"worker": leaked, "server": deliberate}
	for name, tt := range map[string]struct {
		answers []answer
		want    bool
	}{
		"right":             {[]answer{{asked: asked{role: "server"}, settled: "deliberate", alive: true}}, false},
		"unknown":           {[]answer{{asked: asked{role: "worker"}, settled: "unknown", alive: true}}, true},
		"meant, not judged": {[]answer{{asked: asked{role: "server"}, settled: "unknown", alive: true}}, true},
		"a wrong one":       {[]answer{{asked: asked{role: "server"}, settled: "leaked", alive: true}}, false},
		"one of each":       {[]answer{{asked: asked{role: "worker"}, settled: "unknown", alive: true}, {asked: asked{role: "server"}, settled: "leaked"}}, false},
		"ended for nothing": {[]answer{{asked: asked{role: "server"}, settled: "unknown", ended: true}}, false},
	} {
		run := trial{c: &testCase{wants: wants}, answers: tt.answers}
		if got := run.undecided(); got != tt.want {
			t.Errorf("%s: %t, want %t", name, got, tt.want)
		}
	}
}

func TestReadTold(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		asked      int
		said       bool
		fails      bool
	}{
		{"nothing yet", "", 0, false, false},
		{"asks", "ask worker 12 3456\nask worker 13 3457\n", 2, false, false},
		{"ready", "ask worker 12 3456\nready\n", 1, true, false},
		{"half a line", "ask worker 12 3456\nrea", 1, false, false},
		{"fails", "ask worker 12 3456\nfail no such process\n", 1, false, true},
		{"half a failure", "fail no su", 0, false, false},
		{"no pid", "ask worker x 3456\n", 0, false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			asked, said, err := readTold(tt.text, "ready")
			if len(asked) != tt.asked || said != tt.said || (err != nil) != tt.fails {
				t.Errorf("got %v, %t, %v", asked, said, err)
			}
		})
	}
}

// rowOf is a row of one role, with an answer for each run.
func rowOf(c testCase, answers ...answer) *row {
	r := &row{c: &c, place: plain}
	for i := range answers {
		answers[i].role = "worker"
		r.trials = append(r.trials, &trial{c: &c, answers: answers[i : i+1]})
	}
	return r
}

func TestComplaints(t *testing.T) {
	for _, tt := range []struct {
		name   string
		want   want
		open   string
		answer answer
		wrong  string // part of the complaint
	}{
		{"a leak, ended", leaked, "", answer{settled: "leaked", ended: true}, ""},
		{"a leak that has left by itself", leaked, "", answer{settled: "leaked"}, ""},
		{"a leak that the rule has let live", leaked, "", answer{settled: "leaked", alive: true}, "has not ended it"},
		{"a leak called deliberate", leaked, "", answer{settled: "deliberate", alive: true}, "it is deliberate"},
		{"a leak that was not told", leaked, "", answer{settled: "no orphan", alive: true}, "it is no orphan"},
		{"a leak, unknown", leaked, "", answer{settled: "unknown", alive: true}, "it is unknown"},
		{"a leak, unknown as is known", leaked, "reason", answer{settled: "unknown", alive: true}, ""},
		{"a leak, deliberate, where unknown is known", leaked, "reason", answer{settled: "deliberate", alive: true}, "it is deliberate"},
		{"a daemon", deliberate, "", answer{settled: "deliberate", alive: true}, ""},
		{"a daemon, ended before it was judged", deliberate, "", answer{settled: "deliberate", ended: true}, "has ended it"},
		{"a daemon called leaked", deliberate, "reason", answer{settled: "leaked", alive: true}, "it is leaked"},
		{"a daemon that is no orphan", deliberate, "", answer{settled: "no orphan", alive: true}, "it is no orphan"},
		{"kept, no orphan", kept, "", answer{settled: "no orphan", alive: true}, ""},
		{"kept, deliberate", kept, "", answer{settled: "deliberate", alive: true}, ""},
		{"kept, unknown", kept, "", answer{settled: "unknown", alive: true}, "it is unknown"},
		{"kept, it has left while it was unknown", kept, "", answer{settled: "unknown"}, ""},
		{"kept, it has left before it was judged for good", kept, "", answer{settled: "leaked", pending: true}, ""},
		{"kept, leaked and gone", kept, "", answer{settled: "leaked"}, "it is leaked"},
		{"nobody could tell", unknown, "", answer{settled: "unknown", alive: true}, ""},
		{"nobody could tell, but it does", unknown, "", answer{settled: "leaked", ended: true}, "it is leaked"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := rowOf(testCase{wants: what("worker", tt.want), open: tt.open}, tt.answer)
			got := strings.Join(r.complaints(), "; ")
			if (got == "") != (tt.wrong == "") || !strings.Contains(got, tt.wrong) {
				t.Errorf("got %q, want %q in it", got, tt.wrong)
			}
		})
	}
}

func TestComplaintsOfRuns(t *testing.T) {
	r := rowOf(testCase{wants: what("worker", leaked)})
	r.trials = []*trial{{c: r.c, err: errors.New("no start")}, {c: r.c}}
	got := strings.Join(r.complaints(), "; ")
	if want := "1 of 2: no start; 1 of 2: the script asked about no worker"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestFigures(t *testing.T) {
	rows := []*row{
		rowOf(testCase{name: "a", wants: what("worker", leaked)}, answer{settled: "leaked", ended: true}, answer{settled: "unknown", alive: true}),
		rowOf(testCase{name: "b", wants: what("worker", leaked)}, answer{settled: "no orphan", alive: true}),
		rowOf(testCase{name: "c", wants: what("worker", deliberate)}, answer{settled: "leaked", ended: true}),
		rowOf(testCase{name: "d", wants: what("worker", unknown)}, answer{settled: "unknown", alive: true}),
		rowOf(testCase{name: "e", wants: what("worker", kept)}, answer{settled: "unknown"}, answer{settled: "no orphan"}),
		rowOf(testCase{name: "a", wants: what("worker", none)}, answer{settled: "no orphan", alive: true}),
	}
	got := count(rows)
	want := figures{cases: 5, rows: 6, runs: 8, cells: 6, tellable: 5, meantLeaked: 1, meantEnded: 1, leakedHidden: 1, unknown: 1, unsteady: 1}
	if got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if missed := got.missed(); len(missed) != 4 {
		t.Errorf("missed goals: got %q, want 4", missed)
	}
	if missed := count(rows[3:]).missed(); len(missed) != 0 {
		t.Errorf("missed goals: got %q, want none", missed)
	}
}

func TestWriteDocument(t *testing.T) {
	path := filepath.Join(t.TempDir(), "verdicts.md")
	rows := []*row{
		rowOf(testCase{section: "One", name: "sh -c 'a | b'", wants: what("worker", leaked)},
			answer{told: "unknown, provisional", settled: "leaked", ended: true}, answer{told: "leaked", settled: "leaked", ended: true}),
		rowOf(testCase{section: "Two", name: "c", wants: what("worker", unknown), why: "looks alike"}, answer{told: "unknown", settled: "unknown"}),
	}
	if err := writeDocument(path, rows); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"## One\n", `| sh -c 'a \| b' | init | worker | leaked | leaked; unknown, provisional | leaked | yes |`,
		"## Two\n", "| c | init | worker | unknown | unknown | unknown | no |", "- c (init): looks alike\n",
	} {
		if !strings.Contains(string(got), want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}
