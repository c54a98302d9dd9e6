// SPDX-License-Identifier: Apache-2.0

package boottime

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// roleEnv has this binary print what it reads, in a namespace that it was started in.
const roleEnv = "ABOT_TEST_BOOTTIME"

func TestMain(m *testing.M) {
	if os.Getenv(roleEnv) == "" {
		os.Exit(m.Run())
	}
	stat, err := os.ReadFile("/proc/self/stat")
	if err := Check(); err != nil {
		_, _ = os.Stdout.WriteString(err.Error())
		os.Exit(1)
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')'):]))
	if err != nil || len(fields) < 21 {
		os.Exit(1)
	}
	ticks, _ := strconv.ParseUint(fields[20], 10, 64)
	start := FromTicks(ticks)
	_, _ = os.Stdout.WriteString(strconv.FormatUint(Now(), 10) + " " + strconv.FormatUint(start, 10) + " " +
		strconv.FormatBool(Ticks(start) == ticks))
	os.Exit(0)
}

// TestTimeNamespace reads the clock, and the start of a process in procfs, in time
// namespaces, and wants them to be those of the initial one.
func TestTimeNamespace(t *testing.T) {
	for _, offset := range []string{"0", "100000", "-10"} {
		t.Run(offset, func(t *testing.T) {
			before := Now()
			cmd := exec.Command("unshare", "-T", "--boottime", offset, "--fork", "--kill-child", "--", os.Args[0])
			cmd.Env = append(os.Environ(), roleEnv+"=1")
			out, err := cmd.CombinedOutput()
			after := Now()
			if err != nil {
				if os.Geteuid() == 0 || os.Getenv("CI") == "true" {
					t.Fatalf("%v: %s", err, out)
				}
				t.Skipf("needs root: %v: %s", err, out)
			}
			f := strings.Fields(string(out))
			if len(f) != 3 {
				t.Fatalf("it said %q", out)
			}
			now, _ := strconv.ParseUint(f[0], 10, 64)
			start, _ := strconv.ParseUint(f[1], 10, 64)
			tick := uint64(10 * time.Millisecond)
			if now < before || now > after || start+tick < before || start > after || f[2] != "true" {
				t.Errorf("between %d and %d it read %d, and that it was started at %d", before, after, now, start)
			}
		})
	}
}

func TestReadShift(t *testing.T) {
	const offsets = "monotonic           5         0\nboottime       100000        7\n"
	for _, tt := range []struct {
		name          string
		offsets       string
		own, children string
		want          int64
		fails         bool
	}{
		{"a kernel without them", "", "", "", 0, false},
		{"in it", offsets, "time:[4026532000]", "time:[4026532000]", 100_000_000_000_007, false},
		{"behind", "boottime -10 0\n", "time:[4026532000]", "time:[4026532000]", -10_000_000_000, false},
		{"unshared, from the initial one", offsets, initialNamespace, "time:[4026532000]", 0, false},
		{"unshared, from another", offsets, "time:[4026532001]", "time:[4026532000]", 0, true},
		{"nobody says where", offsets, "", "", 0, true},
		{"no such clock", "monotonic 1 2\n", initialNamespace, initialNamespace, 0, true},
		{"no number", "boottime x 0\n", initialNamespace, initialNamespace, 0, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.Mkdir(filepath.Join(dir, "ns"), 0o700); err != nil {
				t.Fatal(err)
			}
			if tt.offsets != "" {
				if err := os.WriteFile(filepath.Join(dir, "timens_offsets"), []byte(tt.offsets), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			for name, to := range map[string]string{"time": tt.own, "time_for_children": tt.children} {
				if to == "" {
					continue
				}
				if err := os.Symlink(to, filepath.Join(dir, "ns", name)); err != nil {
					t.Fatal(err)
				}
			}
			if got, err := readShift(dir); got != tt.want || (err != nil) != tt.fails {
				t.Errorf("got %d, %v", got, err)
			}
		})
	}
}
