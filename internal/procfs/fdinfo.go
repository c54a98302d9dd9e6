// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"bytes"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// FDInfo is what /proc/PID/fdinfo says of a descriptor. To read it asks no file server.
type FDInfo struct {
	MountID int // of the mount that it was opened in
	Locks   []Lock
	// DRMClient tells clients of graphics devices apart, where the driver tells of them; a
	// descriptor and its duplicates are one.
	DRMClient string
	DRMBytes  uint64 // what that client holds of the device's memory, in all its regions
	DRMKnown  bool   // DRMBytes was told
}

// Lock is a lock that is held on a file, by the names that lslocks(8) uses.
type Lock struct {
	Type string // "POSIX", "FLOCK", "OFDLCK", "LEASE"
	Mode string // "READ", "WRITE"
}

// maxFDInfo bounds the file: an epoll descriptor has a line for each that it watches.
const maxFDInfo = 256 << 10

// FDInfo reads what is told of a descriptor, ErrGone where it is closed.
func (p *Process) FDInfo(fd int) (FDInfo, error) {
	b, err := p.readAll("fdinfo/"+strconv.Itoa(fd), 1<<10, maxFDInfo)
	if err != nil {
		return FDInfo{}, err
	}
	return parseFDInfo(b), nil
}

// parseFDInfo reads lines "key:\tvalue"; what it does not know says nothing.
func parseFDInfo(b []byte) (info FDInfo) {
	var drm drmRegions
	for line := range bytes.Lines(b) {
		key, value, ok := strings.Cut(strings.TrimSuffix(string(line), "\n"), ":")
		words := strings.Fields(value)
		if !ok || len(words) == 0 {
			continue
		}
		switch {
		case key == "mnt_id":
			info.MountID, _ = strconv.Atoi(words[0])
		case key == "lock" && len(words) >= 4 && words[1] != "->":
			// 1: POSIX  ADVISORY  WRITE 4711 08:01:1234 0 EOF; an arrow is one who waits.
			info.Locks = append(info.Locks, Lock{Type: words[1], Mode: words[3]})
		case key == "drm-client-id":
			info.DRMClient = words[0]
		case strings.HasPrefix(key, "drm-"):
			drm.take(key, words)
		}
	}
	info.DRMBytes, info.DRMKnown = drm.sum()
	return info
}

// drmRegions are what a client holds in each of a device's memory regions. Drivers tell of it
// by up to three names (Documentation/gpu/drm-usage-stats.rst): the first one there counts.
type drmRegions [3]struct {
	bytes uint64
	known bool
}

var drmPrefixes = [3]string{"drm-resident-", "drm-memory-", "drm-total-"}

func (d *drmRegions) take(key string, words []string) {
	for i, prefix := range drmPrefixes {
		region, ok := strings.CutPrefix(key, prefix)
		n, err := strconv.ParseUint(words[0], 10, 53)
		// What lies in the machine's own memory is counted there.
		if !ok || err != nil || region == "" || region == "system" || region == "system0" || region == "cpu" {
			continue
		}
		if len(words) > 1 {
			n *= map[string]uint64{"KiB": 1 << 10, "MiB": 1 << 20}[words[1]]
		}
		d[i].bytes, d[i].known = d[i].bytes+n, true
	}
}

func (d *drmRegions) sum() (uint64, bool) {
	for _, kind := range d {
		if kind.known {
			return kind.bytes, true
		}
	}
	return 0, false
}

// StatFD is fstat(2) of the file that a descriptor is open on. It asks that file's file system,
// and may wait for a server: see [Process.FSTypes].
func (p *Process) StatFD(fd int, st *unix.Stat_t) error {
	if err := unix.Fstatat(p.dir, "fd/"+strconv.Itoa(fd), st, 0); err != nil {
		return p.fail("fd", err)
	}
	return nil
}

// maxMountinfo bounds the file: a host of many containers has thousands of mounts.
const maxMountinfo = 16 << 20

// FSTypes returns the types of file systems by the ids of the mounts that the process sees.
func (p *Process) FSTypes() (map[int]string, error) {
	b, err := p.readAll("mountinfo", 16<<10, maxMountinfo)
	if err != nil {
		return nil, err
	}
	types := make(map[int]string)
	for line := range bytes.Lines(b) {
		before, after, ok := strings.Cut(string(line), " - ")
		id, _, _ := strings.Cut(before, " ")
		if n, err := strconv.Atoi(id); ok && err == nil {
			types[n], _, _ = strings.Cut(after, " ")
		}
	}
	return types, nil
}

// SharedMemory is how much shared memory the process has mapped and resident (RssShmem, from
// Linux 4.5), in bytes; false where the kernel does not say.
func (p *Process) SharedMemory() (uint64, bool, error) {
	b, err := p.readAll("status", 4<<10, 64<<10)
	if err != nil {
		return 0, false, err
	}
	for line := range bytes.Lines(b) {
		if rest, ok := bytes.CutPrefix(line, []byte("RssShmem:")); ok {
			n, err := parseKiB(bytes.Fields(rest))
			return n, err == nil, nil
		}
	}
	return 0, false, nil
}
