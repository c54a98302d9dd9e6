// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

// A guest is what runs a layer: a container, or a virtual machine with a kernel of its
// own.
type guest interface {
	// boot starts it, and returns when commands can be run in it.
	boot(context.Context) error
	// enter runs a command as root outside of any unit, and waits for it.
	enter(ctx context.Context, stdin string, argv ...string) (stdout, stderr []byte, err error)
	// ended is closed when it has ended, whyever.
	ended() <-chan struct{}
	// patience is far longer than anything takes there on a loaded machine.
	patience() time.Duration
	// stop ends it.
	stop(context.Context)
}

// A machine is a booted Debian with a systemd of its own.
type machine struct{ guest }

// boot starts the machine and waits until its systemd has come up.
func (m *machine) boot(ctx context.Context) error {
	if err := m.guest.boot(ctx); err != nil {
		return err
	}
	return m.await(ctx, "its systemd", func() error {
		// "degraded" is up as well: some unit of Debian's does not suit such a machine.
		out, _, err := m.enter(ctx, "", "systemctl", "is-system-running", "--wait")
		if state := strings.TrimSpace(string(out)); state != "running" && state != "degraded" {
			return fmt.Errorf("it is %q (%w)", state, errors.Join(err, errNotYet))
		}
		return nil
	})
}

var errNotYet = errors.New("not yet")

// await tries until it works.
func (m *machine) await(ctx context.Context, what string, try func() error) error {
	return await(ctx, m.guest, what, try)
}

func await(ctx context.Context, g guest, what string, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, g.patience())
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-g.ended():
			return fmt.Errorf("%s: the machine has ended", what)
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, err)
		}
	}
}

// run runs a shell command as a unit of the machine, as an administrator's would run,
// and returns what it prints.
func (m *machine) run(ctx context.Context, command string) (string, error) {
	out, stderr, err := m.enter(ctx, "", "systemd-run", "--quiet", "--wait", "--pipe", "--collect",
		"--setenv=DEBIAN_FRONTEND=noninteractive", "--setenv=LC_ALL=C", "/bin/sh", "-ec", command)
	if err != nil {
		return string(out), fmt.Errorf("%s: %w\n%s%s", command, err, tail(out), tail(stderr))
	}
	return string(out), nil
}

// start starts a service of the machine that runs a shell script.
func (m *machine) start(ctx context.Context, unit, script string) error {
	_, stderr, err := m.enter(ctx, "", "systemd-run", "--quiet", "--unit="+unit, "/bin/sh", "-ec", script)
	if err != nil {
		return fmt.Errorf("start %s: %w\n%s", unit, err, tail(stderr))
	}
	return nil
}

// write makes a file in the machine.
func (m *machine) write(ctx context.Context, path, text string) error {
	_, stderr, err := m.enter(ctx, text, "/bin/sh", "-ec", `umask 022; mkdir -p "$1"; cat >"$2"`, "write", filepath.Dir(path), path)
	if err != nil {
		return fmt.Errorf("write %s: %w\n%s", path, err, tail(stderr))
	}
	return nil
}

func tail(b []byte) []byte { return b[max(0, len(b)-4000):] }
