// SPDX-License-Identifier: Apache-2.0

package sample

import (
	"cmp"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/shirou/gopsutil/v3/disk"

	"github.com/abot-trace/abot-trace/internal/procfs"
)

// Disk is one mounted file system that can fill up. Read-only, pseudo, squashfs,
// overlay, autofs and loop-mounted ones are not listed: they are full by design,
// or show the space of another one.
type Disk struct {
	Mount  string
	Device string
	FSType string
	Tmpfs  bool // memory, not disk
	// Err says why the figures are missing: a server that does not answer, mostly.
	Err error

	Total, Used, Available uint64 // bytes; Available is what unprivileged users can get
	// Percent is used of what users can have, as df counts.
	Percent float64
	// InodesPercent is the used share of inodes, or -1 where the file system has no
	// fixed number of them.
	InodesPercent float64
}

// pseudo lists file systems that hold no files of their own, or none that can grow.
var pseudo = map[string]bool{
	"autofs": true, "bdev": true, "binder": true, "binfmt_misc": true, "bpf": true, "cgroup": true, "cgroup2": true,
	"configfs": true, "cramfs": true, "debugfs": true, "devpts": true, "devtmpfs": true, "efivarfs": true, "erofs": true,
	"fuse.gvfsd-fuse": true, "fuse.lxcfs": true, "fuse.portal": true, "fuse.snapfuse": true, "fusectl": true,
	"hugetlbfs": true, "iso9660": true, "mqueue": true, "nfsd": true, "nsfs": true, "overlay": true, "proc": true,
	"pstore": true, "ramfs": true, "rootfs": true, "rpc_pipefs": true, "securityfs": true, "selinuxfs": true,
	"squashfs": true, "sysfs": true, "tracefs": true, "udf": true,
}

// worthWatching picks the mounts to look at: each file system once, at its shortest
// mount point, as the last mount there hides the ones before.
func worthWatching(mounts []procfs.Mount) []procfs.Mount {
	top := map[string]procfs.Mount{}
	for _, m := range mounts {
		top[m.Point] = m
	}
	var out []procfs.Mount
	for _, m := range top {
		// Under /sys a tmpfs only holds other mounts.
		if m.ReadOnly || pseudo[m.FSType] || strings.HasPrefix(m.Source, "/dev/loop") || strings.HasPrefix(m.Point, "/sys/") {
			continue
		}
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b procfs.Mount) int {
		return cmp.Or(cmp.Compare(len(a.Point), len(b.Point)), cmp.Compare(a.Point, b.Point))
	})
	seen := map[string]bool{}
	return slices.DeleteFunc(out, func(m procfs.Mount) bool {
		twice := seen[m.Device]
		seen[m.Device] = true
		return twice
	})
}

// statfsLimit is how long a file system has for its answer. A server that is gone
// never gives one, and the call cannot be interrupted.
const statfsLimit = 2 * time.Second

// diskReader looks at file systems without ever waiting long for one.
type diskReader struct {
	procfs string
	// pending holds, by mount point, the calls that have not returned: at most one
	// for each.
	pending map[string]chan statfsResult
}

type statfsResult struct {
	usage *disk.UsageStat
	err   error
}

func (r *diskReader) read() ([]Disk, error) {
	mounts, root, err := r.mounts()
	if err != nil {
		return nil, err
	}
	deadline, cancel := context.WithTimeout(context.Background(), statfsLimit)
	defer cancel()
	watched := worthWatching(mounts)
	for _, m := range watched {
		r.start(m.Point, filepath.Join(root, m.Point))
	}
	var out []Disk
	for _, m := range watched {
		d := Disk{Mount: m.Point, Device: m.Source, FSType: m.FSType, Tmpfs: m.FSType == "tmpfs", InodesPercent: -1}
		d.fill(r.wait(deadline, m.Point))
		// No blocks at all: a pseudo file system that the list does not know.
		if d.Err != nil || d.Total > 0 {
			out = append(out, d)
		}
	}
	return out, nil
}

// mounts lists what the host has mounted. Init's view is preferred: a service's own
// is rearranged by its sandbox.
func (r *diskReader) mounts() (list []procfs.Mount, root string, err error) {
	for _, pid := range []string{"1", "self"} {
		if list, err = (procfs.FS{Root: r.procfs}).Mounts(pid); err != nil {
			continue
		}
		root = filepath.Join(r.procfs, pid, "root")
		if _, statErr := os.Stat(root + "/"); err == nil && statErr == nil {
			return list, root, nil
		}
	}
	return list, "/", err
}

// start asks for the figures of one file system, unless an earlier question is
// still open.
func (r *diskReader) start(point, path string) {
	if r.pending[point] != nil {
		return
	}
	answer := make(chan statfsResult, 1)
	r.pending[point] = answer
	go func() {
		usage, err := disk.Usage(path)
		answer <- statfsResult{usage, err}
	}()
}

var errNoAnswer = errors.New("the file system does not answer")

func (r *diskReader) wait(deadline context.Context, point string) statfsResult {
	select {
	case res := <-r.pending[point]:
		delete(r.pending, point)
		return res
	default:
	}
	select {
	case res := <-r.pending[point]:
		delete(r.pending, point)
		return res
	case <-deadline.Done():
		return statfsResult{err: errNoAnswer}
	}
}

func (d *Disk) fill(res statfsResult) {
	if res.err != nil {
		d.Err = res.err
		return
	}
	u := res.usage
	d.Total, d.Used, d.Available, d.Percent = u.Total, u.Used, u.Free, u.UsedPercent
	if u.InodesTotal > 0 && u.InodesFree <= u.InodesTotal {
		d.InodesPercent = 100 * float64(u.InodesTotal-u.InodesFree) / float64(u.InodesTotal)
	}
}
