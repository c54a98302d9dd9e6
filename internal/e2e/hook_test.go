// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/wire"
)

// hooked is a directory that anyone may write to, and a command that says there who it
// is and writes to root's file.
func hooked(t *testing.T, user string) (dir, config string) {
	t.Helper()
	dir, err := os.MkdirTemp("", "abot-trace-hook-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "roots"), []byte("untouched"), 0o600); err != nil {
		t.Fatal(err)
	}
	script := `echo x >>` + dir + `/roots; { id -u; id -G; nice; grep -E "^(CapPrm|CapEff|CapAmb|NoNewPrivs)" /proc/self/status; } >` + dir + `/said.$$; mv ` + dir + `/said.$$ ` + dir + `/said`
	return dir, ruleless + fmt.Sprintf("notify: {exec: [{command: [/bin/sh, -c, '%s'], min_severity: info%s}]}\n", script, user)
}

// TestHookRunsAsNobody has a daemon that was started by hand, as root, run a command: it
// has none of root's powers, and not the daemon's priority.
func TestHookRunsAsNobody(t *testing.T) {
	for _, tt := range []struct{ name, user, want string }{
		{"by default", "", "65534\n65534\n"},
		{"who is named", ", user: daemon", "1\n1\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir, config := hooked(t, tt.user)
			d := startDaemon(t, config)
			leaveLeaf(t)
			said := ""
			d.await("the command has run", func() bool {
				b, err := os.ReadFile(filepath.Join(dir, "said"))
				said = string(b)
				return err == nil
			})
			const none = "\t0000000000000000\n"
			want := tt.want + "0\nCapPrm:" + none + "CapEff:" + none + "CapAmb:" + none + "NoNewPrivs:\t1\n"
			if said != want {
				t.Errorf("it is\n%swant\n%s", said, want)
			}
			if b, err := os.ReadFile(filepath.Join(dir, "roots")); err != nil || string(b) != "untouched" {
				t.Errorf("root's file: %q, %v", b, err)
			}
		})
	}
}

// TestHookIsRefused has a daemon that cannot run a command as nobody run none, and say so.
func TestHookIsRefused(t *testing.T) {
	dir, config := hooked(t, "")
	d := newDaemon(t, config)
	d.before = []string{"setpriv", "--bounding-set=-setuid"}
	d.start()
	refused := func(list []string) bool {
		return len(list) == 1 && strings.Contains(list[0], "notify.exec is refused") && strings.Contains(list[0], "CAP_SETUID")
	}
	if list := d.status().Conditions; !refused(list) {
		t.Errorf("it says %q", list)
	}
	leaveLeaf(t)
	d.await("an orphan", func() bool {
		return d.find(func(e *wire.Event) bool { return e.Type == wire.TypeOrphan }) != nil
	})
	d.endBy(unix.SIGTERM)
	if _, err := os.Stat(filepath.Join(dir, "said")); err == nil {
		t.Error("it ran")
	}
}

// TestPriorityIsRaised: a daemon that was started by hand runs before what it watches,
// with all its threads, where it may; where somebody has chosen its priority, that stays.
func TestPriorityIsRaised(t *testing.T) {
	for _, tt := range []struct {
		name   string
		before []string
		want   string
		told   bool
	}{
		{"by root", nil, "-20", false},
		{"without CAP_SYS_NICE", []string{"setpriv", "--bounding-set=-sys_nice"}, "0", true},
		{"where one was chosen", []string{"nice", "-n", "5"}, "5", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newDaemon(t, ruleless)
			d.before = tt.before
			d.start()
			stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", d.cmd.Process.Pid))
			if err != nil || len(stats) < 2 {
				t.Fatalf("threads: %q, %v", stats, err)
			}
			for _, path := range stats {
				b, err := os.ReadFile(path)
				if err != nil {
					continue // it ended
				}
				_, rest, _ := strings.Cut(string(b), ") ")
				if nice := strings.Fields(rest)[16]; nice != tt.want { // field 19 of proc(5)
					t.Errorf("%s: nice %s, want %s", path, nice, tt.want)
				}
			}
			if told := strings.Contains(d.log.String(), "raise the priority"); told != tt.told {
				t.Errorf("told: %v", told)
			}
		})
	}
}
