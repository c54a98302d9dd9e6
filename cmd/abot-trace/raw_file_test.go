// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"os"
	"path/filepath"
	"testing"
)

func TestQuietly(t *testing.T) {
	path := filepath.Join(t.TempDir(), "out")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w := rawWriter(f)
	if _, ok := w.(*rawFile); !ok {
		t.Fatalf("a regular file became a %T", w)
	}
	for _, text := range []string{"one\n", "", "two\n"} {
		if n, err := io.WriteString(w, text); n != len(text) || err != nil {
			t.Errorf("%q: %d bytes written, %v", text, n, err)
		}
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != "one\ntwo\n" {
		t.Errorf("got %q, %v", got, err)
	}
	f.Close()
	if _, err := io.WriteString(w, "three\n"); err == nil {
		t.Error("written to a closed file")
	}
	// What would keep its writer waiting stays as it is.
	_, end, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer end.Close()
	if w := rawWriter(end); w != io.Writer(end) {
		t.Errorf("a pipe became a %T", w)
	}
}

// A full disk is an error.
func TestQuietFileFails(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	raw, err := full.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if n, err := io.WriteString(&rawFile{raw, full.Name()}, "text"); err == nil || n != 0 {
		t.Errorf("%d bytes written, %v", n, err)
	}
}
