// SPDX-License-Identifier: Apache-2.0

package sample

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/procfs"
)

// statLine is a line of stat(5) for the fields that matter here.
func statLine(pid int, comm, state string, ppid, flags, utime, stime, threads, start, rss int) string {
	return fmt.Sprintf("%d (%s) %s %d 1 1 0 -1 %d 0 0 0 0 %d %d 0 0 20 0 %d 0 %d 1000 %d 18446744073709551615 0 0 0 0 0 0 0 0 0\n",
		pid, comm, state, ppid, flags, utime, stime, threads, start, rss)
}

// masks are the lines that every status has.
const masks = "SigIgn:\t0000000000000000\nSigCgt:\t0000000000000000\n"

func TestProcfsTasks(t *testing.T) {
	root := t.TempDir()
	add := func(pid int, stat, status string) {
		dir := filepath.Join(root, fmt.Sprint(pid))
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		for name, text := range map[string]string{"stat": stat, "status": status} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	add(1, statLine(1, "init", "S", 0, 0, 10, 5, 1, 2, 3), "Uid:\t0\t0\t0\t0\nVmRSS:\t      40 kB\n"+masks)
	// A name may look like the rest of the line.
	add(7, statLine(7, "x) Z 1 (\ny", "R", 1, 0, 100, 50, 4, 200, 8), "Name:\tx\nUid:\t1000\t0\t0\t0\nVmSwap:\t     12 kB\n"+masks)
	add(8, statLine(8, "gone", "Z", 7, 0, 0, 0, 1, 300, 0), "Uid:\t0\t0\t0\t0\n"+masks)
	add(2, statLine(2, "kthreadd", "S", 0, 0x00200000, 0, 0, 1, 2, 0), "Uid:\t0\t0\t0\t0\n"+masks)
	if err := os.Mkdir(filepath.Join(root, "99"), 0o755); err != nil { // ended before it was read
		t.Fatal(err)
	}

	got := map[int32]event.Task{}
	if err := (Procfs{Root: root}).Tasks(func(task event.Task) { got[task.ID.PID] = task }); err != nil {
		t.Fatal(err)
	}
	if len(got) != 4 {
		t.Fatalf("%d tasks, want 4", len(got))
	}
	hostile := got[7]
	want := event.Task{ID: event.ID{PID: 7, Start: 2e9}, Parent: event.ID{PID: 1, Start: 2e7},
		Comm: event.MakeComm("x) Z 1 (\ny"), UID: 1000, State: 'R', Threads: 4,
		RSS: 8 * uint64(os.Getpagesize()), Swap: 12 << 10, CPU: 15e8}
	if hostile != want {
		t.Errorf("hostile name:\n got %+v\nwant %+v", hostile, want)
	}
	if got[1].RSS != 40<<10 {
		t.Errorf("VmRSS: %d bytes, want %d: status is more exact than stat", got[1].RSS, 40<<10)
	}
	if !got[8].Dead || got[7].Dead {
		t.Errorf("dead: 8 %v, 7 %v, want true, false", got[8].Dead, got[7].Dead)
	}
	if !got[2].Kthread || got[1].Kthread {
		t.Errorf("kernel thread: 2 %v, 1 %v, want true, false", got[2].Kthread, got[1].Kthread)
	}
}

func TestProcfsMissing(t *testing.T) {
	if err := (Procfs{Root: "/does/not/exist"}).Tasks(func(event.Task) {}); err == nil {
		t.Error("no error for a procfs that is not there")
	}
}

// A child whose memory is known must show it, equal to /proc's own figure.
func TestRSSAgainstProc(t *testing.T) {
	child := exec.Command(os.Args[0], "-test.run=^TestHelperHoldsMemory$")
	child.Env = append(os.Environ(), "ABOT_TEST_HOLD=64")
	in, err := child.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	defer child.Wait()
	defer in.Close()
	var ready string
	if _, err := fmt.Fscanln(out, &ready); err != nil || ready != "ready" {
		t.Fatalf("child said %q, %v", ready, err)
	}
	pass, err := NewSampler(Procfs{}, nil).Pass()
	if err != nil {
		t.Fatal(err)
	}
	var got Usage
	for u := range pass.All() {
		if int(u.ID.PID) == child.Process.Pid {
			got = *u
		}
	}
	status, err := procfs.FS{}.Status(int32(child.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	if got.RSS < 64<<20 {
		t.Errorf("RSS = %d, want at least the 64 MiB that the child touched", got.RSS)
	}
	// It sleeps; the Go runtime may still give back or take a little.
	if diff := int64(got.RSS) - int64(status.RSS); diff < -4<<20 || diff > 4<<20 {
		t.Errorf("RSS = %d, /proc says %d", got.RSS, status.RSS)
	}
	if got.Parent.PID != int32(os.Getpid()) || got.Parent.Start == 0 {
		t.Errorf("parent = %v, want this process %d with its start", got.Parent, os.Getpid())
	}
}

// TestHelperHoldsMemory is the child of TestRSSAgainstProc.
func TestHelperHoldsMemory(t *testing.T) {
	var mib int
	if _, err := fmt.Sscan(os.Getenv("ABOT_TEST_HOLD"), &mib); err != nil {
		return
	}
	held := make([]byte, mib<<20)
	for i := 0; i < len(held); i += 4096 {
		held[i] = 1
	}
	fmt.Println("ready")
	// Until the parent closes the pipe.
	_, _ = os.Stdin.Read(held[:1])
}
