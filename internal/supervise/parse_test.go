// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/procfs"
)

func TestSplitCommand(t *testing.T) {
	tests := []struct {
		name, in string
		want     []string
		err      string
	}{
		{"words", "rm  -rf\t/tmp/x", []string{"rm", "-rf", "/tmp/x"}, ""},
		{"single quotes", `echo 'a  "b" \n $x'`, []string{"echo", `a  "b" \n $x`}, ""},
		{"double quotes", `echo "a 'b' \" \\ \n"`, []string{"echo", `a 'b' " \ \n`}, ""},
		{"joined", `a'b'"c"\ d`, []string{"abc d"}, ""},
		{"empty arguments", `x '' ""`, []string{"x", "", ""}, ""},
		{"continued line", "a \\\n b", []string{"a", "b"}, ""},
		{"nothing is expanded", `echo $HOME *.go; a|b >c`, []string{"echo", "$HOME", "*.go;", "a|b", ">c"}, ""},
		{"empty", " ", nil, "command is empty"},
		{"open quote", `echo "a`, nil, `command "echo \"a": quote " is not closed`},
		{"final backslash", `echo \`, nil, `command "echo \\" ends in a backslash`},
		{"NUL", "a\x00b", nil, "command holds a NUL byte"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := SplitCommand(tt.in)
			if msg := errorText(err); msg != tt.err || !slices.Equal(got, tt.want) {
				t.Errorf("got %q, %q; want %q, %q", got, msg, tt.want, tt.err)
			}
		})
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// FuzzSplitCommand checks that quoting what was split and splitting it again
// gives the same arguments.
func FuzzSplitCommand(f *testing.F) {
	for _, s := range []string{"a b", `'a b' "c\"d"`, `\'`, "a\\\nb", `""`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		args, err := SplitCommand(s)
		if err != nil {
			if args != nil {
				t.Fatalf("arguments %q beside the error %v", args, err)
			}
			return
		}
		var quoted []string
		for _, a := range args {
			quoted = append(quoted, "'"+strings.ReplaceAll(a, "'", `'\''`)+"'")
		}
		again, err := SplitCommand(strings.Join(quoted, " "))
		if err != nil || !slices.Equal(again, args) {
			t.Fatalf("%q: %q, then %q, %v", s, args, again, err)
		}
	})
}

func TestParseLimits(t *testing.T) {
	inf := uint64(unix.RLIM_INFINITY)
	tests := []struct {
		in   string
		want []Limit
		err  string
	}{
		{"nofile=1024", []Limit{{"nofile", 1024, 1024}}, ""},
		{"nofile=10:20,core=0", []Limit{{"nofile", 10, 20}, {"core", 0, 0}}, ""},
		{"as=1GiB:unlimited", []Limit{{"as", 1 << 30, inf}}, ""},
		{"core=5MB", []Limit{{"core", 5e6, 5e6}}, ""},
		{"cpu=1h:1d", []Limit{{"cpu", 3600, 86400}}, ""},
		{"nproc=unlimited", []Limit{{"nproc", inf, inf}}, ""},
		{"files=3", nil, `unknown limit "files": there are as, core, cpu, nofile, nproc`},
		{"nofile", nil, `limit "nofile": want NAME=VALUE`},
		{"nofile=-1", nil, `limit nofile: "-1" is not a count`},
		{"nofile=20:10", nil, `limit nofile: soft 20 is above hard 10`},
		{"as=1024", nil, `limit as: "1024" has no unit: write 1024B, 1024MB (millions of bytes) or 1024MiB (2^20 bytes)`},
		{"as=1.5GiB", []Limit{{"as", 3 << 29, 3 << 29}}, ""},
		{"as=9999999TiB", nil, `limit as: "9999999TiB" is too large`},
		{"cpu=60", nil, `limit cpu: "60" has no unit: write 60s, 60m, 60h or 60d`},
		{"cpu=1500ms", nil, `limit cpu: "1500ms" is not a whole number of seconds`},
		{"cpu=-1s", nil, `limit cpu: "-1s" is negative`},
		{"", nil, `limit "": want NAME=VALUE`},
	}
	for _, tt := range tests {
		t.Run(tt.in, func(t *testing.T) {
			got, err := ParseLimits(tt.in)
			if msg := errorText(err); msg != tt.err || !slices.Equal(got, tt.want) {
				t.Errorf("got %v, %q; want %v, %q", got, msg, tt.want, tt.err)
			}
		})
	}
}

