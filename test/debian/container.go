// SPDX-License-Identifier: Apache-2.0

package debian

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A Container runs a layer under this machine's own kernel, by systemd-nspawn.
type Container struct {
	*Layer
	Options []string // of systemd-nspawn, beside those that every container gets
	Init    []string // what runs as its pid 1; empty means systemd

	nspawn *exec.Cmd
	leader int // its pid 1, as this machine numbers it
	gone   chan struct{}
}

// patience is far longer than a container needs to get its pid 1, on a loaded machine.
const patience = time.Minute

// Start starts the container and returns when it has its pid 1. End it by Stop.
func (c *Container) Start(ctx context.Context) error {
	console, err := os.Create(filepath.Join(c.Dir, "console"))
	if err != nil {
		return err
	}
	defer console.Close()
	// No --register: there is no machined to ask on a test machine. The filter of
	// nspawn refuses by default what tracers need: bpf(2), pidfd_getfd(2).
	args := append([]string{"--keep-unit", "--register=no",
		"--capability=all", "--system-call-filter=bpf perf_event_open pidfd_getfd", "--bind-ro=/sys/kernel/btf",
		"--private-network", "--link-journal=no", "--console=pipe",
		"--machine=" + filepath.Base(c.Dir), "--directory=" + c.Path("")}, c.Options...)
	if len(c.Init) == 0 {
		args = append(args, "--boot")
	} else {
		args = append(append(args, "--"), c.Init...)
	}
	c.nspawn = exec.Command("systemd-nspawn", args...)
	c.nspawn.Env = append(os.Environ(), "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1")
	c.nspawn.Stdout, c.nspawn.Stderr = console, console
	c.nspawn.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: unix.SIGTERM}
	if err := c.nspawn.Start(); err != nil {
		return err
	}
	c.gone = make(chan struct{})
	go func() {
		defer close(c.gone)
		_ = c.nspawn.Wait()
	}()
	return c.awaitLeader(ctx)
}

func (c *Container) awaitLeader(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := c.findLeader()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-c.gone:
			console, _ := os.ReadFile(filepath.Join(c.Dir, "console"))
			return fmt.Errorf("the container has ended\n%s", console[max(0, len(console)-4000):])
		case <-ctx.Done():
			return fmt.Errorf("the container's pid 1: %w", err)
		}
	}
}

// Done is closed when the container has ended, whyever.
func (c *Container) Done() <-chan struct{} { return c.gone }

// Root is the root of the container's file systems as this machine sees it.
func (c *Container) Root() string { return fmt.Sprintf("/proc/%d/root", c.leader) }

var errNoLeader = errors.New("not there yet")

// findLeader looks for nspawn's child that is pid 1 of a namespace.
func (c *Container) findLeader() error {
	pid := c.nspawn.Process.Pid
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
				c.leader, err = strconv.Atoi(child)
				return err
			}
		}
	}
	return errNoLeader
}

// Command is a command in the container's namespaces, but not below its pid 1. The
// context kills it.
func (c *Container) Command(ctx context.Context, argv ...string) *exec.Cmd {
	return exec.CommandContext(ctx, "nsenter", append([]string{"-t", strconv.Itoa(c.leader),
		"-m", "-u", "-i", "-n", "-p", "-C", "--"}, argv...)...)
}

// Enter runs a Command, and waits for it.
func (c *Container) Enter(ctx context.Context, stdin string, argv ...string) (stdout, stderr []byte, err error) {
	cmd := c.Command(ctx, argv...)
	var errs bytes.Buffer
	cmd.Stdin, cmd.Stderr = strings.NewReader(stdin), &errs
	stdout, err = cmd.Output()
	return stdout, errs.Bytes(), err
}

// Stop ends the container, in order where it can.
func (c *Container) Stop(ctx context.Context) {
	if c.nspawn == nil || c.nspawn.Process == nil {
		return
	}
	if c.leader != 0 && len(c.Init) == 0 {
		_, _, _ = c.Enter(ctx, "", "systemctl", "--no-block", "poweroff")
	} else {
		_ = c.nspawn.Process.Signal(unix.SIGTERM)
	}
	select {
	case <-c.gone:
	case <-time.After(30 * time.Second):
		_ = c.nspawn.Process.Kill()
		<-c.gone
	}
}
