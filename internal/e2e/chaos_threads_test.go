// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// threadsVar says to a process of roleThread how many threads to make, and how many of
// them are to be alive at a time.
const threadsVar = "E2E_THREADS"

// beThreads makes threads and ends them, a crowd at a time. One of the last crowd, which
// stays, starts a child.
func beThreads() error {
	var all, crowd int
	if _, err := fmt.Sscan(os.Getenv(threadsVar), &all, &crowd); err != nil {
		return err
	}
	debug.SetMaxThreads(crowd + 1000)
	for ; all > crowd; all -= crowd {
		gather(crowd)()
	}
	gather(crowd)
	cmd := exec.Command("sleep", "300")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		started <- cmd.Start()
		select {} // else the thread would end
	}()
	if err := <-started; err != nil {
		return err
	}
	fmt.Fprintln(os.NewFile(3, "voice"), "child", cmd.Process.Pid)
	return cmd.Wait()
}

// gather returns when so many threads live, with what ends them.
func gather(n int) (dismiss func()) {
	var here, gone sync.WaitGroup
	leave := make(chan struct{})
	here.Add(n)
	for range n {
		gone.Go(func() {
			runtime.LockOSThread() // and never unlock: the thread ends with the goroutine
			here.Done()
			<-leave
		})
	}
	here.Wait()
	return func() {
		close(leave)
		gone.Wait()
	}
}

// roomForThreads is how many threads may live here at a time without harm to others.
func roomForThreads(t *testing.T) int {
	t.Helper()
	room := 8000
	for _, limit := range []string{"pid_max", "threads-max"} {
		text, err := os.ReadFile("/proc/sys/kernel/" + limit)
		if err != nil {
			t.Fatal(err)
		}
		n, err := strconv.Atoi(strings.TrimSpace(string(text)))
		if err != nil {
			t.Fatal(err)
		}
		room = min(room, n/6)
	}
	return room
}

// TestChaosThreads has a process make many threads. Nothing of that leaves the kernel,
// the tree has one process, and what one of the threads has spawned is the process's.
func TestChaosThreads(t *testing.T) {
	const others = 100 // records of the test's own, at most
	all := either(10_000, 100_000)
	crowd := min(all/5, roomForThreads(t))
	d := startDaemon(t, ruleless)
	before := d.status()
	f := startCommand(t, []string{roleVar + "=" + roleThread, fmt.Sprintf("%s=%d %d", threadsVar, all, crowd)}, exec.Command("/proc/self/exe"))
	p := &pair{f, "of many threads", f.await("child", 1)[0]}
	pid := f.cmd.Process.Pid
	if n := threadsOf(t, pid); n < crowd {
		t.Errorf("%d threads, want %d", n, crowd)
	}
	tree, err := d.client.Tree(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range tree.Processes {
		if tgid := groupOf(int(one.PID)); tgid != 0 && tgid != int(one.PID) {
			t.Errorf("thread %d of %d is in the tree", one.PID, tgid)
		}
	}
	f.killMain()
	d.wantLeaks([]*pair{p}, 0)
	after := d.status()
	if n := records(after) - records(before); n > others {
		t.Errorf("%d records, want no more than %d", n, others)
	}
	if n := after.Living - before.Living; n > 3 {
		t.Errorf("%d processes more", n)
	}
	d.wantComplete()
	t.Logf("%d threads, at most %d of them at a time: %d records", all, crowd, records(after)-records(before))
}

func threadsOf(t *testing.T, pid int) int {
	t.Helper()
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// groupOf is the process of a thread, 0 where there is none.
func groupOf(tid int) (pid int) {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", tid))
	if _, rest, ok := strings.Cut(string(text), "\nTgid:"); ok {
		_, _ = fmt.Sscan(rest, &pid)
	}
	return pid
}
