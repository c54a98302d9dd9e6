// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/test/debian"
	"github.com/abot-trace/abot-trace/test/qemu"
)

// A vm runs a copy of the layer under a kernel of Debian's, emulated. Commands get in by
// the agent at its second serial port.
type vm struct {
	*debian.Layer
	kernel *debian.Kernel
	qemu   *exec.Cmd
	gone   chan struct{}

	mu      sync.Mutex // one command at a time
	agent   net.Conn
	replies *json.Decoder
}

const agentUnit = `[Unit]
Description=Runs the test's commands
[Service]
ExecStart=/root/agent
Environment=PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
`

func (v *vm) boot(ctx context.Context) error {
	disk, err := v.makeDisk(ctx)
	if err != nil {
		return err
	}
	console, socket := filepath.Join(v.Dir, "console"), filepath.Join(v.Dir, "agent")
	// Stopped by stop, not by the context: what is to be seen of a failure comes first.
	v.qemu = qemu.Machine{Kernel: v.kernel, MiB: 1536, Console: console, Port: qemu.Socket(socket),
		// Without udev nobody says that the console is there: no getty waits for it.
		Append: "root=/dev/nvme0n1 rootfstype=ext4 rw systemd.getty_auto=0 systemd.firstboot=0",
		Args: []string{"-drive", "if=none,id=root,format=raw,cache=unsafe,file=" + disk,
			"-device", "nvme,drive=root,serial=root"},
	}.Command(context.WithoutCancel(ctx))
	v.qemu.Stderr = os.Stderr
	v.qemu.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: unix.SIGKILL}
	if err := v.qemu.Start(); err != nil {
		return err
	}
	v.gone = make(chan struct{})
	go func() {
		defer close(v.gone)
		_ = v.qemu.Wait()
	}()
	err = await(ctx, v, "the machine", func() (err error) {
		v.agent, err = net.Dial("unix", socket)
		return err
	})
	if err != nil {
		return err
	}
	v.replies = json.NewDecoder(v.agent)
	ctx, cancel := context.WithTimeout(ctx, v.patience())
	defer cancel()
	if _, _, err := v.reply(ctx); err != nil {
		said, _ := os.ReadFile(console)
		return fmt.Errorf("the machine does not come up: %w\n%s", err, tail(said))
	}
	return nil
}

// makeDisk copies the layer, with the agent, into a file system of its own.
func (v *vm) makeDisk(ctx context.Context) (string, error) {
	cmd := exec.CommandContext(ctx, "go", "build", "-ldflags=-s -w", "-o", v.Path("/root/agent"), "./test/service/agent")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the agent: %w\n%s", err, out)
	}
	const unit = "/etc/systemd/system/test-agent.service"
	wants := v.Path("/etc/systemd/system/multi-user.target.wants/test-agent.service")
	if err := errors.Join(v.Write(unit, agentUnit), os.MkdirAll(filepath.Dir(wants), 0o755), os.Symlink(unit, wants)); err != nil {
		return "", err
	}
	disk := filepath.Join(v.Dir, "disk")
	out, err := exec.CommandContext(ctx, "mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-d", v.Path(""), disk, "2G").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("mke2fs: %w\n%s", err, out)
	}
	return disk, nil
}

func (v *vm) ended() <-chan struct{}  { return v.gone }
func (v *vm) patience() time.Duration { return 5 * time.Minute }

func (v *vm) enter(ctx context.Context, stdin string, argv ...string) (stdout, stderr []byte, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	request := struct {
		Argv  []string
		Stdin []byte
	}{argv, []byte(stdin)}
	if err := json.NewEncoder(v.agent).Encode(request); err != nil {
		return nil, nil, fmt.Errorf("the machine's agent: %w", err)
	}
	return v.reply(ctx)
}

// reply waits for the answer to the last request. When ctx ends first the agent cannot
// be used any more: its answer would be taken for that to the next request.
func (v *vm) reply(ctx context.Context) (stdout, stderr []byte, err error) {
	defer context.AfterFunc(ctx, func() { _ = v.agent.Close() })()
	var r struct {
		Stdout, Stderr []byte
		Error          string
	}
	if err := v.replies.Decode(&r); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("the machine's agent: %w", err), context.Cause(ctx))
	}
	if r.Error != "" {
		err = errors.New(r.Error)
	}
	return r.Stdout, r.Stderr, err
}

// stop pulls the plug: nothing of the machine is kept.
func (v *vm) stop(context.Context) {
	if v.qemu == nil || v.qemu.Process == nil {
		return
	}
	_ = v.qemu.Process.Kill()
	<-v.gone
}
