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
	"strings"

	"golang.org/x/sys/unix"
)

// packagesInRoot are all that most tests need there.
const packagesInRoot = "systemd,systemd-sysv,dbus,libpam-systemd,python3-minimal,procps"

// Root makes a root file system, once for each list of packages, and returns its
// path. It is shared by all tests: write to a Layer over it.
func Root(ctx context.Context, cache string, progress func(string)) (string, error) {
	return keptRoot(cache, packagesInRoot, func(partial string) error {
		progress("making a Debian root file system")
		return debootstrap(ctx, "bookworm", packagesInRoot, partial)
	})
}

// RootOf is Root of another release, with these packages, separated by commas.
func RootOf(ctx context.Context, cache, release, packages string, progress func(string)) (string, error) {
	return keptRoot(cache, release+" "+packages, func(partial string) error {
		progress("making a root file system of Debian's " + release)
		return debootstrap(ctx, release, packages, partial)
	})
}

func debootstrap(ctx context.Context, release, packages, dir string) error {
	mirror, _, err := Mirrors(ctx)
	if err != nil {
		return err
	}
	return run(ctx, "debootstrap", "--variant=minbase", "--include="+packages, release, dir, mirror)
}

// RootWith is Root with more packages. None of their services is enabled.
func RootWith(ctx context.Context, cache string, packages []string, progress func(string)) (string, error) {
	base, err := Root(ctx, cache, progress)
	if err != nil {
		return "", err
	}
	return keptRoot(cache, base+strings.Join(packages, ",")+install, func(partial string) error {
		progress(fmt.Sprintf("installing %d packages into a Debian root file system", len(packages)))
		if err := run(ctx, "cp", "-a", base, partial); err != nil {
			return err
		}
		main, security, err := Mirrors(ctx)
		if err != nil {
			return err
		}
		// With a pid namespace and a procfs of its own: nothing that an installation starts
		// is left behind, and it sees nobody else.
		return run(ctx, "unshare", append([]string{"--pid", "--fork", "--kill-child", "--mount-proc=" + filepath.Join(partial, "proc"),
			"chroot", partial, "/bin/bash", "-euc", install, "install", main, security}, packages...)...)
	})
}

// install runs in the new root. What is enabled there is what a bare Debian enables:
// the packages' own units and init scripts are started by who needs them.
const install = `
main=$1 security=$2
shift 2
echo "deb $main bookworm main" >/etc/apt/sources.list
[ -z "$security" ] || echo "deb $security bookworm-security main" >>/etc/apt/sources.list
printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
export DEBIAN_FRONTEND=noninteractive LC_ALL=C
apt-get -o Acquire::Languages=none update
enabled=$(cd /etc/systemd/system && find . -type l | sort)
apt-get install -y --no-install-recommends "$@"
apt-get clean
rm -f /usr/sbin/policy-rc.d /etc/rc?.d/S*
(cd /etc/systemd/system && find . -type l | sort | comm -13 <(echo "$enabled") - | xargs -r rm)
`

// keptRoot returns the root that is in the cache for what it is made of, or has it made,
// whole or not at all.
func keptRoot(cache, of string, build func(partial string) error) (string, error) {
	root := filepath.Join(cache, fmt.Sprintf("root-bookworm-%08x", crc32.ChecksumIEEE([]byte(of))))
	if _, err := os.Stat(root); err == nil {
		return root, nil
	}
	partial := root + ".partial"
	if err := os.RemoveAll(partial); err != nil {
		return "", err
	}
	if err := build(partial); err != nil {
		return "", err
	}
	return root, os.Rename(partial, root)
}

// run runs a command, whose output matters where it fails.
func run(ctx context.Context, name string, args ...string) error {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, out[max(0, len(out)-4000):])
	}
	return nil
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
