// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"os/exec"
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/event"
)

// TestMissesAreLosses wants the programs' recursion misses to be readable, and told like
// records that found no room: in all that follow, and in the sum.
func TestMissesAreLosses(t *testing.T) {
	p := open(t, Options{})
	if n := len(p.now.misses.programs); n < 4 {
		t.Fatalf("the misses of %d programs are counted", n)
	}
	for _, program := range p.now.misses.programs {
		if _, err := program.Stats(); err != nil {
			t.Fatal(err)
		}
	}
	p.now.misses.ask()
	before := p.Refused()
	p.now.misses.count.Add(3)
	if got := p.Refused(); got != before+3 {
		t.Errorf("%d are refused, want %d", got, before+3)
	}
	cmd := exec.Command("/bin/true")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	told := uint64(0)
	for deadline := time.Now().Add(time.Minute); told == 0 && time.Now().Before(deadline); {
		p.Read(1024, func(e *event.Event) {
			if e.Kind == event.KindExit && e.Subject.PID == int32(cmd.Process.Pid) {
				told = e.Refused
			}
		})
		_ = p.Wait(time.Millisecond)
	}
	if told != before+3 {
		t.Errorf("the record tells of %d, want %d", told, before+3)
	}
}
