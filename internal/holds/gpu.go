// SPDX-License-Identifier: Apache-2.0

package holds

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/procfs"
)

// GPU is a graphics or compute device that is open.
type GPU struct {
	Device string // "nvidia0", "renderD128", "kfd", "accel0"
	Bytes  uint64 // of its memory, where the driver tells
	Known  bool   // Bytes was told
}

// Device numbers that the kernel has given once and for all
// (Documentation/admin-guide/devices.txt; drivers/accel). NVIDIA's last two minors are for
// control, and hold no device.
const (
	nvidiaMajor   = 195
	nvidiaDevices = 254
	drmMajor      = 226
	drmRender     = 128 // the first render node; those below are for who draws on screens
	drmRenderEnd  = 192
	accelMajor    = 261
)

// dynamicMajors are the numbers of drivers that are given one when they are loaded.
var dynamicMajors = sync.OnceValue(func() map[uint32]string {
	b, _ := os.ReadFile("/proc/devices")
	return parseDevices(b)
})

// parseDevices returns those character devices of /proc/devices that are looked for.
func parseDevices(b []byte) map[uint32]string {
	majors := make(map[uint32]string)
	for line := range bytes.Lines(b) {
		words := bytes.Fields(line)
		if len(words) == 2 && string(words[0]) == "Block" {
			break
		}
		if len(words) != 2 || string(words[1]) != "kfd" {
			continue
		}
		if n, err := strconv.ParseUint(string(words[0]), 10, 32); err == nil {
			majors[uint32(n)] = string(words[1])
		}
	}
	return majors
}

// gpuName names a device by its number, empty where it is no graphics device: a path says
// nothing about that.
func gpuName(rdev uint64, dynamic map[uint32]string) string {
	major, minor := unix.Major(rdev), unix.Minor(rdev)
	switch {
	case major == nvidiaMajor && minor < nvidiaDevices:
		return fmt.Sprintf("nvidia%d", minor)
	case major == drmMajor && minor >= drmRender && minor < drmRenderEnd:
		return fmt.Sprintf("renderD%d", minor)
	case major == accelMajor:
		return fmt.Sprintf("accel%d", minor)
	}
	return dynamic[major]
}

// device notes a character device, if it is one of those. A driver that does not tell clients
// apart has each descriptor counted.
func (l *look) device(fd int, rdev uint64, info *procfs.FDInfo) {
	name := gpuName(rdev, dynamicMajors())
	if name == "" {
		return
	}
	l.gpu(name)
	if info.DRMKnown {
		l.addClient(client{name, cmp.Or(info.DRMClient, fmt.Sprintf("%d of %d", fd, l.p.PID()))}, info.DRMBytes)
	}
}
