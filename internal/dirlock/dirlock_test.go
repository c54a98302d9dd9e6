// SPDX-License-Identifier: Apache-2.0

package dirlock

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestMain makes the test binary a holder of the lock when it is told to be one.
func TestMain(m *testing.M) {
	dir := os.Getenv("DIRLOCK_TEST_HOLD")
	if dir == "" {
		os.Exit(m.Run())
	}
	if _, err := Acquire(dir); err != nil {
		os.Stdout.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
	os.Stdout.WriteString("held\n")
	_, _ = os.Stdin.Read(make([]byte, 1)) // until the test ends it
}

func TestSecondIsRefusedWithTheFirstOnesPID(t *testing.T) {
	dir := t.TempDir()
	holder := exec.Command(os.Args[0])
	holder.Env = append(os.Environ(), "DIRLOCK_TEST_HOLD="+dir)
	stdin, err := holder.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	stdout, err := holder.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "held\n" {
		t.Fatalf("holder said %q, %v", line, err)
	}

	var busy *BusyError
	if _, err := Acquire(dir); !errors.As(err, &busy) {
		t.Fatalf("second Acquire: %v, want a BusyError", err)
	}
	if busy.PID != holder.Process.Pid {
		t.Errorf("holder = %d, want %d", busy.PID, holder.Process.Pid)
	}

	// A killed holder leaves nothing behind.
	if err := holder.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = holder.Wait()
	lock, err := Acquire(dir)
	if err != nil {
		t.Fatalf("after the holder was killed: %v", err)
	}
	if err := lock.Release(); err != nil {
		t.Error(err)
	}
}

func TestAcquireWantsADirectory(t *testing.T) {
	file := t.TempDir() + "/file"
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{file, file + "-missing"} {
		if _, err := Acquire(path); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("Acquire(%s) = %v, want an error that names it", path, err)
		}
	}
}

func TestParseLock(t *testing.T) {
	const file = "00:1a:42"
	tests := []struct {
		name, line string
		pid        int
		ok         bool
	}{
		{"ours", "1: FLOCK  ADVISORY  WRITE 4711 00:1a:42 0 EOF", 4711, true},
		{"another file", "1: FLOCK  ADVISORY  WRITE 4711 00:1a:421 0 EOF", 0, false},
		{"another kind", "1: POSIX  ADVISORY  WRITE 4711 00:1a:42 0 EOF", 0, false},
		{"outside our pid namespace", "1: FLOCK  ADVISORY  WRITE -1 00:1a:42 0 EOF", 0, true},
		{"one that waits", "1: -> FLOCK  ADVISORY  WRITE 4712 00:1a:42 0 EOF", 0, false},
		{"cut", "1: FLOCK", 0, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if pid, ok := parseLock(test.line, file); pid != test.pid || ok != test.ok {
				t.Errorf("got %d, %v; want %d, %v", pid, ok, test.pid, test.ok)
			}
		})
	}
}
