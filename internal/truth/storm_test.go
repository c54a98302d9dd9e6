// SPDX-License-Identifier: Apache-2.0

package truth

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/probe"
	"github.com/abot-trace/abot-trace/internal/proctest"
	"github.com/abot-trace/abot-trace/internal/tracker"
)

// tiny writes the smallest program there is, which exits at once, and returns its path
// as the setting that families.py knows.
func tiny(t testing.TB) string {
	t.Helper()
	code := map[string][]uint32{
		"amd64": {0x00003cb8, 0x0fff3100, 0x00000005}, // mov eax, 60; xor edi, edi; syscall
		"arm64": {0xd2800ba8, 0xd2800000, 0xd4000001}, // mov x8, 93; mov x0, 0; svc 0
	}[runtime.GOARCH]
	machine := map[string]uint16{"amd64": 62, "arm64": 183}[runtime.GOARCH]
	if code == nil {
		t.Fatalf("no program for %s", runtime.GOARCH)
	}
	const base, header = 0x400000, 64 + 56
	size := uint64(header + 4*len(code))
	var b []byte
	b = append(b, "\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00"...)
	for _, v := range []any{
		uint16(2), machine, uint32(1), uint64(base + header), uint64(64), uint64(0), // entry, program headers
		uint32(0), uint16(64), uint16(56), uint16(1), uint16(0), uint16(0), uint16(0),
		uint32(1), uint32(5), uint64(0), uint64(base), uint64(base), size, size, uint64(0x1000), // one segment
		code,
	} {
		b, _ = binary.Append(b, binary.LittleEndian, v)
	}
	path := filepath.Join(t.TempDir(), "tiny")
	if err := os.WriteFile(path, b, 0o755); err != nil {
		t.Fatal(err)
	}
	return "TINY=" + path
}

// TestStorm runs 20,000 programs as fast as two processes can, and misses nothing.
func TestStorm(t *testing.T) {
	const programs, others = 20_000, 3 // the main and its two runners
	w := newWorld(t, probe.Options{})
	f := w.start("storm", tiny(t))
	f.await(map[string]int{"done": 1})
	f.finish()
	want := map[event.Kind]int{event.KindFork: programs + others, event.KindExec: programs + 1, event.KindExit: programs + others}
	for kind, n := range want {
		if w.counts[kind] != n {
			t.Errorf("%d records of %s, want %d", w.counts[kind], kind, n)
		}
	}
	if w.lost != 0 || w.probe.Refused() != 0 || w.tree.Unseen() != 0 {
		t.Errorf("%d lost, %d refused, %d unseen", w.lost, w.probe.Refused(), w.tree.Unseen())
	}
	if len(w.orphans) != 0 {
		t.Errorf("%d orphans of %d", len(w.orphans), programs)
	}
}

// TestTinyRing stalls the reader of a ring that holds a dozen records. What is lost is
// counted to the record, and one resync later the tree is the kernel's.
func TestTinyRing(t *testing.T) {
	if !inNamespace(t, t.Name()) {
		return
	}
	w := newWorld(t, probe.Options{RingBytes: uint32(os.Getpagesize())})
	f := w.start("crowd", tiny(t))
	// Not a record is read until the crowd has gathered: it says so, or dies.
	for line := range f.lines {
		if strings.HasPrefix(line, "done") {
			break
		}
	}
	f.drain()
	// 30 held, 300 short, 30 leakers with a child each, and main.
	made := map[event.Kind]int{event.KindFork: 391, event.KindExec: 301, event.KindExit: 340}
	refused := uint64(0)
	for kind, n := range made {
		if got := w.all[kind] + int(w.probe.RefusedOf(kind)); got != n {
			t.Errorf("%s: %d seen and %d refused, want %d in all", kind, w.all[kind], w.probe.RefusedOf(kind), n)
		}
	}
	for kind := event.KindFork; kind <= event.KindCaught; kind++ {
		refused += w.probe.RefusedOf(kind)
	}
	if refused != w.probe.Refused() || refused < 500 {
		t.Errorf("%d refused, %d by kind", w.probe.Refused(), refused)
	}
	if told := w.lost + w.tree.NoteRefused(w.probe.Refused()); told != refused {
		t.Errorf("the tree knows of %d lost, want %d", told, refused)
	}
	found, _ := w.resync()
	if found == 0 {
		t.Error("the resync found nobody")
	}
	compareWithProc(t, w)
}

