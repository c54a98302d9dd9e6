// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// The test program runs three times, each the parent of the next: outside, where it
// builds the program under test; as init of a new pid namespace, where it reaps; and
// inside, where the tests are.
const (
	roleVar   = "E2E_ROLE"
	binaryVar = "E2E_BINARY"

	roleInit   = "init"
	roleInside = "inside"
	roleThread = "threads" // of a process that tests start: see beThreads
)

func TestMain(m *testing.M) {
	var code int
	var err error
	switch os.Getenv(roleVar) {
	case roleInside:
		os.Exit(m.Run())
	case roleInit:
		code, err = beInit()
	case roleThread:
		err = beThreads()
	default:
		code, err = outside()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		code = 1
	}
	os.Exit(code)
}

// outside builds the program and starts the next of us in new namespaces.
func outside() (int, error) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			return 0, errors.New("CI must run these tests, as root")
		}
		fmt.Println("e2e: skipped: needs root")
		return 0, nil
	}
	dir, err := os.MkdirTemp("", "abot-trace-e2e-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	// Other users are to run the program, too.
	if err := os.Chmod(dir, 0o755); err != nil {
		return 0, err
	}
	binary := filepath.Join(dir, "abot-trace")
	args := []string{"build", "-o", binary}
	if race {
		args = append(args, "-race")
	}
	if out, err := exec.Command("go", append(args, "../../cmd/abot-trace")...).CombinedOutput(); err != nil {
		return 0, fmt.Errorf("build: %w\n%s", err, out)
	}
	// Pdeathsig is bound to the thread that starts the child.
	runtime.LockOSThread()
	cmd := again(roleInit)
	cmd.Env = append(cmd.Env, binaryVar+"="+binary)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS, Pdeathsig: unix.SIGKILL}
	return codeOf(cmd.Run())
}

// again is this program once more, in another role.
func again(role string) *exec.Cmd {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), roleVar+"="+role)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	return cmd
}

func codeOf(err error) (int, error) {
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		return exit.ExitCode(), nil
	}
	return 0, err
}

// beInit mounts what belongs to the new namespace, starts the tests, and reaps
// whoever is left to it. Its end is everybody's.
func beInit() (int, error) {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return 0, fmt.Errorf("mounts of our own: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return 0, fmt.Errorf("mount /proc: %w", err)
	}
	// A daemon or a service manager of the host's is not ours to ask.
	if err := unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755"); err != nil {
		return 0, fmt.Errorf("mount /run: %w", err)
	}
	cmd := again(roleInside)
	// Whoever adopts orphans is known by a session that is not theirs.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	for {
		var status unix.WaitStatus
		pid, err := unix.Wait4(-1, &status, 0, nil)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return 0, fmt.Errorf("wait: %w", err)
		case pid == cmd.Process.Pid && status.Signaled():
			return 0, fmt.Errorf("the tests died of %s", status.Signal())
		case pid == cmd.Process.Pid:
			return status.ExitStatus(), nil
		}
	}
}
