// SPDX-License-Identifier: Apache-2.0

// Command guest is pid 1 of a test guest: it mounts what a test expects, runs the
// test binaries and doctor, writes what they print as lines of JSON to the second
// serial port, and powers off.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/test/qemu"
)

// A line of the report: what a program printed, or its end.
type line struct {
	Program string `json:"program"`
	Text    string `json:"text,omitempty"`
	Ended   bool   `json:"ended,omitempty"`
	Error   string `json:"error,omitempty"`
}

type report struct{ w *json.Encoder }

func (r report) send(l line) {
	if err := r.w.Encode(l); err != nil {
		fmt.Println("guest: report:", err)
	}
}

// needsMore are tests, and rows of them, that need Python, Perl or GNU env, which the guest
// has not.
const needsMore = "Python|Perl|/GNU"

func main() {
	// By another name it is "true", which busybox is by that name only.
	if os.Getpid() != 1 {
		return
	}
	defer powerOff()
	if err := prepare(); err != nil {
		fmt.Println("guest: prepare:", err)
		return
	}
	port, err := qemu.OpenPort()
	if err != nil {
		fmt.Println("guest: report:", err)
		return
	}
	r := report{json.NewEncoder(port)}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err == nil {
		r.send(line{Program: "uname", Text: unix.ByteSliceToString(uts.Release[:]), Ended: true})
	}
	runProgram(r, "doctor", "/", "/bin/abot-trace", "doctor", "--json")
	tests, err := filepath.Glob("/tests/*.test")
	if err != nil {
		fmt.Println("guest:", err)
	}
	for _, path := range tests {
		name := strings.ReplaceAll(strings.TrimSuffix(filepath.Base(path), ".test"), "@", "/")
		runProgram(r, name, "/src/"+name, path, "-test.v", "-test.timeout=20m", "-test.short", "-test.skip="+needsMore)
	}
	r.send(line{Program: "guest", Ended: true})
	// What is still in the port's buffer would die with the machine.
	_ = qemu.Drain(port)
}

// prepare mounts the usual file systems and brings up the loopback.
func prepare() error {
	for _, m := range []struct{ fs, at string }{
		{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"tmpfs", "/tmp"}, {"tmpfs", "/run"},
		{"bpf", "/sys/fs/bpf"}, {"tracefs", "/sys/kernel/tracing"}, {"securityfs", "/sys/kernel/security"},
		{"cgroup2", "/sys/fs/cgroup"}, {"devpts", "/dev/pts"},
	} {
		if err := os.MkdirAll(m.at, 0o755); err != nil && !errors.Is(err, os.ErrPermission) {
			return err
		}
		if err := unix.Mount(m.fs, m.at, m.fs, 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			fmt.Printf("guest: mount %s: %v\n", m.at, err)
		}
	}
	for _, kv := range []string{"PATH=/bin", "HOME=/root", "CI=true", "ABOT_TRACE_VM=1"} {
		k, v, _ := strings.Cut(kv, "=")
		if err := os.Setenv(k, v); err != nil {
			return err
		}
	}
	return loopbackUp()
}

func loopbackUp() error {
	lo, err := net.InterfaceByName("lo")
	if err != nil || lo.Flags&net.FlagUp != 0 {
		return err
	}
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	req, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	req.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	return unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, req)
}

// runProgram runs one program to its end and reports each line that it prints.
func runProgram(r report, name, dir string, argv ...string) {
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	out, in, err := os.Pipe()
	if err != nil {
		r.send(line{Program: name, Ended: true, Error: err.Error()})
		return
	}
	cmd.Stdout, cmd.Stderr = in, in
	err = cmd.Start()
	in.Close()
	if err == nil {
		copied := make(chan struct{})
		go func() {
			defer close(copied)
			copyLines(r, name, out)
		}()
		err = wait(cmd.Process.Pid)
		// A grandchild may still hold the pipe; what the program itself wrote is there.
		select {
		case <-copied:
		case <-time.After(5 * time.Second):
			out.Close()
			<-copied
		}
	}
	l := line{Program: name, Ended: true}
	if err != nil {
		l.Error = err.Error()
	}
	r.send(l)
}

func copyLines(r report, name string, out io.Reader) {
	for s := bufio.NewScanner(out); s.Scan(); {
		r.send(line{Program: name, Text: s.Text()})
	}
}

// wait reaps whatever ends, as pid 1 must, until pid does.
func wait(pid int) error {
	for {
		var status unix.WaitStatus
		got, err := unix.Wait4(-1, &status, 0, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("wait: %w", err)
		}
		if got != pid {
			continue
		}
		if status.Signaled() {
			return fmt.Errorf("killed by %v", status.Signal())
		}
		if status.ExitStatus() != 0 {
			return fmt.Errorf("exit %d", status.ExitStatus())
		}
		return nil
	}
}

func powerOff() {
	unix.Sync()
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF); err != nil {
		fmt.Println("guest: power off:", err)
	}
}
