// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/descend"
	"github.com/abot-trace/abot-trace/internal/proctest"
)

// many leaves children in every way, some of them deaf.
const many = `setsid sleep 600 & (setsid sleep 601 &) ; trap '' TERM; sleep 602 & setsid sleep 603 & echo up >&3; `

// TestForeignProcfs wants a supervisor that cannot see to say so, and to end what it can
// name all the same: as pid 1 its namespace, otherwise the children that it forked. The
// numbers in a foreign procfs name other processes.
func TestForeignProcfs(t *testing.T) {
	proctest.NeedRoot(t)
	const namespace = "unshare --pid --fork --kill-child "
	tests := []struct {
		name, before string
		opts         string
		code         int
		said         string
	}{
		{"keep", namespace + `"$0" supervise "$1"`, `"Argv":["true"],"Keep":"x"`, ExitFailed, "--keep: procfs shows another pid namespace"},
		{"report only", namespace + `"$0" supervise "$1"`, `"Argv":["true"],"ReportOnly":true`, ExitFailed, "--report-only: "},
		{"as pid 1", namespace + `"$0" supervise "$1"`, `"Argv":["sh","-c",` + quoteJSON(many+"exit 7") + `]`, 7, "as pid 1 everything"},
		{"as pid 1 without any", namespace + `--mount sh -c 'mount -t tmpfs none /proc && exec "$0" supervise "$1"' "$0" "$1"`,
			`"Argv":["sh","-c",` + quoteJSON(many+"exit 7") + `]`, 7, "procfs is not mounted"},
		{"below pid 1", namespace + `sh -c '"$0" supervise "$1"; exit $?' "$0" "$1"`,
			`"Argv":["sh","-c",` + quoteJSON(many+"exit 7") + `]`, 7, "descendants of CMD are left"},
		{"CMD below pid 1", namespace + `sh -c '"$0" supervise "$1"; exit $?' "$0" "$1"`,
			`"Argv":["sh","-c","trap '' TERM; echo up >&3; while :; do :; done"],"Timeout":100000000`, ExitTimeout, "only CMD itself"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			arg := `{"First":"all","Grace":300000000,` + tt.opts + `}`
			s := startCommand(t, "sh", "-c", "exec "+tt.before, self(t), arg)
			s.wantEnd(t, tt.code)
			proctest.Eventually(t, "it says "+tt.said, func() bool { return strings.Contains(s.stderr.String(), tt.said) })
		})
	}
}

// TestBelowOthers wants the ends to be those without anybody in between.
func TestBelowOthers(t *testing.T) {
	for _, above := range []string{"setsid --wait", "nohup", "sudo", "setsid --wait nohup"} {
		t.Run(above, func(t *testing.T) {
			argv := append(strings.Fields(above), self(t), "supervise")
			if above == "sudo" {
				proctest.NeedRoot(t)
				proctest.NeedProgram(t, "sudo")
				// It closes what is not a standard stream.
				argv = append([]string{"sh", "-c", `exec sudo sh -c 'exec 3>&1; exec "$@"' sh "$@" >&3`, "sh"}, argv[1:]...)
			}
			arg := `{"First":"all","Grace":300000000,"Argv":["sh","-c",` + quoteJSON(many+"echo main >&3; read x") + `]}`
			s := startCommand(t, append(argv, arg)...)
			s.life.expect(t, "up", "main")
			// The supervisor is the last of those above that did not execute it.
			pid := s.Process.Pid
			for {
				if args, err := descend.Cmdline(pid); err == nil && len(args) > 1 && args[0] == self(t) {
					break
				}
				pid = onlyChild(t, pid).PID
			}
			if above == "sudo" {
				pid = s.Process.Pid // which passes it on
			}
			if err := unix.Kill(pid, unix.SIGTERM); err != nil {
				t.Fatal(err)
			}
			s.wantEnd(t, 128+9) // the shell ignores TERM
		})
	}
}

// TestZombiesByTheThousand wants pid 1 to reap orphans as fast as they come.
func TestZombiesByTheThousand(t *testing.T) {
	proctest.NeedRoot(t)
	// Each subshell leaves an orphan, which ends at once.
	script := `i=0; while [ $i -lt 3000 ]; do (: &) ; i=$((i+1)); done
		while grep -sq '^State:.Z' /proc/[0-9]*/status; do sleep 0.05; done; echo none >&3`
	arg := `{"First":"all","Grace":1000000000,"Argv":["sh","-c",` + quoteJSON(script) + `]}`
	s := startCommand(t, "unshare", "--pid", "--fork", "--mount-proc", "--kill-child", self(t), "supervise", arg)
	s.life.expect(t, "none")
	s.wantEnd(t, 0)
}
