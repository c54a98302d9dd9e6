// SPDX-License-Identifier: Apache-2.0

package state

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/rootfile"
)

// TestRecordCrash: what the next daemon learns of the last one's end.
func TestRecordCrash(t *testing.T) {
	d := mustOpen(t, t.TempDir(), "1")
	end := func(said string) {
		t.Helper()
		f, _, err := d.RecordCrash()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(said); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	next := func() *Crash {
		t.Helper()
		f, last, err := d.RecordCrash()
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		return last
	}
	if last := next(); last != nil {
		t.Errorf("of the first: %+v", last)
	}
	if last := next(); last == nil || last.Reason != "" || last.Path != "" {
		t.Errorf("killed without a word: %+v", last)
	}
	end("\npanic: runtime error: oops\n\ngoroutine 1 [running]:\n")
	last := next()
	if last == nil || last.Reason != "panic: runtime error: oops" || last.Time.IsZero() {
		t.Fatalf("crashed: %+v", last)
	}
	if b, err := os.ReadFile(last.Path); err != nil || !strings.Contains(string(b), "goroutine 1") {
		t.Errorf("its record: %q, %v", b, err)
	}
	if err := d.EndedInOrder(); err != nil {
		t.Error(err)
	}
	if last := next(); last != nil {
		t.Errorf("ended in order: %+v", last)
	}
	for range maxAside + 2 {
		end("fatal error: x\n")
	}
	if kept, err := d.aside(crashMark); err != nil || len(kept) != maxAside {
		t.Errorf("kept %q, %v; want %d", kept, err, maxAside)
	}

	d.boot = "another boot"
	if last := next(); last == nil || last.Reason != "fatal error: x" {
		t.Errorf("crashed before the machine was started again: %+v", last)
	}
	d.boot = "a third boot"
	if last := next(); last != nil {
		t.Errorf("ended with the machine: %+v", last)
	}
}

// TestForeignCrashRecord: what is no file of ours is neither read nor written to.
func TestForeignCrashRecord(t *testing.T) {
	d := mustOpen(t, t.TempDir(), "1")
	path := filepath.Join(d.Path(), crashName)
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	var refused *rootfile.UntrustedError
	if f, _, err := d.RecordCrash(); f != nil || !errors.As(err, &refused) {
		t.Errorf("got %v, %v", f, err)
	}
	f, last, err := d.RecordCrash()
	if err != nil || last != nil {
		t.Fatalf("once it is gone: %+v, %v", last, err)
	}
	f.Close()
}
