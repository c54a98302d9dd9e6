// SPDX-License-Identifier: Apache-2.0

package container

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/procfs"
	"github.com/abot-trace/abot-trace/internal/rootfile"
)

// Where engines keep what they know of a container, in a directory of its id.
var (
	dockerDirs = []string{"/var/lib/docker/containers", "/var/snap/docker/common/var-lib-docker/containers"}
	// Below these there is a directory for each of containerd's namespaces.
	containerdDirs = []string{"/run/containerd/io.containerd.runtime.v2.task",
		"/run/k3s/containerd/io.containerd.runtime.v2.task"}
	// CRI-O and podman share a library; the first part is the storage driver's.
	storageDirs = []string{"/run/containers/storage/overlay-containers", "/run/containers/storage/vfs-containers",
		"/run/containers/storage/btrfs-containers", "/var/lib/containers/storage/overlay-containers",
		"/var/lib/containers/storage/vfs-containers", "/var/lib/containers/storage/btrfs-containers"}
)

// logDir is where the kubelet has a link to each container's log, whose name tells of it.
const logDir = "/var/log/containers"

// maxFile bounds what is read of a file.
const maxFile = 1 << 20

// look finds out what the engines' files say of a group's container.
func (b *Book) look(g procfs.ContainerGroup) (info Info) {
	if info.Roots = b.isRoots(g.Path); !info.Roots {
		return info
	}
	for _, dir := range dockerDirs {
		b.addFrom(&info, parseDocker, dir, g.ID, "config.v2.json")
	}
	for _, dir := range containerdDirs {
		for _, namespace := range b.names(dir) {
			b.addFrom(&info, parseBundle, dir, namespace, g.ID, "config.json")
		}
	}
	for _, dir := range storageDirs {
		b.addFrom(&info, parseBundle, dir, g.ID, "userdata", "config.json")
		b.addFrom(&info, func(text []byte) (Info, error) { return parseStorage(text, g.ID) }, dir, "containers.json")
	}
	if info.Pod.Name == "" || info.Name == "" {
		for _, name := range b.names(logDir) {
			if id, of, ok := parseLogName(name); ok && id == g.ID {
				info.add(of)
			}
		}
	}
	return info
}

// addFrom adds what one file says; one that is not there, or cannot be trusted, says nothing.
func (b *Book) addFrom(info *Info, parse func([]byte) (Info, error), parts ...string) {
	text, err := b.readFile(filepath.Join(parts...))
	if err != nil {
		return
	}
	if of, err := parse(text); err == nil {
		info.add(of)
	}
}

// add takes over what is not known yet.
func (i *Info) add(of Info) {
	for _, field := range []struct{ known, new *string }{
		{&i.Name, &of.Name}, {&i.Image, &of.Image},
		{&i.Pod.Namespace, &of.Pod.Namespace}, {&i.Pod.Name, &of.Pod.Name}, {&i.Pod.UID, &of.Pod.UID},
	} {
		if *field.known == "" {
			*field.known = *field.new
		}
	}
}

// readFile reads a regular file that root alone could have put there; what is larger than
// maxFile is refused.
func (b *Book) readFile(path string) ([]byte, error) {
	f, err := rootfile.Plain.Open(filepath.Join(b.root, path))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxFile {
		return nil, fmt.Errorf("%s: more than %d bytes", path, maxFile)
	}
	return text, nil
}

// names lists a directory that root alone could have filled.
func (b *Book) names(path string) []string {
	dir, err := rootfile.Plain.OpenDir(filepath.Join(b.root, path))
	if err != nil {
		return nil
	}
	defer dir.Close()
	names, err := dir.Names()
	if err != nil {
		return nil
	}
	return names
}

// cgroupRoot is where control groups are mounted.
const cgroupRoot = "/sys/fs/cgroup"

// isRoots reports whether root alone could have made the control group with that path: all
// directories above it are root's, in each hierarchy where it exists. Whoever was given a
// group of his own can name groups in it as he likes.
func (b *Book) isRoots(path string) (found bool) {
	path = b.absolute(path)
	for _, mount := range append(b.list(cgroupRoot), "") { // those of version 1 have directories of their own
		top := filepath.Join(b.root, cgroupRoot, mount)
		if _, err := os.Lstat(filepath.Join(top, path)); err != nil {
			continue
		}
		if found = areRoots(top, filepath.Dir(path)); !found {
			return false
		}
	}
	return found
}

// absolute is a group's path from the top of the hierarchy. One that begins with /.. is of
// another branch than the control group namespace of this process, whose own place is to be
// found first; where that is not, it is taken for the top.
func (b *Book) absolute(path string) string {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	up := 0
	for up < len(parts) && parts[up] == ".." {
		up++
	}
	if up == 0 {
		return path
	}
	return filepath.Join(b.ownGroup(up), path)
}

// areRoots reports whether root alone can make anything in a directory below top, and in those
// on the way to it.
func areRoots(top, path string) bool {
	at := top
	for _, part := range append([]string{""}, strings.FieldsFunc(path, func(c rune) bool { return c == '/' })...) {
		at = filepath.Join(at, part)
		var st unix.Stat_t
		if err := unix.Lstat(at, &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR || st.Uid != 0 || st.Mode&0o022 != 0 {
			return false
		}
	}
	return true
}

// list lists a directory, whoever owns it.
func (b *Book) list(path string) (dirs []string) {
	entries, err := os.ReadDir(filepath.Join(b.root, path))
	if err != nil {
		return nil
	}
	for _, e := range entries {
		if e.IsDir() {
			dirs = append(dirs, e.Name())
		}
	}
	return dirs
}

// maxGroups bounds how many groups are looked at for our own.
const maxGroups = 4096

// ownGroup finds the group that this process is in, by walking the unified hierarchy as it is
// mounted here; it is at least as deep as given. Empty where it cannot be found.
func (b *Book) ownGroup(depth int) string {
	own, looked := strconv.Itoa(os.Getpid()), 0
	var walk func(path string, level int) (string, error)
	walk = func(path string, level int) (string, error) {
		if looked++; looked > maxGroups {
			return "", errors.New("too many groups")
		}
		if level >= depth {
			text, err := os.ReadFile(filepath.Join(b.root, cgroupRoot, path, "cgroup.procs"))
			if err == nil && strings.Contains("\n"+string(text), "\n"+own+"\n") {
				return path, nil
			}
		}
		for _, name := range b.list(filepath.Join(cgroupRoot, path)) {
			if found, err := walk(filepath.Join(path, name), level+1); found != "" || err != nil {
				return found, err
			}
		}
		return "", nil
	}
	found, _ := walk("/", 0)
	return found
}
