// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/test/debian"
)

// A machine is a booted container with a systemd of its own, over a root file system
// that is shared by all runs and written by none.
type machine struct {
	dir    string // holds root, the overlay's parts and the console
	nspawn *exec.Cmd
	leader int // its pid 1, as this machine numbers it
	ended  chan struct{}
}

// packagesInRoot are all that the test needs in the container.
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

// newMachine lays a fresh layer over base.
func newMachine(base string) (*machine, error) {
	dir, err := os.MkdirTemp("", "abot-trace-container-*")
	if err != nil {
		return nil, err
	}
	m := &machine{dir: dir}
	for _, sub := range []string{"root", "upper", "work"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, err
		}
	}
	options := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", base, filepath.Join(dir, "upper"), filepath.Join(dir, "work"))
	if err := unix.Mount("overlay", m.path(""), "overlay", 0, options); err != nil {
		return nil, fmt.Errorf("overlay over %s: %w", base, err)
	}
	return m, nil
}

// path is where a path of the container is here.
func (m *machine) path(inside string) string { return filepath.Join(m.dir, "root", inside) }

// write makes a file in the container.
func (m *machine) write(inside, text string) error {
	if err := os.MkdirAll(filepath.Dir(m.path(inside)), 0o755); err != nil {
		return err
	}
	return os.WriteFile(m.path(inside), []byte(text), 0o644)
}

// boot starts the container and waits until its systemd has come up.
func (m *machine) boot(ctx context.Context) error {
	console, err := os.Create(filepath.Join(m.dir, "console"))
	if err != nil {
		return err
	}
	defer console.Close()
	// No --register: there is no machined to ask on a test machine. The filter of
	// nspawn refuses bpf(2) by default.
	m.nspawn = exec.Command("systemd-nspawn", "--boot", "--keep-unit", "--register=no",
		"--capability=all", "--system-call-filter=bpf perf_event_open", "--bind-ro=/sys/kernel/btf",
		"--private-network", "--link-journal=no", "--console=pipe",
		"--machine="+filepath.Base(m.dir), "--directory="+m.path(""))
	m.nspawn.Env = append(os.Environ(), "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1")
	m.nspawn.Stdout, m.nspawn.Stderr = console, console
	m.nspawn.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: unix.SIGTERM}
	if err := m.nspawn.Start(); err != nil {
		return err
	}
	m.ended = make(chan struct{})
	go func() {
		defer close(m.ended)
		_ = m.nspawn.Wait()
	}()
	if err := m.await(ctx, "the container's pid 1", m.findLeader); err != nil {
		return err
	}
	return m.await(ctx, "the container's systemd", func() error {
		// "degraded" is up as well: some unit of Debian's does not suit a container.
		out, err := m.enter(ctx, "systemctl", "is-system-running", "--wait").Output()
		if state := strings.TrimSpace(string(out)); state != "running" && state != "degraded" {
			return fmt.Errorf("it is %q (%w)", state, errors.Join(err, errNotYet))
		}
		return nil
	})
}

var errNotYet = errors.New("not yet")

// findLeader looks for nspawn's child that is pid 1 of a namespace.
func (m *machine) findLeader() error {
	pid := m.nspawn.Process.Pid
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return err
	}
	for child := range strings.FieldsSeq(string(b)) {
		status, err := os.ReadFile("/proc/" + child + "/status")
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(status)) {
			numbers := strings.Fields(line)
			if len(numbers) == 3 && numbers[0] == "NSpid:" && numbers[2] == "1" {
				m.leader, err = strconv.Atoi(child)
				return err
			}
		}
	}
	return errNotYet
}

// await tries until it works, for two minutes: far longer than a loaded machine needs.
func (m *machine) await(ctx context.Context, what string, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
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
		case <-m.ended:
			return fmt.Errorf("%s: the container has ended", what)
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, err)
		}
	}
}

// enter runs a command in the container's namespaces, but not below its pid 1.
func (m *machine) enter(ctx context.Context, argv ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "nsenter", append([]string{"-t", strconv.Itoa(m.leader),
		"-m", "-u", "-i", "-n", "-p", "-C", "--"}, argv...)...)
}

// run runs a shell command as a unit of the container, as an administrator's would
// run, and returns what it prints.
func (m *machine) run(ctx context.Context, command string) (string, error) {
	cmd := m.enter(ctx, "systemd-run", "--quiet", "--wait", "--pipe", "--collect",
		"--setenv=DEBIAN_FRONTEND=noninteractive", "--setenv=LC_ALL=C", "/bin/sh", "-ec", command)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return string(out), fmt.Errorf("%s: %w\n%s%s", command, err, tail(out), tail(stderr.Bytes()))
	}
	return string(out), nil
}

// start starts a service of the container that runs a shell script.
func (m *machine) start(ctx context.Context, unit, script string) error {
	out, err := m.enter(ctx, "systemd-run", "--quiet", "--unit="+unit, "/bin/sh", "-ec", script).CombinedOutput()
	if err != nil {
		return fmt.Errorf("start %s: %w\n%s", unit, err, tail(out))
	}
	return nil
}

// stop ends the container and removes its layer.
func (m *machine) stop(ctx context.Context) error {
	if m.nspawn != nil && m.nspawn.Process != nil {
		if m.leader != 0 {
			_ = m.enter(ctx, "systemctl", "--no-block", "poweroff").Run()
		}
		select {
		case <-m.ended:
		case <-time.After(30 * time.Second):
			_ = m.nspawn.Process.Kill()
			<-m.ended
		}
	}
	if err := unix.Unmount(m.path(""), 0); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("unmount: %w", err)
	}
	return os.RemoveAll(m.dir)
}

func tail(b []byte) []byte { return b[max(0, len(b)-4000):] }
