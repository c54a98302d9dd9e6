// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/cilium/ebpf/btf"
	"golang.org/x/sys/unix"
)

func TestCheckRelease(t *testing.T) {
	for release, old := range map[string]bool{
		"4.19.0-27-amd64": true, "5.4.0": true, "5.7.19": true,
		"5.8.0-rc1": false, "5.10.0-33-cloud-amd64": false, "6.1.0": false, "7.3": false, "nonsense": false,
	} {
		var tooOld *KernelTooOldError
		err := checkRelease(release)
		if errors.As(err, &tooOld) != old {
			t.Errorf("%s: %v", release, err)
		}
		if old && (tooOld.Running != release || Hint(err) == "") {
			t.Errorf("%s: %+v, hint %q", release, tooOld, Hint(err))
		}
	}
}

func TestMissingBTF(t *testing.T) {
	defer func(path string) { btfPath = path }(btfPath)
	btfPath = filepath.Join(t.TempDir(), "vmlinux")
	_, err := Open(Options{})
	if !errors.Is(err, ErrNoBTF) || !errors.Is(err, os.ErrNotExist) || Hint(err) == "" {
		t.Errorf("error %v, hint %q", err, Hint(err))
	}
}

func TestExplain(t *testing.T) {
	if err := explain("x", nil); err != nil {
		t.Errorf("explained nothing as %v", err)
	}
	if err := explain("load", fmt.Errorf("type: %w", btf.ErrNotFound)); !errors.Is(err, ErrNoBTF) {
		t.Errorf("error %v, want %v", err, ErrNoBTF)
	}
	if err := explain("load", unix.E2BIG); !errors.Is(err, unix.E2BIG) || err.Error() != "load: argument list too long" {
		t.Errorf("error %v", err)
	}
}

func TestMissingCapability(t *testing.T) {
	err := error(&MissingCapabilityError{[]string{"CAP_BPF", "CAP_PERFMON"}})
	if err.Error() != "tracing needs CAP_BPF and CAP_PERFMON, which this process lacks" {
		t.Errorf("error %q", err)
	}
	if !errors.Is(err, os.ErrPermission) || Hint(err) == "" {
		t.Errorf("%v is no error of permission", err)
	}
}

func TestOpenRefusesSizes(t *testing.T) {
	needRoot(t)
	for _, size := range []uint32{1, 100, 4096 + 8, 3 << 12} {
		if p, err := Open(Options{RingBytes: size}); err == nil {
			t.Errorf("a ring of %d bytes", size)
			_ = p.Close()
		}
	}
}

// TestCloseLeavesNothing opens and closes, and counts descriptors.
func TestCloseLeavesNothing(t *testing.T) {
	needRoot(t)
	count := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	var after [2]int
	for i := range after { // the first keeps what is opened once per process
		p, err := Open(Options{})
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Close(); err != nil {
			t.Fatal(err)
		}
		if err := p.Close(); err != nil {
			t.Errorf("closed again: %v", err)
		}
		after[i] = count()
	}
	if after[1] > after[0] {
		t.Errorf("%d descriptors, then %d", after[0], after[1])
	}
}
