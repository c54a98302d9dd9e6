// SPDX-License-Identifier: Apache-2.0

package enforce

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Every test that kills does so in a pid namespace of its own, which holds nothing
// but what the test has made and which the kernel empties at the test's end:
//
//	go test -> init (pid 1 of the namespace, reaps) -> the same test again, inside
//	  -> testers
//
// All of them are this binary; roleEnv says which part it plays.
const roleEnv = "ABOT_TEST_ENFORCE"

func init() {
	if os.Getenv(roleEnv) == "headless" {
		runtime.LockOSThread() // to the leading thread, where init runs
	}
}

func TestMain(m *testing.M) {
	switch role := os.Getenv(roleEnv); role {
	case "", "inside":
		os.Exit(m.Run())
	case "init":
		os.Exit(namespaceInit())
	default:
		if err := play(role, os.Args[1:]); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		os.Exit(0)
	}
}

const testTimeout = 4 * time.Minute

// requireRoot skips on a developer's machine; where CI runs, the proof is owed.
func requireRoot(tb testing.TB) {
	tb.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") != "" {
		tb.Fatal("this test needs root")
	}
	tb.Skip("needs root")
}

// inNamespace runs body, the whole of the top-level test tb, inside.
func inNamespace(tb testing.TB, body func(*world)) {
	tb.Helper()
	if os.Getenv(roleEnv) == "inside" {
		body(newWorld(tb))
		return
	}
	requireRoot(tb)
	runtime.LockOSThread() // Pdeathsig is about the thread
	defer runtime.UnlockOSThread()
	ctx, cancel := context.WithTimeout(context.Background(), testTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/proc/self/exe", "-test.v", "-test.count=1",
		"-test.run=^"+tb.Name()+"$", "-test.timeout="+testTimeout.String())
	// The race detector lets every program of ours linger for a second otherwise.
	cmd.Env = append(os.Environ(), roleEnv+"=init", "GORACE=atexit_sleep_ms=0")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:   syscall.CLONE_NEWPID,
		Unshareflags: syscall.CLONE_NEWNS, // makes the mounts private too
		Pdeathsig:    syscall.SIGKILL,
	}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+tb.Name()) {
		tb.Fatalf("inside: %v\n%s", err, out)
	}
	if testing.Verbose() {
		tb.Logf("inside:\n%s", out)
	}
}

// namespaceInit starts the same command inside and reaps whatever it inherits. With
// its return the kernel ends all that is left.
func namespaceInit() int {
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		fmt.Println("mount /proc:", err)
		return 1
	}
	os.Setenv(roleEnv, "inside")
	pid, err := syscall.ForkExec("/proc/self/exe", os.Args, &syscall.ProcAttr{
		Env: os.Environ(), Files: []uintptr{0, 1, 2}})
	if err != nil {
		fmt.Println("start:", err)
		return 1
	}
	for {
		var status syscall.WaitStatus
		switch dead, err := syscall.Wait4(-1, &status, 0, nil); {
		case err == syscall.EINTR:
		case err != nil:
			fmt.Println("wait:", err)
			return 1
		case dead == pid && status.Exited():
			return status.ExitStatus()
		case dead == pid:
			fmt.Println("ended by", status.Signal())
			return 1
		}
	}
}

// play is the program of a tester. All say "ready" (or what they have to say) on
// their standard output, and end with the namespace at the latest.
func play(role string, args []string) error {
	switch role {
	case "obey":
	case "ignore":
		ignore(unix.SIGTERM)
	case "tree": // N ROLE: N children of the role
		var n int
		if _, err := fmt.Sscan(args[0], &n); err != nil {
			return err
		}
		for range n {
			if _, _, err := startTester(args[1]); err != nil {
				return err
			}
		}
	case "respawn": // at SIGTERM leaves two behind, and goes
		terminated := notify(unix.SIGTERM)
		fmt.Println("ready")
		<-terminated
		return startSleepers(2)
	case "swarm": // ignores SIGTERM and forks on and on, within bounds
		ignore(unix.SIGTERM)
		fmt.Println("ready")
		return startSleepers(400)
	case "halt":
		fmt.Println("ready")
		unix.Kill(os.Getpid(), unix.SIGSTOP)
	case "headless": // ignores SIGTERM, and has ended its leading thread
		ignore(unix.SIGTERM)
		go func() {
			fmt.Println("ready")
			for {
				unix.Pause()
			}
		}()
		unix.RawSyscall(unix.SYS_EXIT, 0, 0, 0)
	case "negligent": // never reaps its child
		pid, err := syscall.ForkExec("/bin/sleep", []string{"sleep", "600"}, nil)
		if err != nil {
			return err
		}
		fmt.Println(pid)
	case "refused":
		return killAsNobody(args)
	case "frozen":
		return dieWhileFrozen(args)
	case "child":
		return killOwnParent()
	default:
		return fmt.Errorf("no such role: %s", role)
	}
	switch role {
	case "halt", "negligent":
	default:
		fmt.Println("ready")
	}
	for {
		unix.Pause()
	}
}

// startSleepers starts n processes that obey, each in a session of its own.
func startSleepers(n int) error {
	for range n {
		_, err := syscall.ForkExec("/bin/sleep", []string{"sleep", "600"},
			&syscall.ProcAttr{Sys: &syscall.SysProcAttr{Setsid: true}})
		if err != nil {
			return err
		}
	}
	return nil
}

// startTester starts a tester and returns it with the first line that it says.
func startTester(role string, args ...string) (cmd *exec.Cmd, line string, err error) {
	cmd = exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), roleEnv+"="+role)
	cmd.Stderr = os.Stderr
	line, err = startSaying(cmd)
	return cmd, line, err
}

// startSaying starts cmd and returns the first line that it says.
func startSaying(cmd *exec.Cmd) (line string, err error) {
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	line, err = bufio.NewReader(out).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	return strings.TrimSpace(line), nil
}
