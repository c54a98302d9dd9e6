// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/proctest"
)

// A process of a family, held by its pidfd.
type process struct {
	t   testing.TB
	pid int
	fd  int
}

func hold(t testing.TB, pid int) *process {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatalf("pidfd of %d: %v", pid, err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return &process{t: t, pid: pid, fd: fd}
}

// dead waits at most so long for its death, and reports whether it came.
func (p *process) dead(wait time.Duration) bool {
	for deadline := time.Now().Add(wait); ; {
		left := max(0, time.Until(deadline))
		fds := []unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, int((left+time.Millisecond-1)/time.Millisecond))
		if err != nil && err != unix.EINTR {
			p.t.Fatal(err)
		}
		if n > 0 || left == 0 {
			return n > 0
		}
	}
}

// end kills it, for the end of a test.
func (p *process) end() {
	_ = unix.PidfdSendSignal(p.fd, unix.SIGKILL, nil, 0)
	p.mustDie()
}

func (p *process) mustDie() {
	p.t.Helper()
	if !p.dead(patience) {
		p.t.Fatalf("%d lives: %s", p.pid, about(p.pid))
	}
}

func (p *process) mustLive() {
	p.t.Helper()
	if p.dead(0) {
		p.t.Errorf("%d is dead", p.pid)
	}
}

func about(pid int) string {
	line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	stat, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return fmt.Sprintf("%q %s", bytes.ReplaceAll(line, []byte{0}, []byte{' '}), stat)
}

// A family is a running testdata/family.sh, or another command that speaks as it does.
type family struct {
	t    testing.TB
	cmd  *exec.Cmd
	mu   sync.Mutex
	said map[string][]*process // by role
	in   *os.File              // what it reads
	life chan struct{}         // closed when all of it is dead
}

func startFamily(t testing.TB, args ...string) *family {
	t.Helper()
	script, err := filepath.Abs("testdata/family.sh")
	if err != nil {
		t.Fatal(err)
	}
	return startCommand(t, nil, exec.Command("sh", append([]string{script}, args...)...))
}

// startCommand starts cmd as a family. Its stdio are a pipe's, as an agent's are. What
// is left of it ends with the test.
func startCommand(t testing.TB, env []string, cmd *exec.Cmd) *family {
	t.Helper()
	f := &family{t: t, cmd: cmd, said: make(map[string][]*process), life: make(chan struct{})}
	voice, speak, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	stdin, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	f.in = in
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, in, in
	cmd.ExtraFiles = []*os.File{speak}
	cmd.Env = append(os.Environ(), env...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	speak.Close()
	go f.listen(voice)
	t.Cleanup(func() {
		f.finish()
		voice.Close()
		stdin.Close()
		in.Close()
	})
	return f
}

// listen takes what the processes say until all are dead.
func (f *family) listen(voice *os.File) {
	defer close(f.life)
	for scan := bufio.NewScanner(voice); scan.Scan(); {
		role, number, _ := strings.Cut(scan.Text(), " ")
		pid, err := strconv.Atoi(number)
		if err != nil {
			continue
		}
		f.mu.Lock()
		fd, err := unix.PidfdOpen(pid, 0)
		if err == nil {
			f.said[role] = append(f.said[role], &process{f.t, pid, fd})
		}
		f.mu.Unlock()
	}
}

// await waits until so many processes have said that they have the role.
func (f *family) await(role string, n int) []*process {
	f.t.Helper()
	var list []*process
	proctest.Eventually(f.t, fmt.Sprintf("%d of role %s", n, role), func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		list = f.said[role]
		return len(list) >= n
	})
	return list
}

// killMain ends the first process of the family by SIGKILL.
func (f *family) killMain() {
	f.t.Helper()
	if err := f.cmd.Process.Kill(); err != nil {
		f.t.Fatal(err)
	}
	_ = f.cmd.Wait()
}

// leave has the first process leave by itself, with a line that it waits for.
func (f *family) leave() {
	f.t.Helper()
	fmt.Fprintln(f.in)
	if err := f.cmd.Wait(); err != nil {
		f.t.Error(err)
	}
}

// finish ends what is left.
func (f *family) finish() {
	_ = f.cmd.Process.Kill()
	_ = f.cmd.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, list := range f.said {
		for _, p := range list {
			_ = unix.PidfdSendSignal(p.fd, unix.SIGKILL, nil, 0)
			unix.Close(p.fd)
		}
	}
	f.said = nil
}

// empty waits until nobody of the family lives.
func (f *family) empty() {
	f.t.Helper()
	select {
	case <-f.life:
	case <-time.After(patience):
		f.t.Fatalf("not empty after %v", patience)
	}
}

// asUser makes cmd run as nobody.
func asNobody(cmd *exec.Cmd) *exec.Cmd {
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	return cmd
}
