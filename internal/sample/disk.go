// SPDX-License-Identifier: Apache-2.0

package sample

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/shirou/gopsutil/v3/disk"
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

// A mount is one line of mountinfo(5).
type mount struct {
	dev, point, fstype, source string
	readOnly                   bool // the file system, not only this mount of it
}

// parseMounts decodes mountinfo.
func parseMounts(r io.Reader) ([]mount, error) {
	var out []mount
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20) // an overlay of many layers has a long line
	for lines.Scan() {
		before, after, ok := strings.Cut(lines.Text(), " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if !ok || len(left) < 6 || len(right) < 2 {
			return nil, fmt.Errorf("mountinfo: malformed line %q", lines.Text())
		}
		m := mount{dev: left[2], point: unescapeMount(left[4]), fstype: right[0], source: unescapeMount(right[1])}
		// A service's own view may be read-only where the file system is not
		// (ProtectSystem=), so the options of the file system decide.
		if len(right) > 2 {
			m.readOnly = slices.Contains(strings.Split(right[2], ","), "ro")
		}
		out = append(out, m)
	}
	return out, lines.Err()
}

// unescapeMount undoes the kernel's octal escapes (mangle in fs/proc_namespace.c).
func unescapeMount(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				out.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		out.WriteByte(s[i])
	}
	return out.String()
}

// worthWatching picks the mounts to look at: each file system once, at its shortest
// mount point, as the last mount there hides the ones before.
func worthWatching(mounts []mount) []mount {
	top := map[string]mount{}
	for _, m := range mounts {
		top[m.point] = m
	}
	var out []mount
	for _, m := range top {
		// Under /sys a tmpfs only holds other mounts.
		if m.readOnly || pseudo[m.fstype] || strings.HasPrefix(m.source, "/dev/loop") || strings.HasPrefix(m.point, "/sys/") {
			continue
		}
		out = append(out, m)
	}
	slices.SortFunc(out, func(a, b mount) int {
		return cmp.Or(cmp.Compare(len(a.point), len(b.point)), cmp.Compare(a.point, b.point))
	})
	seen := map[string]bool{}
	return slices.DeleteFunc(out, func(m mount) bool {
		twice := seen[m.dev]
		seen[m.dev] = true
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
		r.start(m.point, filepath.Join(root, m.point))
	}
	var out []Disk
	for _, m := range watched {
		d := Disk{Mount: m.point, Device: m.source, FSType: m.fstype, Tmpfs: m.fstype == "tmpfs", InodesPercent: -1}
		d.fill(r.wait(deadline, m.point))
		// No blocks at all: a pseudo file system that the list does not know.
		if d.Err != nil || d.Total > 0 {
			out = append(out, d)
		}
	}
	return out, nil
}

// mounts lists what the host has mounted. Init's view is preferred: a service's own
// is rearranged by its sandbox.
func (r *diskReader) mounts() (list []mount, root string, err error) {
	for _, pid := range []string{"1", "self"} {
		var f *os.File
		if f, err = os.Open(filepath.Join(r.procfs, pid, "mountinfo")); err != nil {
			continue
		}
		root = filepath.Join(r.procfs, pid, "root")
		list, err = parseMounts(f)
		f.Close()
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
