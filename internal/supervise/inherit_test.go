// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/proctest"
)

// TestCommandInherits wants CMD to find signals, limits and descriptors as it
// would without a supervisor, started directly and through the stage.
func TestCommandInherits(t *testing.T) {
	script := `grep -E '^(SigBlk|SigIgn|NoNewPrivs|Seccomp):' /proc/self/status
		ulimit -a
		for f in /proc/$$/fd/*; do echo "${f##*/}"; done
		echo "$HOME $PATH"; pwd; umask`
	bare := exec.Command("sh", "-c", script)
	life := newLifeline(t)
	bare.ExtraFiles = []*os.File{life.write}
	want, err := bare.Output()
	if err != nil {
		t.Fatal(err)
	}
	life.write.Close()
	for _, limits := range []string{"", "core=" + coreLimit(t)} {
		s := start(t, options{Argv: []string{"sh", "-c", script}, Limits: limits})
		s.wantEnd(t, 0)
		proctest.Eventually(t, "the output", func() bool { return len(s.stdout.String()) >= len(want) })
		if got := s.stdout.String(); got != string(want) {
			t.Errorf("limits %q: got\n%s\nwant\n%s", limits, got, want)
		}
	}
}

// coreLimit is the limit that holds anyway, so that setting it changes nothing.
func coreLimit(t *testing.T) string {
	t.Helper()
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &l); err != nil {
		t.Fatal(err)
	}
	one := func(n uint64) string {
		if n == unix.RLIM_INFINITY {
			return "unlimited"
		}
		return itoa(int(n)) + "B"
	}
	return one(l.Cur) + ":" + one(l.Max)
}

// nohup before supervise must mean what it says, for both.
func TestIgnoredHangupStaysIgnored(t *testing.T) {
	arg := `{"Argv":["sh","-c","echo up >&3; read x; exit 4"],"First":"all"}`
	s := startCommand(t, "sh", "-c", `trap '' HUP; exec "$0" supervise "$1"`, self(t), arg)
	s.life.expect(t, "up")
	for _, pid := range []int{s.Process.Pid, onlyChild(t, s.Process.Pid).PID} {
		if !ignores(pid, unix.SIGHUP) {
			t.Errorf("process %d does not ignore HUP", pid)
		}
	}
	s.signal(t, unix.SIGHUP)
	s.stdin.Close()
	s.wantEnd(t, 4)
}

// A command under socket activation finds itself named as the sockets' owner.
func TestListenPID(t *testing.T) {
	arg := `{"Argv":["sh","-c","test \"$LISTEN_PID\" = $$ && exit 6"],"First":"all"}`
	s := startCommand(t, "sh", "-c", `LISTEN_FDS=1 LISTEN_PID=$$ exec "$0" supervise "$1"`, self(t), arg)
	s.wantEnd(t, 6)
	arg = strings.Replace(arg, "= $$", "= 12345", 1)
	s = startCommand(t, "sh", "-c", `LISTEN_FDS=1 LISTEN_PID=12345 exec "$0" supervise "$1"`, self(t), arg)
	s.wantEnd(t, 6) // it is somebody else's: left alone
}
