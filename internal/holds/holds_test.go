// SPDX-License-Identifier: Apache-2.0

package holds

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/procfs"
	"github.com/abot-trace/abot-trace/internal/proctest"
)

func identity(t *testing.T, pid int) event.ID {
	t.Helper()
	stat, err := procfs.FS{}.Stat(int32(pid))
	if err != nil {
		t.Fatal(err)
	}
	return event.ID{PID: int32(pid), Start: stat.StartNS()}
}

// held is what this process holds now.
func held(t *testing.T) Held {
	t.Helper()
	h, err := new(Reader).Read(t.Context(), identity(t, os.Getpid()), uint32(os.Getuid()))
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// localDir is a directory of a file system that asks nobody else.
func localDir(t *testing.T) string {
	t.Helper()
	proctest.NeedRoot(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(dir, unix.MNT_DETACH) })
	return dir
}

// TestPorts wants those sockets told that can be reached, in any network namespace, and no
// others.
func TestPorts(t *testing.T) {
	proctest.NeedRoot(t)
	before := held(t)
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	port := listener.Addr().(*net.TCPAddr).Port
	client, err := net.Dial("tcp4", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	bound, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer bound.Close()
	connected, err := net.Dial("udp4", bound.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer connected.Close()
	pipe, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer pipe.Close()

	var got []string
	for _, p := range held(t).Ports {
		if !slices.Contains(before.Ports, p) {
			got = append(got, p.Proto+" "+p.Addr.String())
		}
	}
	slices.Sort(got)
	want := []string{"tcp " + listener.Addr().String(), "udp " + bound.LocalAddr().String()}
	if !slices.Equal(got, want) {
		t.Errorf("port %d: got %q, want %q", port, got, want)
	}
}

// TestDeletedFiles wants the space of files without a name counted once, and no other's.
func TestDeletedFiles(t *testing.T) {
	dir := localDir(t)
	before := held(t).DeletedBytes
	fill := func(name string) *os.File {
		f, err := os.Create(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		if _, err := f.Write(make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
		return f
	}
	fill("kept")
	fill("x (deleted)") // which is its name
	gone := fill("gone")
	if err := os.Remove(gone.Name()); err != nil {
		t.Fatal(err)
	}
	linked := fill("linked")
	if err := os.Link(linked.Name(), filepath.Join(dir, "other")); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(linked.Name()); err != nil { // another name is left
		t.Fatal(err)
	}
	again, err := unix.Dup(int(gone.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(again)
	if got := held(t).DeletedBytes - before; got != 1<<20 {
		t.Errorf("got %d bytes, want %d", got, 1<<20)
	}
}

// TestLocks wants locks told with their file, and nobody who waits for one.
func TestLocks(t *testing.T) {
	dir := localDir(t)
	open := func(name string) *os.File {
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		return f
	}
	flock, posix := open("flock"), open("posix")
	open("free")
	if err := unix.Flock(int(flock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if err := unix.FcntlFlock(posix.Fd(), unix.F_SETLK, &unix.Flock_t{Type: unix.F_RDLCK}); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, l := range held(t).Locks {
		if strings.HasPrefix(l.Path, dir) {
			got = append(got, l.Type+" "+l.Mode+" "+filepath.Base(l.Path))
		}
	}
	slices.Sort(got)
	if want := []string{"FLOCK WRITE flock", "POSIX READ posix"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestSharedMemory wants shared memory counted that is mapped and used, whatever has a name.
func TestSharedMemory(t *testing.T) {
	before := held(t)
	const size = 8 << 20
	m, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(m)
	for i := 0; i < size; i += 4096 {
		m[i] = 1
	}
	fd, err := unix.MemfdCreate("x", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Fallocate(fd, 0, 0, size); err != nil {
		t.Fatal(err)
	}
	after := held(t)
	if got := int64(after.SharedBytes) - int64(before.SharedBytes); got < size || got > size+1<<20 {
		t.Errorf("got %d bytes more, want %d", got, size)
	}
	if after.DeletedBytes != before.DeletedBytes {
		t.Errorf("got %d bytes of deleted files more for a memfd", after.DeletedBytes-before.DeletedBytes)
	}
}

// TestDevices wants devices known by their numbers: a file that is named like one holds none.
func TestDevices(t *testing.T) {
	dir := localDir(t)
	named, err := os.Create(filepath.Join(dir, "nvidia0"))
	if err != nil {
		t.Fatal(err)
	}
	defer named.Close()
	if got := held(t).GPUs; len(got) != 0 {
		t.Errorf("a regular file holds %+v", got)
	}
	kfd := parseDevices([]byte("Character devices:\n  1 mem\n195 nvidia\n235 kfd\n\nBlock devices:\n  8 sd\n236 kfd\n"))
	if len(kfd) != 1 || kfd[235] != "kfd" {
		t.Errorf("/proc/devices: got %v", kfd)
	}
	for _, tt := range []struct {
		major, minor uint32
		want         string
	}{
		{195, 0, "nvidia0"}, {195, 7, "nvidia7"}, {195, 255, ""}, {195, 254, ""},
		{226, 128, "renderD128"}, {226, 0, ""}, {226, 191, "renderD191"}, {226, 192, ""},
		{261, 0, "accel0"}, {235, 0, "kfd"}, {1, 3, ""}, {508, 0, ""},
	} {
		if got := gpuName(unix.Mkdev(tt.major, tt.minor), kfd); got != tt.want {
			t.Errorf("%d:%d: got %q, want %q", tt.major, tt.minor, got, tt.want)
		}
	}
	l := &look{p: &procfs.Process{}}
	render := unix.Mkdev(226, 128)
	for _, info := range []procfs.FDInfo{{DRMClient: "7", DRMBytes: 1 << 30, DRMKnown: true}, {DRMClient: "7", DRMBytes: 1 << 30, DRMKnown: true},
		{DRMClient: "8", DRMBytes: 1 << 20, DRMKnown: true}, {}} {
		l.device(3, render, &info)
	}
	want := []GPU{{"renderD128", 1<<30 + 1<<20, true}}
	if !slices.Equal(l.GPUs, want) {
		t.Errorf("a client with two descriptors: got %+v", l.GPUs)
	}
	var both Held
	both.Add(&l.Held)
	both.Add(&l.Held)
	if !slices.Equal(both.GPUs, want) {
		t.Errorf("two processes with one client: got %+v", both.GPUs)
	}
}

func TestReadOfTheDead(t *testing.T) {
	id := identity(t, os.Getpid())
	id.Start += 1e9
	if _, err := new(Reader).Read(t.Context(), id, 0); !errors.Is(err, procfs.ErrGone) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := new(Reader).Read(ctx, identity(t, os.Getpid()), 0); err == nil {
		t.Error("it did not end with its context")
	}
}

// TestFileSystemThatHangs wants a file whose server does not answer to cost nobody anything.
func TestFileSystemThatHangs(t *testing.T) {
	dir := localDir(t)
	server := serveFUSE(t, dir)
	// A process of its own holds the file: a close waits for the server too, and so would the end
	// of this process, which is the server.
	// The shell opens it: between fork and exec this process could not serve.
	cmd := exec.Command("sh", "-c", `exec sleep 60 <"$0"`, filepath.Join(dir, "x"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		server.abort()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	id := identity(t, cmd.Process.Pid)
	proctest.Eventually(t, "the file is held", func() bool {
		comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", id.PID))
		return err == nil && string(comm) == "sleep\n"
	})
	server.hang()
	got, err := new(Reader).Read(t.Context(), id, 0)
	// It may have inherited more of the kind.
	wantUnread(t, got, err, " of file systems that may hang")
}

func wantUnread(t *testing.T, got Held, err error, suffix string) {
	t.Helper()
	if err != nil || !slices.ContainsFunc(got.Unread, func(s string) bool { return strings.HasSuffix(s, suffix) }) {
		t.Errorf("got %+v, %v, want %q", got, err, suffix)
	}
}

// TestFileOfAnotherNamespace wants a file that was opened in another mount namespace told as that:
// of what file system it is cannot be seen there.
func TestFileOfAnotherNamespace(t *testing.T) {
	dir := localDir(t)
	f, err := os.Create(filepath.Join(dir, "x"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd := exec.Command("sleep", "60")
	cmd.Stdin = f
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: unix.CLONE_NEWNS}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	got, err := new(Reader).Read(t.Context(), identity(t, cmd.Process.Pid), 0)
	wantUnread(t, got, err, " of mounts that its mount namespace does not have")
}

func BenchmarkRead(b *testing.B) {
	for range 100 {
		f, err := os.Open("/proc/self/exe")
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
	}
	stat, err := procfs.FS{}.Stat(int32(os.Getpid()))
	if err != nil {
		b.Fatal(err)
	}
	id := event.ID{PID: int32(os.Getpid()), Start: stat.StartNS()}
	var r Reader
	for b.Loop() {
		if _, err := r.Read(b.Context(), id, 0); err != nil {
			b.Fatal(err)
		}
	}
}
