// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"reflect"
	"testing"
)

// TestParseFDInfo reads files as kernels print them.
func TestParseFDInfo(t *testing.T) {
	for _, tt := range []struct {
		name, in string
		want     FDInfo
	}{
		{"nothing", "", FDInfo{}},
		{"a file", "pos:\t0\nflags:\t0100002\nmnt_id:\t29\nino:\t12\n", FDInfo{MountID: 29}},
		{"locks", "mnt_id:\t29\nlock:\t1: POSIX  ADVISORY  WRITE 4711 08:01:12 0 EOF\nlock:\t2: FLOCK  ADVISORY  READ 4711 08:01:12 0 EOF\n" +
			"lock:\t2: -> FLOCK  ADVISORY  WRITE 4712 08:01:12 0 EOF\n",
			FDInfo{MountID: 29, Locks: []Lock{{"POSIX", "WRITE"}, {"FLOCK", "READ"}}}},
		{"amdgpu", "mnt_id:\t5\ndrm-driver:\tamdgpu\ndrm-client-id:\t7\ndrm-memory-vram:\t2048 KiB\ndrm-memory-gtt: \t4 KiB\ndrm-memory-cpu: \t9 KiB\n" +
			"drm-engine-gfx:\t5 ns\n", FDInfo{MountID: 5, DRMClient: "7", DRMBytes: 2052 << 10, DRMKnown: true}},
		{"xe, resident before total", "drm-client-id:\t9\ndrm-total-system:\t8 MiB\ndrm-resident-system:\t8 MiB\ndrm-total-vram0:\t32 MiB\n" +
			"drm-resident-vram0:\t16 MiB\n", FDInfo{DRMClient: "9", DRMBytes: 16 << 20, DRMKnown: true}},
		{"a device without memory of its own", "drm-client-id:\t9\ndrm-resident-system0:\t8 MiB\n", FDInfo{DRMClient: "9"}},
		{"damaged", "mnt_id\nlock:\ndrm-resident-:\t1\ndrm-resident-x:\t-1\nlock:\t1: POSIX\n", FDInfo{}},
	} {
		if got := parseFDInfo([]byte(tt.in)); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: got %+v, want %+v", tt.name, got, tt.want)
		}
	}
}

func FuzzParseFDInfo(f *testing.F) {
	f.Add([]byte("mnt_id:\t29\nlock:\t1: POSIX  ADVISORY  WRITE 4711 08:01:12 0 EOF\ndrm-client-id:\t7\ndrm-memory-vram:\t2048 KiB\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if info := parseFDInfo(b); len(info.Locks) > len(b) || info.DRMBytes > 0 && !info.DRMKnown {
			t.Errorf("%q: got %+v", b, info)
		}
	})
}
