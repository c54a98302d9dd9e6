// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/api"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// An arm is one way to trace, or not to, under which the storms are run.
type arm struct {
	name  string
	start func(*bench) (*tracer, error)
	asked bool // it is asked for its result while it runs
}

// A tracer is a running tracer of processes.
type tracer struct {
	procs []*exec.Cmd // whose CPU time counts; the first is the tracer itself
	// result returns how many records it has seen, and how many it has lost of those
	// that it should have.
	result func(should int) (seen, lost int, err error)
	stop   func()
}

const patience = 30 * time.Second

var errNotReady = errors.New("not ready in time")

// await polls until ready says so.
func await(ready func() bool) error {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(2 * time.Millisecond) {
		if ready() {
			return nil
		}
	}
	return errNotReady
}

func bare(*bench) (*tracer, error) {
	return &tracer{stop: func() {}}, nil
}

// daemon starts ours and waits until it says that it is ready.
func daemon(b *bench) (*tracer, error) {
	cmd, _, err := b.startDaemon()
	if err != nil {
		return nil, err
	}
	client := api.NewClient(b.socket)
	before, err := client.Status(context.Background())
	if err != nil {
		return nil, err
	}
	return &tracer{
		procs: []*exec.Cmd{cmd},
		result: func(int) (seen, lost int, err error) {
			now, err := client.Status(context.Background())
			if err != nil {
				return 0, 0, err
			}
			for _, kind := range []string{wire.TypeFork, wire.TypeExec, wire.TypeExit} {
				seen += int(now.Events[kind] - before.Events[kind])
			}
			return seen, int(now.Refused - before.Refused), nil
		},
		stop: func() { end(cmd) },
	}, nil
}

// following is ours with one reader of the whole stream, who prints it.
func following(b *bench) (*tracer, error) {
	t, err := daemon(b)
	if err != nil {
		return nil, err
	}
	out, err := os.Create(filepath.Join(b.dir, "events"))
	if err != nil {
		t.stop()
		return nil, err
	}
	defer out.Close()
	cmd := exec.Command(b.binary, "events", "--follow", "--json", "--socket", b.socket)
	cmd.Stdout = out
	if err := cmd.Start(); err != nil {
		t.stop()
		return nil, err
	}
	stop := t.stop
	t.procs = append(t.procs, cmd)
	t.stop = func() { end(cmd); stop() }
	return t, await(func() bool { return size(out.Name()) > 0 })
}

// startDaemon starts the daemon and returns how long it took to be ready.
func (b *bench) startDaemon() (*exec.Cmd, time.Duration, error) {
	notify := filepath.Join(b.dir, "notify")
	_ = os.Remove(notify)
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: notify, Net: "unixgram"})
	if err != nil {
		return nil, 0, err
	}
	defer conn.Close()
	log, err := os.Create(filepath.Join(b.dir, "daemon.log"))
	if err != nil {
		return nil, 0, err
	}
	defer log.Close()
	// Nothing of the host's: neither its configuration, nor its state, nor its programs.
	// The priority is the unit's.
	argv := append([]string{"nice", "-n", "-20"}, b.binary, "daemon", "--socket", b.socket, "--config", b.config,
		"--state", filepath.Join(b.dir, "state"), "--pins", filepath.Join(b.dir, "pins"))
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "NOTIFY_SOCKET="+notify)
	cmd.Stderr = log
	began := time.Now()
	if err := cmd.Start(); err != nil {
		return nil, 0, err
	}
	_ = conn.SetReadDeadline(began.Add(patience))
	buf := make([]byte, 4096)
	for {
		n, err := conn.Read(buf)
		if err != nil {
			end(cmd)
			text, _ := os.ReadFile(log.Name())
			return nil, 0, fmt.Errorf("daemon: %w: %s", errNotReady, text)
		}
		if bytes.Contains(buf[:n], []byte("READY=1")) {
			return cmd, time.Since(began), nil
		}
	}
}

