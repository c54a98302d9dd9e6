// SPDX-License-Identifier: Apache-2.0

package sample

import (
	"os"
	"slices"
	"testing"
	"time"
)

func TestDescribe(t *testing.T) {
	pass, err := NewSampler(Procfs{}, nil).Pass()
	if err != nil {
		t.Fatal(err)
	}
	var own Usage
	for u := range pass.All() {
		if int(u.ID.PID) == os.Getpid() {
			own = *u
		}
	}
	now := time.Now()
	got := Describe(own, pass.Boot, now)
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if got.Exe != exe || !slices.Equal(got.Cmdline, os.Args) || int(*got.UID) != os.Getuid() {
		t.Errorf("described as %q %q uid %d", got.Exe, got.Cmdline, *got.UID)
	}
	if age := now.Sub(*got.StartedAt); age < 0 || age > time.Hour {
		t.Errorf("started %v ago", age)
	}
	if got.CPUPercent != nil {
		t.Error("a CPU share after one pass")
	}

	// The same pid with another start is another process: nothing of ours is shown.
	own.ID.Start -= 10 * 10_000_000
	if got := Describe(own, pass.Boot, now); got.Exe != "" || got.Cmdline != nil {
		t.Errorf("another process described as %q %q", got.Exe, got.Cmdline)
	}
}