// FuzzParseLimits checks that limits that parse survive the way to the stage.
func FuzzParseLimits(f *testing.F) {
	for _, s := range []string{"nofile=1", "as=1GiB:unlimited,cpu=1h", "core=0,core=0", "nproc=1:2"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		limits, err := ParseLimits(s)
		if err != nil {
			return
		}
		order, err := parseStageOrder(stageOrder{listen: true, limits: limits}.String())
		if err != nil || !slices.Equal(order.limits, limits) || !order.listen || order.terminal {
			t.Fatalf("%q: %v, then %v, %v", s, limits, order, err)
		}
	})
}

func TestParseDuration(t *testing.T) {
	tests := []struct {
		in   string
		want time.Duration
		err  string
	}{
		{"90s", 90 * time.Second, ""},
		{"1h30m", 90 * time.Minute, ""},
		{"7d", 7 * 24 * time.Hour, ""},
		{"0", 0, ""},
		{"1d12h", 36 * time.Hour, ""},
		{"5", 0, `"5" has no unit: write 5s, 5m, 5h or 5d`},
		{"", 0, `"" is not a number with a unit`},
		{"-5s", 0, `"-5s" is negative`},
		{"999999999d", 0, `"999999999d" is too long: the most is 106751d`},
	}
	for _, tt := range tests {
		got, err := ParseDuration(tt.in)
		if msg := errorText(err); msg != tt.err || got != tt.want {
			t.Errorf("%q: got %v, %q; want %v, %q", tt.in, got, msg, tt.want, tt.err)
		}
	}
}

func TestCgroupDir(t *testing.T) {
	const (
		pure    = "30 25 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n"
		hybrid  = "31 25 0:27 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n32 31 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n33 31 0:29 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
		partial = "30 25 0:26 /docker/abc /sys/fs/cgroup ro shared:4 - cgroup2 cgroup rw\n"
		spaces  = `30 25 0:26 / /mnt/my\040groups rw - cgroup2 cgroup2 rw` + "\n"
	)
	tests := []struct {
		name, unified, mounts, want, err string
	}{
		{"pure", "/user.slice/a.scope", pure, "/sys/fs/cgroup/user.slice/a.scope", ""},
		{"root", "/", pure, "/sys/fs/cgroup", ""},
		{"hybrid", "/sys/y", hybrid, "/sys/fs/cgroup/unified/sys/y", ""},
		{"part of the hierarchy mounted", "/docker/abc/d", partial, "/sys/fs/cgroup/d", ""},
		{"another part mounted", "/docker/abcd", partial, "", "no cgroup v2 hierarchy is mounted here"},
		{"blank in the path", "/a", spaces, "/mnt/my groups/a", ""},
		{"above the namespace's root", "/../x", pure, "", "this process is in no cgroup v2 of its namespace"},
		{"v1 only", "", pure, "", "this process is in no cgroup v2 of its namespace"},
		{"not mounted", "/", "", "", "no cgroup v2 hierarchy is mounted here"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			mounts, err := procfs.ParseMounts([]byte(tt.mounts))
			if err != nil {
				t.Fatal(err)
			}
			got, err := cgroupDir(procfs.Cgroups{Unified: tt.unified}, mounts)
			if msg := errorText(err); got != tt.want || msg != tt.err {
				t.Errorf("got %q, %q; want %q, %q", got, msg, tt.want, tt.err)
			}
		})
	}
}

// A directory of the right name that is no cgroup takes every write and does nothing.
func TestMakeCgroupRefusesOtherFileSystems(t *testing.T) {
	dir := t.TempDir()
	_, err := makeCgroup(dir, 1)
	if want := dir + " is not in a cgroup v2 file system"; errorText(err) != want {
		t.Errorf("got %q, want %q", errorText(err), want)
	}
}

// A file that is there but not executable is told apart from none, and an
// executable further on wins.
func TestLookPath(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, mode os.FileMode) {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), nil, mode); err != nil {
			t.Fatal(err)
		}
	}
	write("a/both", 0o644)
	write("b/both", 0o755)
	write("a/plain", 0o644)
	path := dir + "/none:" + dir + "/a:" + dir + "/b"
	tests := []struct {
		name, want string
		err        error
	}{
		{"both", dir + "/b/both", nil},
		{"plain", "", unix.EACCES},
		{"missing", "", unix.ENOENT},
		{"", "", unix.ENOENT},
		{dir + "/a", "", unix.EACCES},
		{dir + "/a/plain/x", "", unix.ENOTDIR},
	}
	for _, tt := range tests {
		if got, err := lookPath(tt.name, path); got != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("%q: got %q, %v; want %q, %v", tt.name, got, err, tt.want, tt.err)
		}
	}
}
