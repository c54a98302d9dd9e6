// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/event"
)

// TestMarks proves that the marks are found in an environment wherever they stand,
// and only when they are whole.
func TestMarks(t *testing.T) {
	type marks struct{ known, keep, leash bool }
	type environment struct {
		env  []string
		want marks
	}
	var tests []environment
	// Every alignment of the marks to the search's stride, and a shorter environment after
	// it, behind which the marks may still lie.
	for n := range 33 {
		pad := "P=" + strings.Repeat("x", n)
		tests = append(tests, environment{[]string{pad, "ABOT_TRACE_KEEP=1"}, marks{known: true, keep: true}},
			environment{[]string{pad, "ABOT_TRACE_LEASH=1", "Q=ACE_"}, marks{known: true, leash: true}},
			environment{nil, marks{known: true}})
	}
	tests = append(tests,
		environment{nil, marks{known: true}},
		environment{[]string{"ABOT_TRACE_KEEP=1", "ABOT_TRACE_LEASH=1"}, marks{true, true, true}},
		environment{[]string{"ABOT_TRACE_KEEP=10", "ABOT_TRACE_LEASH=0"}, marks{known: true}},
		environment{[]string{"MY_ABOT_TRACE_KEEP=1", "X=ABOT_TRACE_LEASH=1"}, marks{known: true}},
		environment{[]string{"BIG=" + strings.Repeat("A", 9000)}, marks{}},
	)

	p, err := Open(Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := p.ArgsError(); err != nil {
		t.Fatal(err)
	}
	for i, test := range tests {
		name := fmt.Sprintf("marks-%d", i)
		cmd := exec.Command("true")
		cmd.Args = []string{name}
		// An empty Env would mean our own.
		cmd.Env = append([]string{"A=b"}, test.env...)
		if err := cmd.Run(); err != nil {
			t.Fatal(err)
		}
		var got *marks
		for deadline := time.Now().Add(10 * time.Second); got == nil && time.Now().Before(deadline); {
			if err := p.Wait(10 * time.Millisecond); err != nil {
				t.Fatal(err)
			}
			p.Read(1<<20, func(e *event.Event) {
				if e.Kind == event.KindExec && e.Exec.Cmdline == name+"\x00" {
					got = &marks{e.Exec.MarksKnown, e.Exec.Keep, e.Exec.Leash}
				}
			})
		}
		if got == nil {
			t.Fatalf("%q: no exec seen", test.env)
		}
		if *got != test.want {
			t.Errorf("%.60q: got %+v, want %+v", test.env, *got, test.want)
		}
	}
}
