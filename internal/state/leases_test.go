// SPDX-License-Identifier: Apache-2.0

package state

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

// TestLeases writes leases beside the state, and reads them as they were or not at all.
func TestLeases(t *testing.T) {
	path := t.TempDir()
	dir, err := Open(path, "1")
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	if b, err := dir.LoadLeases(); b != nil || err != nil {
		t.Errorf("before any: %q, %v", b, err)
	}
	for _, leases := range []string{"first", "second"} {
		if err := dir.SaveLeases([]byte(leases)); err != nil {
			t.Fatal(err)
		}
		if b, err := dir.LoadLeases(); string(b) != leases || err != nil {
			t.Errorf("got %q, %v, want %q", b, err, leases)
		}
	}
	if s, err := dir.Load(); s != nil || err != nil {
		t.Errorf("the state: %v, %v", s, err)
	}
	file := filepath.Join(path, leasesName)
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b[len(b)/2] ^= 1
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	if b, err := dir.LoadLeases(); b != nil || !errors.Is(err, ErrCorrupt) {
		t.Errorf("a bit is wrong: %q, %v", b, err)
	}
}