func forkstat(b *bench) (*tracer, error) {
	return b.startPeer("forkstat.out", 2, func(out string) bool {
		// Its socket is there when it has subscribed, its first line much later.
		fds, _ := os.ReadDir(filepath.Join("/proc", out, "fd"))
		for _, fd := range fds {
			if target, _ := os.Readlink(filepath.Join("/proc", out, "fd", fd.Name())); strings.HasPrefix(target, "socket:") {
				return true
			}
		}
		return false
	}, "forkstat", "-e", "fork,exec,exit")
}

// oneLiner prints what ours keeps, a line each.
const oneLiner = `BEGIN { printf("ready\n"); }
tracepoint:sched:sched_process_fork { printf("fork %d %d\n", args->parent_pid, args->child_pid); }
tracepoint:sched:sched_process_exec { printf("exec %d %s\n", pid, str(args->filename)); }
tracepoint:sched:sched_process_exit { printf("exit %d\n", pid); }`

func bpftrace(b *bench) (*tracer, error) {
	out := filepath.Join(b.dir, "bpftrace.out")
	return b.startPeer("bpftrace.out", 0, func(string) bool {
		text, _ := os.ReadFile(out)
		return bytes.Contains(text, []byte("ready"))
	}, withTracefs("bpftrace", "-B", "line", "-e", oneLiner)...)
}

// withTracefs returns a command in a mount namespace of its own that has tracefs, which
// bpftrace needs and not every host mounts.
func withTracefs(argv ...string) []string {
	return append([]string{"unshare", "--mount", "sh", "-c",
		`mount -t debugfs debugfs /sys/kernel/debug; exec "$@"`, "sh"}, argv...)
}

// startPeer starts another tracer with its output in a file; lines of a file beyond
// head are the records that it saw.
func (b *bench) startPeer(file string, head int, ready func(pid string) bool, argv ...string) (*tracer, error) {
	path := filepath.Join(b.dir, file)
	out, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	t := &tracer{procs: []*exec.Cmd{cmd}, stop: func() { end(cmd) }}
	if err := await(func() bool { return ready(strconv.Itoa(cmd.Process.Pid)) }); err != nil {
		end(cmd)
		text, _ := os.ReadFile(path)
		return nil, fmt.Errorf("%s: %w: %.200s", argv[0], err, text)
	}
	t.result = func(should int) (int, int, error) { return countLines(path, head, should) }
	return t, nil
}

// countLines counts what a tracer's output shows and what is missing in it. It is
// complete only when the tracer has ended. bpftrace says what it has lost; forkstat does
// not notice.
func countLines(path string, head, should int) (seen, lost int, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, 0, err
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 2 && fields[0] == "Lost" {
			n, _ := strconv.Atoi(fields[1])
			lost += n
		}
	}
	seen = bytes.Count(text, []byte("\n")) - head
	return seen, max(lost, should-seen), nil
}

func size(path string) int64 {
	st, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return st.Size()
}

// end asks a process of ours to leave, and waits until it has.
func end(cmd *exec.Cmd) {
	_ = cmd.Process.Signal(os.Interrupt)
	dead := make(chan struct{})
	go func() { _ = cmd.Wait(); close(dead) }()
	select {
	case <-dead:
	case <-time.After(5 * time.Second):
		_ = cmd.Process.Kill()
		<-dead
	}
}

// cpu returns the CPU time that the tracer's processes have used.
func (t *tracer) cpu() time.Duration {
	total := time.Duration(0)
	for _, cmd := range t.procs {
		total += processCPU(cmd.Process.Pid)
	}
	return total
}

// processCPU returns the CPU time of all threads of a process, from its CPU clock:
// the ticks of /proc are too coarse.
func processCPU(pid int) time.Duration {
	const cpuclockSched = 2 // include/linux/posix-timers.h
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|cpuclockSched), &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}

// rss returns the anonymous memory of a process in bytes.
func rss(pid int) int64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for _, line := range strings.Split(string(text), "\n") {
		if rest, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			kib, _ := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kib << 10
		}
	}
	return 0
}
