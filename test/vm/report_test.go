// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const goodReport = `{"program":"uname","text":"6.1.0-test","ended":true}
{"program":"doctor","text":"{\"checks\":[{\"name\":\"btf\",\"status\":\"ok\"},{\"name\":\"lockdown\",\"status\":\"degraded\",\"detail\":\"d\",\"hint\":\"h\"}]}"}
{"program":"doctor","text":"abot-trace: a word after the document"}
{"program":"doctor","ended":true}
{"program":"internal/probe","text":"=== RUN   TestA"}
{"program":"internal/probe","text":"--- PASS: TestA (0.00s)"}
{"program":"internal/probe","text":"=== RUN   TestB"}
{"program":"internal/probe","text":"    b_test.go:1: not on this kernel"}
{"program":"internal/probe","text":"--- SKIP: TestB (0.00s)"}
{"program":"internal/probe","text":"=== RUN   TestC"}
{"program":"internal/probe","text":"    c_test.go:1: got 1, want 2"}
{"program":"internal/probe","text":"--- FAIL: TestC (0.00s)"}
{"program":"internal/probe","text":"    --- FAIL: TestC/sub (0.00s)"}
{"program":"internal/probe","ended":true,"error":"exit 1"}
`

func TestParseReport(t *testing.T) {
	r, err := parseReport(strings.NewReader(goodReport + `{"program":"guest","ended":true}` + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"probe.TestA": "ok", "probe.TestB": "skip", "probe.TestC": "FAIL",
		"probe.TestD": "-", "doctor: btf": "ok", "doctor: lockdown": "degraded", "doctor: other": "-"} {
		if got := r.outcome(name); got != want {
			t.Errorf("%s: got %s, want %s", name, got, want)
		}
	}
	if err := verdict([]*result{r}); err == nil || !strings.Contains(err.Error(), "got 1, want 2") {
		t.Errorf("verdict: got %v, want what the failed test said", err)
	}
	doc := document([]*result{r})
	for _, want := range []string{"| probe.TestC | FAIL |", "6.1.0-test, lockdown: d. h", "probe.TestB: b_test.go:1: not on this kernel"} {
		if !strings.Contains(doc, want) {
			t.Errorf("no %q in\n%s", want, doc)
		}
	}
}

// TestVerdictOfSilence proves that a guest in which nothing ran is no success.
func TestVerdictOfSilence(t *testing.T) {
	r, err := parseReport(strings.NewReader(`{"program":"doctor","text":"{\"checks\":[]}"}` + "\n" + `{"program":"guest"}`))
	if err != nil {
		t.Fatal(err)
	}
	if verdict([]*result{r}) == nil {
		t.Error("no test ran, and that was a success")
	}
}

func TestParseReportRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"cut short":           goodReport,
		"garbled":             "{\"program\":\"uname\"}\nOops: 0000\n",
		"no word from doctor": `{"program":"guest","ended":true}`,
		"empty":               "",
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := parseReport(strings.NewReader(text)); err == nil {
				t.Error("got no error")
			}
		})
	}
}

// TestCPIO checks an archive against the format's own arithmetic: each header where
// the one before it ends, with parents before children.
func TestCPIO(t *testing.T) {
	source := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(source, []byte("12345"), 0o755); err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	c := newCPIO(&b)
	c.file("usr/lib/program", source, 0o755)
	c.text("etc/passwd", "root", 0o644)
	c.link("bin/sh", "busybox")
	c.char("dev/null", 1, 3)
	if err := c.close(); err != nil {
		t.Fatal(err)
	}
	want := []string{"usr", "usr/lib", "usr/lib/program", "etc", "etc/passwd", "bin", "bin/sh", "dev", "dev/null", "TRAILER!!!"}
	if got := names(t, b.Bytes()); strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("got %v, want %v", got, want)
	}
	c = newCPIO(&b)
	c.file("missing", source+"x", 0o755)
	if c.close() == nil {
		t.Error("a missing file is no error")
	}
}

func names(t *testing.T, archive []byte) (names []string) {
	t.Helper()
	hex := func(b []byte) (n int) {
		for _, c := range b {
			n = n<<4 + strings.IndexByte("0123456789abcdef", c)
		}
		return n
	}
	for at := 0; at < len(archive); {
		if string(archive[at:at+6]) != "070701" {
			t.Fatalf("no header at %d", at)
		}
		field := func(i int) int { return hex(archive[at+6+8*i : at+14+8*i]) }
		size, length := field(6), field(11)
		names = append(names, string(archive[at+110:at+110+length-1]))
		at = (at + 110 + length + 3) &^ 3
		at = (at + size + 3) &^ 3
	}
	return names
}
