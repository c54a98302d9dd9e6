// SPDX-License-Identifier: Apache-2.0

package debian

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// packagesInRoot are all that the tests need there.
const packagesInRoot = "systemd,systemd-sysv,dbus,libpam-systemd,python3-minimal,procps"

// Root makes a root file system, once for each list of packages, and returns its
// path. It is shared by all tests: write to a Layer over it.
func Root(ctx context.Context, cache string, progress func(string)) (string, error) {
	root := filepath.Join(cache, fmt.Sprintf("root-bookworm-%08x", crc32.ChecksumIEEE([]byte(packagesInRoot))))
	if _, err := os.Stat(root); err == nil {
		return root, nil
	}
	mirror, _, err := Mirrors(ctx)
	if err != nil {
		return "", err
	}
	progress("making a Debian root file system")
	partial := root + ".partial"
	if err := os.RemoveAll(partial); err != nil {
		return "", err
	}
	out, err := exec.CommandContext(ctx, "debootstrap", "--variant=minbase",
		"--include="+packagesInRoot, "bookworm", partial, mirror).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("debootstrap: %w\n%s", err, out[max(0, len(out)-4000):])
	}
	return root, os.Rename(partial, root)
}

// A Layer is a root file system of one test, over one that is shared by all runs
// and written by none.
type Layer struct {
	Dir string // holds the root, the overlay's parts, and what else goes with Remove
}

// NewLayer lays a fresh one over base.
func NewLayer(base string) (*Layer, error) {
	dir, err := os.MkdirTemp("", "abot-trace-root-*")
	if err != nil {
		return nil, err
	}
	l := &Layer{dir}
	for _, sub := range []string{"root", "upper", "work"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, err
		}
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", base, filepath.Join(dir, "upper"), filepath.Join(dir, "work"))
	if err := unix.Mount("overlay", l.Path(""), "overlay", 0, options); err != nil {
		return nil, fmt.Errorf("overlay over %s: %w", base, err)
	}
	return l, nil
}

// Path is where a path of the root is here.
func (l *Layer) Path(inside string) string { return filepath.Join(l.Dir, "root", inside) }

// Write makes a file.
func (l *Layer) Write(inside, text string) error {
	if err := os.MkdirAll(filepath.Dir(l.Path(inside)), 0o755); err != nil {
		return err
	}
	return os.WriteFile(l.Path(inside), []byte(text), 0o644)
}

// Remove forgets all that was written.
func (l *Layer) Remove() error {
	if err := unix.Unmount(l.Path(""), 0); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("unmount: %w", err)
	}
	return os.RemoveAll(l.Dir)
}
