// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
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

// A container runs the layer under this machine's own kernel, by systemd-nspawn.
type container struct {
	*debian.Layer
	nspawn *exec.Cmd
	leader int // its pid 1, as this machine numbers it
	gone   chan struct{}
}

func (c *container) boot(ctx context.Context) error {
	console, err := os.Create(filepath.Join(c.Dir, "console"))
	if err != nil {
		return err
	}
	defer console.Close()
	// No --register: there is no machined to ask on a test machine. The filter of
	// nspawn refuses bpf(2) by default.
	c.nspawn = exec.Command("systemd-nspawn", "--boot", "--keep-unit", "--register=no",
		"--capability=all", "--system-call-filter=bpf perf_event_open", "--bind-ro=/sys/kernel/btf",
		"--private-network", "--link-journal=no", "--console=pipe",
		"--machine="+filepath.Base(c.Dir), "--directory="+c.Path(""))
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
	return await(ctx, c, "the container's pid 1", c.findLeader)
}

func (c *container) ended() <-chan struct{}  { return c.gone }
func (c *container) patience() time.Duration { return 2 * time.Minute }

// findLeader looks for nspawn's child that is pid 1 of a namespace.
func (c *container) findLeader() error {
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
	return errNotYet
}

// enter runs a command in the container's namespaces, but not below its pid 1.
func (c *container) enter(ctx context.Context, stdin string, argv ...string) (stdout, stderr []byte, err error) {
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"-t", strconv.Itoa(c.leader),
		"-m", "-u", "-i", "-n", "-p", "-C", "--"}, argv...)...)
	var errs bytes.Buffer
	cmd.Stdin, cmd.Stderr = strings.NewReader(stdin), &errs
	stdout, err = cmd.Output()
	return stdout, errs.Bytes(), err
}

func (c *container) stop(ctx context.Context) {
	if c.nspawn == nil || c.nspawn.Process == nil {
		return
	}
	if c.leader != 0 {
		_, _, _ = c.enter(ctx, "", "systemctl", "--no-block", "poweroff")
	}
	select {
	case <-c.gone:
	case <-time.After(30 * time.Second):
		_ = c.nspawn.Process.Kill()
		<-c.gone
	}
}
