// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"fmt"
	"os"
	"slices"
	"testing"
)

// TestPipes looks at this process, which holds both ends of a pipe, and then one of them.
func TestPipes(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	name, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", r.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	holds := func() (reads, writes bool) {
		p, err := FS{}.Open(int32(os.Getpid()))
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		reading, writing, err := p.Pipes()
		if err != nil {
			t.Fatal(err)
		}
		return slices.Contains(reading, name), slices.Contains(writing, name)
	}
	if reads, writes := holds(); !reads || !writes {
		t.Errorf("both ends: reads %v, writes %v", reads, writes)
	}
	w.Close()
	if reads, writes := holds(); !reads || writes {
		t.Errorf("one end: reads %v, writes %v", reads, writes)
	}
}
