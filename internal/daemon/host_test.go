// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestHostConditions(t *testing.T) {
	if got := hostConditions("", enoughFDs); len(got) != 0 {
		t.Errorf("here: got %q, want nothing", got)
	}
	bare := t.TempDir()
	if got := hostConditions(bare, enoughFDs); len(got) != 1 || !strings.Contains(got[0], "no procfs at "+bare+"/proc") {
		t.Errorf("without /proc: got %q", got)
	}
	if err := os.Mkdir(filepath.Join(bare, "proc"), 0o755); err != nil {
		t.Fatal(err)
	}
	if got := hostConditions(bare, 64); len(got) != 2 || !strings.Contains(got[0], "no procfs at") || !strings.Contains(got[1], "only 64 descriptors") {
		t.Errorf("an empty directory and few descriptors: got %q", got)
	}
}
