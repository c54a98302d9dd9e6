// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseMounts(t *testing.T) {
	const info = `22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
25 22 0:21 / /run ro,nosuid - tmpfs tmpfs rw,size=10k
28 22 0:30 /sub /mnt/a\040b rw - xfs /dev/sdb\0111 rw
29 22 0:31 / /media/cd ro - ext4 /dev/sdc1 ro
`
	got, err := ParseMounts([]byte(info))
	if err != nil {
		t.Fatal(err)
	}
	want := []Mount{
		{"8:1", "/", "/", "ext4", "/dev/sda1", false},
		{"0:21", "/", "/run", "tmpfs", "tmpfs", false},
		{"0:30", "/sub", "/mnt/a b", "xfs", "/dev/sdb\t1", false},
		{"0:31", "/", "/media/cd", "ext4", "/dev/sdc1", true},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for _, bad := range []string{"garbage\n", "1 2 3 4 5 - ext4 x\n", "22 1 8:1 / / rw - ext4\n"} {
		if _, err := ParseMounts([]byte(bad)); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

// FuzzParseMounts wants an error or mounts with a point each, never a panic.
func FuzzParseMounts(f *testing.F) {
	own, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(own)
	f.Add([]byte(`28 22 0:30 / /mnt/a\04 rw - xfs /dev/sdb1 rw`))
	f.Fuzz(func(t *testing.T, b []byte) {
		mounts, err := ParseMounts(b)
		for _, m := range mounts {
			if err != nil || m.Point == "" || m.FSType == "" {
				t.Fatalf("%+v, %v", m, err)
			}
		}
	})
}

// TestUnescapeMount leaves alone what is no escape.
func TestUnescapeMount(t *testing.T) {
	for in, want := range map[string]string{
		"/plain": "/plain", `\040`: " ", `a\134b`: `a\b`, `\04`: `\04`, `\999`: `\999`, `\`: `\`, strings.Repeat(`\012`, 2): "\n\n",
	} {
		if got := unescapeMount(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}
