// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"math/rand/v2"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestKilledReader kills readers by SIGKILL, each at a random moment, while a shell
// forks without pause. Together they have seen every fork; what a killed one was at
// may have come twice.
func TestKilledReader(t *testing.T) {
	const kills, forks = 12, 5000
	dir := mountPins(t)
	_, end := session(t, dir, Options{})
	end()

	storm := exec.Command("/bin/sh", "-c", `read go; i=0; while [ $i -lt $1 ]; do (:); i=$((i+1)); done; read done`,
		"storm", strconv.Itoa(forks))
	input, err := storm.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := storm.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = input.Close(); _ = storm.Wait() })

	seen, told := appendFile(t), appendFile(t)
	if _, err := input.Write([]byte("go\n")); err != nil {
		t.Fatal(err)
	}

	var reader *exec.Cmd
	for i := range kills + 1 {
		reader = exec.Command(os.Args[0])
		reader.Env = append(os.Environ(), roleReader+"="+dir, roleForks+"="+strconv.Itoa(storm.Process.Pid))
		reader.Stdout, reader.Stderr = seen, told
		if err := reader.Start(); err != nil {
			t.Fatal(err)
		}
		if i < kills {
			<-time.After(time.Duration(rand.IntN(200)) * time.Millisecond)
			_ = reader.Process.Kill()
			_ = reader.Wait()
		}
	}
	defer func() { _ = reader.Process.Kill(); _ = reader.Wait() }()

	// The last one reads what is left, on an emulated machine for minutes.
	var lines []string
	distinct := make(map[string]int)
	for deadline := time.Now().Add(6 * time.Minute); len(distinct) < forks && time.Now().Before(deadline); {
		<-time.After(20 * time.Millisecond)
		lines = strings.Split(strings.TrimSuffix(contents(t, seen), "\n"), "\n")
		clear(distinct)
		for _, line := range lines {
			distinct[line]++
		}
	}
	if text := contents(t, told); text != "" {
		t.Errorf("a reader said: %s", text)
	}
	if len(distinct) != forks {
		t.Errorf("%d forks were seen, want %d", len(distinct), forks)
	}
	if again := len(lines) - len(distinct); again > kills {
		t.Errorf("%d forks came again after %d kills, want at most one each", again, kills)
	}
}

func appendFile(t *testing.T) *os.File {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	if _, err := unix.FcntlInt(f.Fd(), unix.F_SETFL, unix.O_APPEND); err != nil {
		t.Fatal(err)
	}
	return f
}

func contents(t *testing.T, f *os.File) string {
	t.Helper()
	b, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