// compareWithProc holds the tree against procfs, both ways. It is for a pid namespace in
// which nothing happens meanwhile.
func compareWithProc(t *testing.T, w *world) {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	living := 0
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		state, ppid, ticks := stat(t, pid)
		if state == "Z" {
			continue
		}
		living++
		id, ok := w.tree.Lookup(int32(pid))
		p, _ := w.tree.Get(id)
		if !ok || p.Parent.PID != ppid || id.Start/1e7 != ticks {
			t.Errorf("pid %d, parent %d, start %d: the tree has %v under %v", pid, ppid, ticks, id, p.Parent)
		}
	}
	if living < 50 || w.tree.Living() != living {
		t.Errorf("%d living in the tree, %d in procfs", w.tree.Living(), living)
	}
}

func stat(t *testing.T, pid int) (state string, ppid int32, ticks uint64) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	words := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+1:]))
	parent, err := strconv.Atoi(words[1])
	if err != nil {
		t.Fatal(err)
	}
	if ticks, err = strconv.ParseUint(words[19], 10, 64); err != nil {
		t.Fatal(err)
	}
	return words[0], int32(parent), ticks
}

// TestForkBomb lets a bomb go off in a cgroup of at most so many pids. It costs time;
// the tree holds what lives, its lines of ancestors, and the history.
func TestForkBomb(t *testing.T) {
	const most = 150
	w := newWorld(t, probe.Options{})
	before := w.tree.Living() + w.tree.Remembered()
	group := pidsGroup(t, most)
	f := w.start("bomb", "CGROUP="+group)
	f.await(map[string]int{"done": 1})
	f.finish()
	// The host does other things meanwhile: leave it some room.
	const line, slack = 64, 2000
	if limit := before + most + most*line + tracker.DefaultHistory + slack; w.peak > limit {
		t.Errorf("%d processes in the tree, want at most %d", w.peak, limit)
	}
	if w.counts[event.KindFork] < 2*most {
		t.Errorf("%d forks are no bomb", w.counts[event.KindFork])
	}
	if w.lost != 0 || w.counts[event.KindExit] != w.counts[event.KindFork] {
		t.Errorf("%d lost; %d forks, %d exits", w.lost, w.counts[event.KindFork], w.counts[event.KindExit])
	}
}

// pidsGroup makes a cgroup that holds at most so many processes. At the end whoever is
// left in it is killed.
func pidsGroup(t *testing.T, most int) string {
	t.Helper()
	b, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	root := ""
	for line := range strings.Lines(string(b)) {
		mount, super, _ := strings.Cut(line, " - ")
		path := strings.Fields(mount)[4]
		words := strings.Fields(super)
		controllers, _ := os.ReadFile(filepath.Join(path, "cgroup.subtree_control"))
		if words[0] == "cgroup" && strings.Contains(words[2], "pids") ||
			words[0] == "cgroup2" && strings.Contains(string(controllers), "pids") {
			root = path
		}
	}
	if root == "" {
		proctest.Need(t, fmt.Errorf("no pids controller: %w", os.ErrNotExist))
	}
	group := filepath.Join(root, fmt.Sprintf("abot-trace-truth-%d", os.Getpid()))
	if err := os.Mkdir(group, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { emptyGroup(t, group) })
	if err := os.WriteFile(filepath.Join(group, "pids.max"), []byte(strconv.Itoa(most)), 0); err != nil {
		t.Fatal(err)
	}
	return group
}

// emptyGroup kills what is left in the group, which holds nothing but this test's, and
// removes it.
func emptyGroup(t *testing.T, group string) {
	t.Helper()
	for range 100 {
		members, err := os.ReadFile(filepath.Join(group, "cgroup.procs"))
		if err != nil {
			t.Error(err)
			return
		}
		for pid := range strings.FieldsSeq(string(members)) {
			killMember(group, pid)
		}
		if err := os.Remove(group); err == nil {
			return
		}
	}
	t.Errorf("%s is not empty", group)
}

// killMember kills one member through a pidfd, once that is sure to be the member's.
func killMember(group, number string) {
	pid, err := strconv.Atoi(number)
	if err != nil {
		return
	}
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return
	}
	defer unix.Close(fd)
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if err != nil || !strings.Contains(string(b), filepath.Base(group)) {
		return
	}
	_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
	_ = unix.Waitid(unix.P_PIDFD, fd, nil, unix.WEXITED, nil) // another's child: only the signal matters
}
