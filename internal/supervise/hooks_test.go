// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/proctest"
)

// say is a hook that writes a line to the lifeline.
func say(line string) []string { return []string{"sh", "-c", "echo " + line + " >&3"} }

// TestHooksMatrix wants every hook exactly once, in order, under every ending.
func TestHooksMatrix(t *testing.T) {
	endings := []struct {
		name string
		argv []string
		end  func(*testing.T, *supervised)
		code int
	}{
		{"CMD ends", []string{"sh", "-c", "echo up >&3; exit 3"}, func(*testing.T, *supervised) {}, 3},
		{"CMD ends and leaves children", []string{"sh", "-c", "setsid sleep 1111 & echo up >&3; exit 3"}, func(*testing.T, *supervised) {}, 3},
		{"CMD dies", []string{"sh", "-c", "echo up >&3; kill -KILL $$"}, func(*testing.T, *supervised) {}, 128 + 9},
		{"TERM", []string{"sh", "-c", "echo up >&3; read x"}, func(t *testing.T, s *supervised) { s.signal(t, unix.SIGTERM) }, 128 + 15},
		{"HUP", []string{"sh", "-c", "echo up >&3; read x"}, func(t *testing.T, s *supervised) { s.signal(t, unix.SIGHUP) }, 128 + 1},
		{"INT and QUIT at once", []string{"sh", "-c", "trap '' INT QUIT; echo up >&3; read x"}, func(t *testing.T, s *supervised) {
			s.signal(t, unix.SIGINT)
			s.signal(t, unix.SIGQUIT)
		}, 128 + 15},
		{"deaf CMD, killed after the grace", []string{"sh", "-c", "trap '' TERM; echo up >&3; while :; do sleep 1; done"},
			func(t *testing.T, s *supervised) { s.signal(t, unix.SIGTERM) }, 128 + 9},
	}
	for _, tt := range endings {
		t.Run(tt.name, func(t *testing.T) {
			s := start(t, options{
				Argv: tt.argv, Grace: 200 * time.Millisecond,
				BeforeTerm: [][]string{say("before1"), {"false"}, say("before2")},
				OnExit:     [][]string{{"/no/such/hook"}, say("exit1"), {"sh", "-c", "kill -ABRT $$"}, say("exit2")},
			})
			s.life.expect(t, "up")
			tt.end(t, s)
			if got := s.code(t); got != tt.code {
				t.Errorf("exit code %d, want %d", got, tt.code)
			}
			if got, want := strings.Join(s.life.rest(t), " "), "before1 before2 exit1 exit2"; got != want {
				t.Errorf("hooks ran %q, want %q", got, want)
			}
			for _, want := range []string{
				`before-term hook "false": exit 1`,
				`on-exit hook "/no/such/hook": /no/such/hook: no such file or directory`,
				`on-exit hook "sh -c kill -ABRT $$": ended by signal 6 (aborted)`,
			} {
				proctest.Eventually(t, "report: "+want, func() bool { return strings.Contains(s.stderr.String(), want) })
			}
		})
	}
}

// CMD that is never started has no ending: no hook runs.
func TestNoHooksWithoutStart(t *testing.T) {
	s := start(t, options{Argv: []string{"/no/such/command"}, BeforeTerm: [][]string{say("before")}, OnExit: [][]string{say("exit")}})
	if got := s.code(t); got != ExitNotFound {
		t.Errorf("exit code %d, want %d", got, ExitNotFound)
	}
	if lines := s.life.rest(t); len(lines) > 0 {
		t.Errorf("hooks ran: %v", lines)
	}
}

// The tree hears of the end after the before-term hooks, and is gone before the
// on-exit hooks.
func TestHooksOrderWithTree(t *testing.T) {
	s := start(t, options{
		Argv:       []string{"sh", "-c", "trap 'echo cmd >&3; exit 0' TERM; echo up >&3; while :; do sleep 0.05; done"},
		Grace:      never,
		BeforeTerm: [][]string{say("before")},
		OnExit:     [][]string{say("exit:$ABOT_TRACE_HOOK:$ABOT_TRACE_SIGNAL:$ABOT_TRACE_EXIT_CODE")},
	})
	s.life.expect(t, "up")
	s.signal(t, unix.SIGTERM)
	if got := s.code(t); got != 0 {
		t.Errorf("exit code %d, want 0", got)
	}
	if got, want := strings.Join(s.life.rest(t), " "), "before cmd exit:on-exit:SIGTERM:0"; got != want {
		t.Errorf("order %q, want %q", got, want)
	}
}

// A hook that hangs ends by its time-out, with what it started.
func TestHookTimeout(t *testing.T) {
	hang := []string{"sh", "-c", "trap '' TERM; sleep 1111 & setsid sleep 1112 & wait"}
	for _, kind := range []string{"before-term", "on-exit"} {
		t.Run(kind, func(t *testing.T) {
			o := options{Argv: []string{"true"}, Grace: never, HookTimeout: 300 * time.Millisecond}
			if kind == "on-exit" {
				o.OnExit = [][]string{hang, say("after")}
			} else {
				o.BeforeTerm = [][]string{hang, say("after")}
			}
			s := start(t, o)
			s.life.expect(t, "after")
			s.wantEnd(t, 0)
			proctest.Eventually(t, "the report", func() bool { return strings.Contains(s.stderr.String(), "did not end within 300ms") })
		})
	}
}

// What a hook leaves behind ends, though the hook itself ended well.
func TestHookLeftovers(t *testing.T) {
	leave := []string{"sh", "-c", "setsid sleep 1111 & trap '' TERM; setsid sleep 1112 & echo hook >&3"}
	s := start(t, options{Argv: []string{"true"}, Grace: 200 * time.Millisecond,
		BeforeTerm: [][]string{leave}, OnExit: [][]string{leave, say("last")}})
	s.life.expect(t, "hook", "hook", "last")
	s.wantEnd(t, 0)
}

// Further signals shorten the grace, but every hook runs to its end.
func TestFurtherSignalsSpareHooks(t *testing.T) {
	goOn := filepath.Join(t.TempDir(), "go-on")
	s := start(t, options{Argv: []string{"sh", "-c", "trap '' TERM INT; echo up >&3; while :; do sleep 0.05; done"}, Grace: never,
		BeforeTerm: [][]string{{"sh", "-c", "echo hook >&3; until test -e " + goOn + "; do sleep 0.01; done; echo done >&3"}, say("second")},
		OnExit:     [][]string{say("last")}})
	s.life.expect(t, "up")
	s.signal(t, unix.SIGTERM)
	s.life.expect(t, "hook")
	s.signal(t, unix.SIGTERM)
	s.signal(t, unix.SIGINT)
	proctest.Eventually(t, "the signals are taken", func() bool { return !pending(t, s.Process.Pid) })
	if err := os.WriteFile(goOn, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if got := s.code(t); got != 128+9 {
		t.Errorf("exit code %d, want %d", got, 128+9)
	}
	if got, want := strings.Join(s.life.rest(t), " "), "done second last"; got != want {
		t.Errorf("hooks ran %q, want %q", got, want)
	}
}
