// SPDX-License-Identifier: Apache-2.0

package recipes

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

const source = "../.."

// documents are those whose examples are run.
var documents = []string{"README.md", "KNOWN_ISSUES.md", "docs/*.md", "cmd/abot-trace/man/tail.md"}

// notRun says of blocks that are no recipe what they are, by their first line.
var notRun = map[string]string{
	"sudo make demo   # the above, on this machine, in three seconds": "this test is part of it",
	"sudo apt install ./dist/abot-trace_*_amd64.deb":                  "test/service installs the package",
	"{\"schema\":1,":                           "an event",
	"{\"severity\": \"warning\", \"host\"":     "a body",
	"kernel          │ bpf/":                   "a drawing",
	"programs --> ring --> daemon":             "a drawing",
	"fork, exec, exit, signals":                "a drawing",
	"abot-trace: supervise: kept process 4711": "what is printed",
	"srun abot-trace supervise":                "a line for Slurm, which is not here",
	"#!/bin/sh":                                "a script that Slurm or the daemon runs",
	"import abot_trace":                        "Python, which the tests of examples run",
	"g, err := shutdown.New(":                  "Go, which the tests of shutdown run",
	"level=INFO msg=\"process tree read again": "a log",
}

// endless never end by themselves: that they still run is all that can be asked.
var endless = regexp.MustCompile(`--(follow|watch)|follow=1`)

// codes are the exit codes of commands that tell something by them.
var codes = map[*regexp.Regexp][]int{
	regexp.MustCompile(`^abot-trace monitor`):                                              {0, 1, 2}, // as the machine is
	regexp.MustCompile(`--fail-on-leak`):                                                   {123},
	regexp.MustCompile(`^pgrep sleep$`):                                                    {1},    // nothing is left
	regexp.MustCompile(`^abot-trace kill (--scope process )?4711$`):                        {2},    // it asks, and nobody is there
	regexp.MustCompile(`^(sudo )?abot-trace arm [a-z][a-z-]*( --per-day 5 --reason .*)?$`): {2},    // the same
	regexp.MustCompile(`^(sudo )?abot-trace disarm `):                                      {0, 1}, // armed by the example before, or not
	regexp.MustCompile(` --at (03:00|2h|2026)`):                                            {1},    // so far back it does not go
	regexp.MustCompile(`ABOT_KILL_ID=\.\.\.`):                                              {0, 1},
}

// withoutDaemon are refused while a daemon runs.
var withoutDaemon = regexp.MustCompile(`^(sudo )?abot-trace (thaw|daemon|uninstall-probes)`)

// withSystemd need a service manager or its journal.
var withSystemd = regexp.MustCompile(`systemctl|journalctl|notify-test`)

func blocks(t *testing.T) []Block {
	t.Helper()
	var out []Block
	for _, pattern := range documents {
		files, err := filepath.Glob(filepath.Join(source, pattern))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, %v", pattern, len(files), err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			name, _ := filepath.Rel(source, file)
			out = append(out, MarkdownBlocks(name, string(text))...)
		}
	}
	return append(out, helpBlocks(t)...)
}

func helpBlocks(t *testing.T) (out []Block) {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "abot-trace")
	build := exec.Command("go", "build", "-o", binary, "./cmd/abot-trace")
	build.Dir, build.Env = source, append(os.Environ(), "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, text)
	}
	help := func(args ...string) string {
		text, err := exec.Command(binary, args...).Output()
		if err != nil {
			t.Fatalf("abot-trace %q: %v", args, err)
		}
		return string(text)
	}
	_, list, _ := strings.Cut(help("--help"), "COMMANDS:\n")
	list, _, _ = strings.Cut(list, "\n\n")
	for line := range strings.Lines(list) {
		if strings.HasSuffix(strings.TrimSpace(line), ":") {
			continue // the heading of a group
		}
		command := strings.TrimRight(strings.Fields(line)[0], ",")
		if b, ok := HelpBlock(command, help(command, "--help")); ok {
			out = append(out, b)
		}
	}
	if len(out) < 10 {
		t.Fatalf("%d commands with examples in\n%s", len(out), list)
	}
	return out
}

// prefixes are what stands before a command in a table of cron, a unit, a pipeline.
var prefixes = regexp.MustCompile(`^(([*0-9/]+ +){5}(root +)?|ExecStart=|- (run: )?)`)

// entrypoint returns what a container of an image would run as pid 1, in the namespace of
// which it sees nobody else.
func entrypoint(recipe string) (string, error) {
	argv := []string{"unshare", "--pid", "--fork", "--mount-proc"}
	for line := range strings.Lines(recipe) {
		instruction, list, _ := strings.Cut(line, " ")
		if instruction != "ENTRYPOINT" && instruction != "CMD" {
			continue
		}
		var args []string
		if err := json.Unmarshal([]byte(list), &args); err != nil {
			return "", fmt.Errorf("%q: %w", line, err)
		}
		argv = append(argv, args...)
	}
	return strings.Join(argv, " "), nil
}

