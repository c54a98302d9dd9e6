// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strings"
)

// document is docs/kernels.md.
func document(results []*result) string {
	var b strings.Builder
	b.WriteString(`# Kernels

<!-- Written by "make test-vm"; changes made by hand are lost. -->

What doctor finds, and how the tests of the packages that depend on the kernel end, in
QEMU guests with Debian's kernels. A guest has no systemd and no journald, so doctor
misses those there. A dash is a test that the guest did not run.

`)
	all := rows(results)
	for i, row := range all {
		for j, cell := range row {
			row[j] = escapeCell(cell)
		}
		fmt.Fprintf(&b, "| %s |\n", strings.Join(row, " | "))
		if i == 0 {
			b.WriteString(strings.Repeat("|---", len(row)) + "|\n")
		}
	}
	b.WriteString("\n## What degrades, and what to do about it\n\n")
	degraded := false
	for _, r := range results {
		for _, c := range r.checks {
			if c.Status == "ok" {
				continue
			}
			degraded = true
			fmt.Fprintf(&b, "- %s, %s: %s. %s\n", r.release, c.Name, c.Detail, c.Hint)
		}
	}
	if !degraded {
		b.WriteString("Nothing.\n")
	}
	writeSkips(&b, results)
	return b.String()
}

func writeSkips(b *strings.Builder, results []*result) {
	var lines []string
	for _, r := range results {
		for name, outcome := range r.tests {
			if outcome == "skip" {
				lines = append(lines, fmt.Sprintf("- %s, %s: %s\n", r.release, name, reason(r.why[name])))
			}
		}
	}
	if len(lines) == 0 {
		return
	}
	slices.Sort(lines)
	b.WriteString("\n## Tests that do not apply\n\n")
	b.WriteString(strings.Join(lines, ""))
}

// reason is the last thing that a test said.
func reason(said []string) string {
	for _, s := range slices.Backward(said) {
		s = strings.TrimSpace(s)
		if s != "" && !strings.HasPrefix(s, "=== ") {
			return s
		}
	}
	return "it does not say why"
}

func escapeCell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }
