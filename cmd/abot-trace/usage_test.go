// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"strings"
	"testing"
)

// TestUsageErrors holds every kind of slip against its exit code, two lines on standard
// error and nothing on standard output.
func TestUsageErrors(t *testing.T) {
	for _, test := range []struct {
		line string
		code int
		want [2]string
	}{
		{"tree --jsn", 2, [2]string{`unknown flag "--jsn"`, "did you mean --json?"}},
		{"tree 1 --jsn", 2, [2]string{`unknown flag "--jsn"`, "did you mean --json?"}},
		{"tree --tall", 2, [2]string{`unknown flag "--tall"`, "abot-trace tree --help"}},
		{"tree --socket", 2, [2]string{"--socket wants a value", "abot-trace tree --help"}},
		{"tree init", 2, [2]string{`tree: pid "init": want a positive number`, "abot-trace tree --help"}},
		{"cleanup --enforce=maybe", 2, [2]string{`invalid boolean value "maybe" for --enforce`, "abot-trace cleanup --help"}},
		{"notify-test --wait x", 2, [2]string{`invalid value "x" for --wait`, "abot-trace notify-test --help"}},
		{"events --type orphn", 2, [2]string{`event type "orphn", did you mean "orphan"?`, "abot-trace events --help"}},
		{"orphans --verdict leakd", 2, [2]string{`--verdict "leakd", did you mean "leaked"?`, "abot-trace orphans --help"}},
		{"tre", 2, [2]string{`unknown command "tre"`, `did you mean "tree"?`}},
		{"bogus --json", 2, [2]string{`unknown command "bogus"`, "abot-trace --help"}},
		{"help tre", 2, [2]string{`unknown command "tre"`, `did you mean "tree"?`}},
		{"--verson", 2, [2]string{`unknown flag "--verson"`, "did you mean --version?"}},
		{"check", 2, [2]string{"check wants one file, got 0", "abot-trace check --help"}},
		{"monitor --jsn", 3, [2]string{`unknown flag "--jsn"`, "did you mean --json?"}},
		{"monitor now", 3, [2]string{`monitor: unexpected argument "now"`, "abot-trace monitor --help"}},
		{"supervise --gracee 3s -- true", 125, [2]string{`unknown flag "--gracee"`, "did you mean --grace?"}},
		{"supervise --grace 3 -- true", 125, [2]string{`--grace: "3" has no unit`, "abot-trace supervise --help"}},
		{"supervise", 125, [2]string{"no command given", "abot-trace supervise --help"}},
		{"daemon --sockt /tmp/x", 78, [2]string{`unknown flag "--sockt"`, "did you mean --socket?"}},
		{"daemon now", 78, [2]string{`daemon: unexpected argument "now"`, "abot-trace daemon --help"}},
	} {
		t.Run(test.line, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			code := run(t.Context(), append([]string{"abot-trace"}, strings.Fields(test.line)...), &stdout, &stderr)
			if code != test.code || stdout.Len() > 0 {
				t.Errorf("exit %d, want %d; standard output %q, want nothing", code, test.code, stdout.String())
			}
			lines := strings.Split(strings.TrimSuffix(stderr.String(), "\n"), "\n")
			if len(lines) != 2 || !strings.HasPrefix(lines[0], "abot-trace: ") || !strings.Contains(lines[0], test.want[0]) ||
				!strings.HasPrefix(lines[1], "hint: ") || !strings.Contains(lines[1], test.want[1]) {
				t.Errorf("standard error:\n%s\nwant the two lines %q", stderr.String(), test.want)
			}
		})
	}
}

// TestEveryCommandReportsUsage meets commands that are added later, too.
func TestEveryCommandReportsUsage(t *testing.T) {
	for _, command := range commands() {
		if command.SkipFlagParsing {
			continue
		}
		var stdout, stderr bytes.Buffer
		want := exitUsage
		if other, ok := usageCodes[command.Name]; ok {
			want = other
		}
		code := run(t.Context(), []string{"abot-trace", command.Name, "--no-such-flag"}, &stdout, &stderr)
		if code != want || stdout.Len() > 0 || strings.Count(stderr.String(), "\n") != 2 {
			t.Errorf("%s --no-such-flag: exit %d, want %d; stdout %q, stderr %q", command.Name, code, want, stdout.String(), stderr.String())
		}
	}
}

// TestNoCommandIgnoresArguments tries every command that documents no argument.
func TestNoCommandIgnoresArguments(t *testing.T) {
	for _, command := range commands() {
		if command.SkipFlagParsing || command.ArgsUsage != "" {
			continue
		}
		var stdout, stderr bytes.Buffer
		want := exitUsage
		if other, ok := usageCodes[command.Name]; ok {
			want = other
		}
		code := run(t.Context(), []string{"abot-trace", command.Name, "surplus"}, &stdout, &stderr)
		if code != want || stdout.Len() > 0 || !strings.Contains(stderr.String(), `unexpected argument "surplus"`) {
			t.Errorf("%s surplus: exit %d, want %d; stdout %q, stderr %q", command.Name, code, want, stdout.String(), stderr.String())
		}
	}
}

func TestVersionFlag(t *testing.T) {
	var command, flag, stderr bytes.Buffer
	if code := run(t.Context(), []string{"abot-trace", "version"}, &command, &stderr); code != exitOK {
		t.Fatalf("version: exit %d: %s", code, stderr.String())
	}
	if code := run(t.Context(), []string{"abot-trace", "--version"}, &flag, &stderr); code != exitOK || flag.String() != command.String() {
		t.Errorf("--version: exit %d, %q, want %q: %s", code, flag.String(), command.String(), stderr.String())
	}
}

// TestHelp wants the help of the program and of each command on standard output.
func TestHelp(t *testing.T) {
	lines := [][]string{{"--help"}, {"-h"}, {"help"}, {}}
	for _, command := range commands() {
		if !command.Hidden {
			lines = append(lines, []string{command.Name, "--help"}, []string{"help", command.Name})
		}
	}
	for _, line := range lines {
		var stdout, stderr bytes.Buffer
		if code := run(t.Context(), append([]string{"abot-trace"}, line...), &stdout, &stderr); code != exitOK || stderr.Len() > 0 ||
			!strings.HasPrefix(stdout.String(), "NAME:\n   abot-trace") {
			t.Errorf("%q: exit %d, stderr %q, stdout %.60q", line, code, stderr.String(), stdout.String())
		}
	}
}
