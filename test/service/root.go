// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/test/debian"
)

// packagesInRoot are all that the test needs in the machine.
const packagesInRoot = "systemd,systemd-sysv,dbus,libpam-systemd,python3-minimal,procps"

// baseRoot makes the shared root file system, once for each list of packages.
func baseRoot(ctx context.Context, cache string) (string, error) {
	root := filepath.Join(cache, fmt.Sprintf("root-bookworm-%08x", crc32.ChecksumIEEE([]byte(packagesInRoot))))
	if _, err := os.Stat(root); err == nil {
		return root, nil
	}
	mirror, _, err := debian.Mirrors(ctx)
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
		return "", fmt.Errorf("debootstrap: %w\n%s", err, tail(out))
	}
	return root, os.Rename(partial, root)
}

// A layer is a root file system of one machine, over one that is shared by all runs
// and written by none.
type layer struct{ dir string } // holds root, the overlay's parts and the console

// newLayer lays a fresh one over base.
func newLayer(base string) (*layer, error) {
	dir, err := os.MkdirTemp("", "abot-trace-service-*")
	if err != nil {
		return nil, err
	}
	l := &layer{dir}
	for _, sub := range []string{"root", "upper", "work"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, err
		}
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", base, filepath.Join(dir, "upper"), filepath.Join(dir, "work"))
	if err := unix.Mount("overlay", l.path(""), "overlay", 0, options); err != nil {
		return nil, fmt.Errorf("overlay over %s: %w", base, err)
	}
	return l, nil
}

// path is where a path of the machine is here.
func (l *layer) path(inside string) string { return filepath.Join(l.dir, "root", inside) }

func (l *layer) write(inside, text string) error {
	if err := os.MkdirAll(filepath.Dir(l.path(inside)), 0o755); err != nil {
		return err
	}
	return os.WriteFile(l.path(inside), []byte(text), 0o644)
}

func (l *layer) remove() error {
	if err := unix.Unmount(l.path(""), 0); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("unmount: %w", err)
	}
	return os.RemoveAll(l.dir)
}