// target is the first line of a rule of make.
var target = regexp.MustCompile(`^[a-z]+-[a-z-]+:$`)

// runOf makes a block something to run; ok is false where there is nothing.
func runOf(b Block) (run Run, ok bool) {
	first, _, _ := strings.Cut(strings.TrimSpace(b.Text), "\n")
	if notRunAs(first) != "" {
		return run, false
	}
	if regexp.MustCompile(`^[a-z_]+:( |$)`).MatchString(first) {
		return Run{Commands: []string{"abot-trace check /work/example/config.yaml"},
			Files: map[string]string{"/work/example/config.yaml": b.Text}}, true
	}
	if strings.Contains(b.Text, "ENTRYPOINT ") {
		command, err := entrypoint(b.Text)
		return Run{Commands: []string{command}, Daemon: true}, err == nil
	}
	if target.MatchString(first) {
		_, b.Text, _ = strings.Cut(b.Text, "\n")
	}
	if strings.HasPrefix(first, "$ ") {
		b.Lang = "console"
	}
	unit := strings.HasPrefix(first, "[")
	for _, command := range b.Commands() {
		plain := prefixes.ReplaceAllString(command, "")
		if unit && plain == command {
			continue
		}
		run.Commands = append(run.Commands, plain)
	}
	run.Systemd = slices.ContainsFunc(run.Commands, withSystemd.MatchString)
	run.Daemon = !run.Systemd && !slices.ContainsFunc(run.Commands, withoutDaemon.MatchString)
	return run, true
}

// notRunAs returns the entry of notRun for a block's first line.
func notRunAs(first string) string {
	for line := range notRun {
		if strings.HasPrefix(first, line) {
			return line
		}
	}
	return ""
}

// TestNotRun keeps the list of exceptions from outliving what it excepts.
func TestNotRun(t *testing.T) {
	left := maps.Clone(notRun)
	for _, b := range blocks(t) {
		first, _, _ := strings.Cut(strings.TrimSpace(b.Text), "\n")
		delete(left, notRunAs(first))
	}
	for line, why := range left {
		t.Errorf("no block begins with %q (%s)", line, why)
	}
}

// TestBinarySize holds the size that README tells against a binary as make build makes it.
func TestBinarySize(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(source, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	told := regexp.MustCompile("of ([0-9]+) MB").FindSubmatch(text)
	if told == nil {
		t.Fatal("README tells no size")
	}
	binary := filepath.Join(t.TempDir(), "abot-trace")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w -buildid=", "-o", binary, "./cmd/abot-trace")
	build.Dir, build.Env = source, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	st, err := os.Stat(binary)
	if err != nil {
		t.Fatal(err)
	}
	want, _ := strconv.ParseFloat(string(told[1]), 64)
	if got := float64(st.Size()) / 1e6; math.Abs(got-want) > 1 {
		t.Errorf("README says %v MB, the binary has %.1f", want, got)
	}
}

// TestRecipes runs every block that is not excepted.
func TestRecipes(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("CI must run this test as root")
		}
		t.Skip("containers need root")
	}
	in, err := Install(t.Context(), source, func(s string) { t.Log(s) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := in.Remove(); err != nil {
			t.Error(err)
		}
	})
	for _, b := range blocks(t) {
		run, ok := runOf(b)
		if !ok {
			continue
		}
		t.Run(strings.ReplaceAll(fmt.Sprint(b), "/", "."), func(t *testing.T) {
			t.Parallel()
			if len(run.Commands) == 0 {
				t.Fatalf("nothing to run in\n%s", b.Text)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
			defer cancel()
			if unprivileged := strings.Contains(b.Text, "which this process lacks"); unprivileged {
				testUnprivileged(t, in, b, run.Commands[0])
				return
			}
			results, err := in.Do(ctx, run)
			for _, r := range results {
				if want := expected(r.Command); !slices.Contains(want, r.Code) {
					t.Errorf("%s\nexits %d, want one of %d; it says\n%s", r.Command, r.Code, want, r.Output)
				}
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// testUnprivileged runs a session of a user who may not trace as such a user, and compares
// what it prints.
func testUnprivileged(t *testing.T, in *Installation, b Block, command string) {
	t.Helper()
	results, err := in.Do(t.Context(), Run{Commands: []string{
		"setpriv --reuid=65534 --regid=65534 --clear-groups --inh-caps=-all --bounding-set=-all " + command}})
	if err != nil {
		t.Fatal(err)
	}
	if _, want, _ := strings.Cut(b.Text, "\n"); results[0].Code != 1 || results[0].Output != want {
		t.Errorf("exit %d, it says\n%swant\n%s", results[0].Code, results[0].Output, want)
	}
}

func expected(command string) []int {
	if endless.MatchString(command) {
		return []int{124}
	}
	for re, want := range codes {
		if re.MatchString(command) {
			return want
		}
	}
	return []int{0}
}
