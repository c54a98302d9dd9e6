// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"
)

// A result is what became of each step on one machine.
type result struct {
	machine  string
	names    []string // of the steps, in order
	outcomes map[string]string
}

// run does the steps one after the other, up to the first that fails.
func (t *trial) run(ctx context.Context, short bool) (result, error) {
	uname, err := t.m.run(ctx, "uname -r")
	if err != nil {
		return result{}, err
	}
	r := result{machine: strings.TrimSpace(uname) + ", container", outcomes: map[string]string{}}
	if t.emulated {
		r.machine = strings.TrimSpace(uname) + ", virtual machine"
	}
	for _, s := range t.steps(short) {
		began := time.Now()
		err := s.do(ctx)
		r.names = append(r.names, s.name)
		if err != nil {
			r.outcomes[s.name] = "FAIL"
			fmt.Printf("FAIL  %s\n", s.name)
			return r, fmt.Errorf("%s: %w\n%s", s.name, err, t.serviceLog(ctx))
		}
		r.outcomes[s.name] = "ok"
		fmt.Printf("ok    %-60s %.1fs\n", s.name, time.Since(began).Seconds())
	}
	return r, nil
}

const heading = "## The package under a full systemd\n"

// writeTable replaces the part of a document that follows our heading.
func writeTable(path string, results []result) error {
	old, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	before, _, _ := strings.Cut(string(old), heading)
	return os.WriteFile(path, []byte(strings.TrimRight(before, "\n")+"\n\n"+heading+table(results)), 0o644)
}

func table(results []result) string {
	var b strings.Builder
	b.WriteString(`
Installed on a Debian 12, in a container under the kernel of the machine that ran the
tests, and in a QEMU guest. A dash is a step that was left out there.

`)
	var names []string
	head, rule := "| step |", "|---|"
	for _, r := range results {
		head, rule = head+" "+r.machine+" |", rule+"---|"
		for _, name := range r.names {
			if !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	fmt.Fprintf(&b, "%s\n%s\n", head, rule)
	for _, name := range names {
		fmt.Fprintf(&b, "| %s |", name)
		for _, r := range results {
			outcome := r.outcomes[name]
			if outcome == "" {
				outcome = "-"
			}
			fmt.Fprintf(&b, " %s |", outcome)
		}
		b.WriteString("\n")
	}
	return b.String()
}
