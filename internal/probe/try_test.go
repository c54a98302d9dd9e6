// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"errors"
	"slices"
	"testing"

	"github.com/abot-trace/abot-trace/internal/proctest"
)

// TestTry loads every program one by one: what Open loads together must load alone.
func TestTry(t *testing.T) {
	proctest.NeedRoot(t)
	trials, err := Try()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, trial := range trials {
		names = append(names, trial.Program)
		if trial.Err != nil {
			t.Errorf("%s: %v", trial.Program, trial.Err)
		}
	}
	for _, want := range []string{"on_fork", "on_exec", "on_exit", "on_signal", "snapshot", "usage", "on_exec_args", "on_exit_children"} {
		if !slices.Contains(names, want) {
			t.Errorf("%s was not tried; tried are %v", want, names)
		}
	}
}

// TestTryWithoutBTF says what is missing instead of trying.
func TestTryWithoutBTF(t *testing.T) {
	old := btfPath
	btfPath = t.TempDir() + "/missing"
	defer func() { btfPath = old }()
	if _, err := Try(); !errors.Is(err, ErrNoBTF) {
		t.Errorf("got %v, want ErrNoBTF", err)
	}
}
