// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"errors"
	"os"
	"strings"
	"testing"
)

func TestNumbersOfOurselves(t *testing.T) {
	self := int32(os.Getpid())
	if state, n, err := (FS{}).Condition(self); err != nil || state != 'R' && state != 'S' || n < 1<<20 {
		t.Errorf("state: %c, %d bytes, %v", state, n, err)
	}
	want, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if exe, err := (FS{}).Exe(self); err != nil || exe != want {
		t.Errorf("exe: %q, %v, want %q", exe, err, want)
	}
	if _, err := (FS{}).OOMScoreAdj(self); err != nil {
		t.Errorf("oom_score_adj: %v", err)
	}
}

func TestNumbers(t *testing.T) {
	fs := fakeRoot(t, map[string]string{
		"7/oom_score_adj": "-1000\n", "7/stat": "7 (a) Z ) T" + strings.Repeat(" 1", 20) + " 3 1\n",
		"8/oom_score_adj": "?\n", "8/stat": "8 (a",
	})
	if n, err := fs.OOMScoreAdj(7); n != -1000 || err != nil {
		t.Errorf("oom_score_adj: %d, %v", n, err)
	}
	if state, n, err := fs.Condition(7); state != 'T' || n != 3*uint64(os.Getpagesize()) || err != nil {
		t.Errorf("state: %c, %d bytes, %v", state, n, err)
	}
	ask := map[string]func(int32) error{
		"oom_score_adj": func(pid int32) error { _, err := fs.OOMScoreAdj(pid); return err },
		"stat":          func(pid int32) error { _, _, err := fs.Condition(pid); return err },
		"exe":           func(pid int32) error { _, err := fs.Exe(pid); return err },
	}
	for name, ask := range ask {
		if err := ask(9); !errors.Is(err, ErrGone) {
			t.Errorf("%s of nobody: %v", name, err)
		}
		if name == "exe" {
			continue
		}
		if err := ask(8); !errors.Is(err, errSyntax) {
			t.Errorf("%s that makes no sense: %v", name, err)
		}
	}
}
