// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/descend"
	"github.com/abot-trace/abot-trace/internal/procfs"
)

// cgroup is a cgroup v2 that holds the tree and nothing else. Its methods do
// nothing on nil, which stands for none.
type cgroup struct {
	path string
	dir  *os.File
}

// newCgroup makes a cgroup below the one that the process self is in. That needs
// a cgroup v2 hierarchy that is delegated to the caller (systemd: Delegate=yes),
// or root.
func newCgroup(self int) (*cgroup, error) {
	path, err := ownCgroup()
	if err == nil {
		path, err = makeCgroup(path, self)
	}
	if err != nil {
		return nil, fmt.Errorf("cgroup: %w", errors.Join(err, errSetup))
	}
	dir, err := os.Open(path)
	if err != nil {
		os.Remove(path)
		return nil, fmt.Errorf("cgroup: %w", errors.Join(err, errSetup))
	}
	return &cgroup{path: path, dir: dir}, nil
}

func makeCgroup(parent string, self int) (string, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(parent, &st); err != nil {
		return "", fmt.Errorf("%s: %w", parent, err)
	}
	// A directory of that name on a tmpfs takes every write and does nothing.
	if st.Type != unix.CGROUP2_SUPER_MAGIC {
		return "", fmt.Errorf("%s is not in a cgroup v2 file system", parent)
	}
	path := filepath.Join(parent, "abot-trace-supervise-"+strconv.Itoa(self))
	if err := os.Mkdir(path, 0o755); err != nil {
		return "", err
	}
	return path, nil
}

// ownCgroup returns the directory of this process's cgroup v2.
func ownCgroup() (string, error) {
	groups, err := procfs.FS{}.Cgroups(int32(os.Getpid()))
	if err != nil {
		return "", err
	}
	mounts, err := procfs.FS{}.Mounts("self")
	if err != nil {
		return "", err
	}
	return cgroupDir(groups, mounts)
}

// cgroupDir finds the directory of a process's cgroup v2: the mount is wherever the host
// put it.
func cgroupDir(groups procfs.Cgroups, mounts []procfs.Mount) (string, error) {
	own := groups.Unified
	if own == "" || strings.HasPrefix(own, "/..") {
		return "", errors.New("this process is in no cgroup v2 of its namespace")
	}
	for _, m := range mounts {
		if m.FSType != "cgroup2" {
			continue
		}
		rel, err := filepath.Rel(m.Root, own)
		if err != nil || rel == ".." || strings.HasPrefix(rel, "../") {
			continue // mounted from a part of the hierarchy that we are not in
		}
		return filepath.Join(m.Point, rel), nil
	}
	return "", errors.New("no cgroup v2 hierarchy is mounted here")
}

func (c *cgroup) fd() int { return int(c.dir.Fd()) }

// dirs returns the cgroup and those that its processes made below it, parents
// first.
func (c *cgroup) dirs() []string {
	var dirs []string
	_ = filepath.WalkDir(c.path, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return nil // a directory that vanished has nobody in it
	})
	return dirs
}

// procs returns the living members.
func (c *cgroup) procs() []descend.Proc {
	if c == nil {
		return nil
	}
	var procs []descend.Proc
	for _, dir := range c.dirs() {
		b, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
		if err != nil {
			continue
		}
		for f := range bytes.FieldsSeq(b) {
			pid, err := strconv.Atoi(string(f))
			if err != nil || pid <= 0 { // 0: of another pid namespace
				continue
			}
			if p, err := descend.Read(pid); err == nil && c.holds(pid) {
				procs = append(procs, p)
			}
		}
	}
	return procs
}

// holds reports whether pid is in the cgroup now; asked after its identity was
// read, it rules out that the pid was reused in between.
func (c *cgroup) holds(pid int) bool {
	groups, err := procfs.FS{}.Cgroups(int32(pid))
	return err == nil && slices.Contains(strings.Split(groups.Unified, "/"), filepath.Base(c.path))
}

func (c *cgroup) write(file, value string) error {
	return os.WriteFile(filepath.Join(c.path, file), []byte(value), 0)
}

// freeze stops every member and reports whether they stand still.
func (c *cgroup) freeze() bool {
	if c == nil || c.write("cgroup.freeze", "1") != nil {
		return false
	}
	for range 100 {
		b, err := os.ReadFile(filepath.Join(c.path, "cgroup.events"))
		if err != nil {
			break
		}
		if bytes.Contains(b, []byte("frozen 1")) {
			return true
		}
		time.Sleep(time.Millisecond)
	}
	_ = c.write("cgroup.freeze", "0")
	return false
}

// kill ends all members at once (cgroup.kill, Linux 5.14), unless some are kept,
// and thaws the rest.
func (c *cgroup) kill(kept bool) {
	if c == nil {
		return
	}
	if !kept {
		_ = c.write("cgroup.kill", "1")
	}
	_ = c.write("cgroup.freeze", "0")
}

// remove moves what was kept to the cgroup above and removes ours with those
// below it.
func (c *cgroup) remove(report func(string, ...any)) {
	if c == nil {
		return
	}
	c.dir.Close()
	for _, p := range c.procs() {
		_ = os.WriteFile(filepath.Join(filepath.Dir(c.path), "cgroup.procs"), []byte(strconv.Itoa(p.PID)), 0)
	}
	dirs := c.dirs()
	slices.Reverse(dirs)
	var err error
	for range 50 { // busy until the kernel has let go of the last member
		err = nil
		for _, dir := range dirs {
			if e := os.Remove(dir); e != nil && !errors.Is(e, fs.ErrNotExist) {
				err = e
			}
		}
		if err == nil {
			return
		}
		time.Sleep(2 * time.Millisecond)
	}
	report("cgroup is left: %v", err)
}
