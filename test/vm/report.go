// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/abot-trace/abot-trace/internal/wire"
	"github.com/abot-trace/abot-trace/test/debian"
)

// result is what one guest reported.
type result struct {
	kernel  *debian.Kernel
	release string
	took    time.Duration
	// checks are doctor's, in its order.
	checks []wire.DoctorCheck
	// tests are the top-level tests' outcomes ("ok", "FAIL", "skip") by "package.Test".
	tests map[string]string
	// why holds what a test that was skipped or failed said.
	why map[string][]string
	// ended are the errors of the test binaries, nil for success.
	ended map[string]error
}

var testLine = regexp.MustCompile(`^--- (PASS|FAIL|SKIP): (\S+)`)

// parseReport reads what the guest's init sent (see guest/main.go).
func parseReport(r io.Reader) (*result, error) {
	res := &result{tests: map[string]string{}, why: map[string][]string{}, ended: map[string]error{}}
	var doctor strings.Builder
	var recent []string
	complete := false
	s := bufio.NewScanner(r)
	s.Buffer(nil, 1<<20)
	for s.Scan() {
		var l struct {
			Program, Text, Error string
			Ended                bool
		}
		if err := json.Unmarshal(s.Bytes(), &l); err != nil {
			return nil, fmt.Errorf("garbled report %q: %w", s.Text(), err)
		}
		switch {
		case l.Program == "guest":
			complete = true
		case l.Program == "uname":
			res.release = l.Text
		case l.Program == "doctor":
			doctor.WriteString(l.Text + "\n")
		case l.Ended:
			res.end(l.Program, l.Error, recent)
			recent = nil
		default:
			recent = res.testLine(l.Program, l.Text, recent)
		}
	}
	if err := s.Err(); err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	if !complete {
		return nil, errors.New("the guest did not report to the end")
	}
	var doc wire.Doctor
	// What follows the document is its verdict, for people.
	if err := json.NewDecoder(strings.NewReader(doctor.String())).Decode(&doc); err != nil {
		return nil, fmt.Errorf("doctor --json: %w: %q", err, doctor.String())
	}
	res.checks = doc.Checks
	return res, nil
}

// testLine takes one line of a test binary's output. A test's own words come before
// its outcome, or indented after it.
func (r *result) testLine(program, text string, recent []string) []string {
	m := testLine.FindStringSubmatch(text)
	if m == nil {
		recent = append(recent, text)
		return recent[max(0, len(recent)-30):]
	}
	name := strings.TrimPrefix(program, "internal/") + "." + m[2]
	r.tests[name] = map[string]string{"PASS": "ok", "FAIL": "FAIL", "SKIP": "skip"}[m[1]]
	if m[1] != "PASS" {
		r.why[name] = slices.Clone(recent)
	}
	return nil
}

func (r *result) end(program, message string, recent []string) {
	r.ended[program] = nil
	if message != "" {
		r.ended[program] = fmt.Errorf("%s: %s: %s", program, message, strings.Join(recent, "\n"))
	}
}

func (r *result) count(outcome string) int {
	n := 0
	for _, o := range r.tests {
		if o == outcome {
			n++
		}
	}
	return n
}

func (r *result) summary() string {
	return fmt.Sprintf("%s: %d passed, %d skipped, %d failed in %v", r.release,
		r.count("ok"), r.count("skip"), r.count("FAIL"), r.took.Round(time.Second))
}

// verdict is an error that names every test that failed, and every test binary that
// did not come to its end.
func verdict(results []*result) error {
	var errs []error
	for _, r := range results {
		for name, outcome := range r.tests {
			if outcome == "FAIL" {
				errs = append(errs, fmt.Errorf("%s: %s failed:\n%s", r.release, name, strings.Join(r.why[name], "\n")))
			}
		}
		for _, err := range r.ended {
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", r.release, err))
			}
		}
		if r.count("ok") == 0 {
			errs = append(errs, fmt.Errorf("%s: no test passed", r.release))
		}
	}
	return errors.Join(errs...)
}

// rows returns a header and a row for each check of doctor and each test.
func rows(results []*result) [][]string {
	header := []string{"check"}
	var names []string
	add := func(name string) {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	for _, r := range results {
		header = append(header, r.release)
		for _, c := range r.checks {
			add("doctor: " + c.Name)
		}
	}
	var tests []string
	for _, r := range results {
		for name := range r.tests {
			tests = append(tests, name)
		}
	}
	slices.Sort(tests)
	for _, name := range tests {
		add(name)
	}
	all := [][]string{header}
	for _, name := range names {
		row := []string{name}
		for _, r := range results {
			row = append(row, r.outcome(name))
		}
		all = append(all, row)
	}
	return all
}

func (r *result) outcome(name string) string {
	if check, ok := strings.CutPrefix(name, "doctor: "); ok {
		for _, c := range r.checks {
			if c.Name == check {
				return c.Status
			}
		}
		return "-"
	}
	if o, ok := r.tests[name]; ok {
		return o
	}
	return "-"
}

// table is for terminals.
func table(results []*result) string {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, row := range rows(results) {
		fmt.Fprintln(w, strings.Join(row, "\t"))
	}
	w.Flush()
	for _, r := range results {
		fmt.Fprintln(&b, r.summary())
	}
	return b.String()
}
