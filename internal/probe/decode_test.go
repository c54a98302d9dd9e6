// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/bpf"
	"github.com/abot-trace/abot-trace/internal/event"
)

// sample returns a record as a kernel wrote it, by the name of its kind.
func sample(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", "records", name+".bin"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var kinds = func() (all []event.Kind) {
	for k := event.KindFork; k < event.Kinds; k++ {
		all = append(all, k)
	}
	return all
}()

// bytesOf returns the memory of a record.
func bytesOf[T any](r *T) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(r)), unsafe.Sizeof(*r))
}

func oomRecord() []byte {
	r := bpf.CoreOomEvent{Cgroup: 7, Rss: 4096}
	r.Hdr.Kind, r.Hdr.Id.Pid, r.Hdr.Id.Start = uint8(event.KindOOM), 10, 99
	return bytesOf(&r)
}

func moveRecord() []byte {
	r := bpf.CoreMoveEvent{Cgroup: 7}
	r.Hdr.Kind, r.Hdr.Id.Pid, r.Hdr.Id.Start = uint8(event.KindMove), 10, 99
	return bytesOf(&r)
}

func record(t testing.TB, kind event.Kind) []byte {
	switch kind {
	case event.KindOOM:
		return oomRecord()
	case event.KindMove:
		return moveRecord()
	default:
		return sample(t, kind.String())
	}
}

// TestRecordsAreComplete wants every kind of bpf/event.h to be decoded, by the struct and by
// the name that it has there.
func TestRecordsAreComplete(t *testing.T) {
	if len(records) != int(event.Kinds) {
		t.Fatalf("%d kinds in bpf/event.h, %d in package event", len(records)-1, event.Kinds-1)
	}
	names := make(map[string]bool)
	for _, kind := range kinds {
		r, name := records[kind], kind.String()
		if r.decode == nil || r.layout == nil {
			t.Errorf("%s has no entry", name)
			continue
		}
		if name == "" || names[name] {
			t.Errorf("kind %d has no name of its own: %q", kind, name)
		}
		names[name] = true
		if f, ok := r.layout.FieldByName("Hdr"); !ok || f.Offset != 0 || f.Type != reflect.TypeFor[bpf.CoreEventHeader]() {
			t.Errorf("%s: %s does not begin with the header", name, r.layout)
		}
	}
}

// TestRecordLayout wants the name of the layout to change with any record of the ring.
func TestRecordLayout(t *testing.T) {
	was := recordLayout()
	for _, kind := range kinds {
		layout := records[kind].layout
		users := 0
		for _, r := range records {
			if r.layout == layout {
				users++
			}
		}
		records[kind].layout = reflect.TypeFor[struct{ Other uint64 }]()
		if recordLayout() == was && users == 1 {
			t.Errorf("the layout does not tell of %s", kind)
		}
		records[kind].layout = layout
	}
	if recordLayout() != was {
		t.Error("the layout is not the same twice")
	}
}

// TestDecodeSamples decodes what a kernel wrote of "sh -c 'trap : TERM; (kill $$); sleep 100 & kill -9 $$'".
func TestDecodeSamples(t *testing.T) {
	all := map[event.Kind]event.Event{}
	for _, kind := range kinds {
		var e event.Event
		if err := Decode(record(t, kind), &e); err != nil {
			t.Fatalf("%s: %v", kind, err)
		}
		if e.Kind != kind || e.Subject.PID == 0 || e.Subject.Start == 0 {
			t.Errorf("%s: %+v", kind, e)
		}
		all[kind] = e
	}
	shell, sleep := all[event.KindExit].Subject, all[event.KindChild].Subject
	if f := all[event.KindFork]; f.Subject != sleep || f.Fork.Spawner != shell || f.Fork.Caller != shell || !f.Fork.Origin.StdioKnown {
		t.Errorf("fork: %+v", f)
	}
	got := all[event.KindExec].Exec
	if o := got.Origin; !o.StdioKnown || o.SessionOwn || !o.Stdio[2].IsNull() {
		t.Errorf("origin at the exec: %+v", o)
	}
	want := event.Exec{Origin: got.Origin, Cgroup: got.Cgroup, Filename: "/bin/sh",
		Cmdline:    "/bin/sh\x00-c\x00trap : TERM; (kill $$); sleep 100 & kill -9 $$\x00",
		MarksKnown: true, Leash: true}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("exec (-want +got):\n%s", diff)
	}
	if x := all[event.KindExit].Exit; x.Status.Signal() != unix.SIGKILL || !x.HasChildren || x.Adopter.PID != 1 ||
		x.AdopterKind != event.AdopterInit || x.NSEnds || x.OOM || x.NeverExeced || x.PeakRSS == 0 {
		t.Errorf("exit: %+v", x)
	}
	if s := all[event.KindSignal].Signal; s.Signal != unix.SIGKILL || s.Sender.PID != shell.PID || s.FromKernel || s.SenderComm.String() != "sh" || s.Effect != event.Fatal {
		t.Errorf("signal: %+v", s)
	}
	if s := all[event.KindCaught].Signal; s.Signal != unix.SIGTERM || s.Sender.PID == shell.PID || s.Sender.PID == 0 ||
		s.FromKernel || s.Effect != event.Caught || s.Suppressed != 0 {
		t.Errorf("caught: %+v", s)
	}
	if m := all[event.KindMove].Move; m.Cgroup != 7 {
		t.Errorf("move: %+v", m)
	}
	if c := all[event.KindChild].Child; c.Parent != shell || !c.Origin.Stdio[0].IsNull() {
		t.Errorf("child: %+v", c)
	}
}

func TestDecodeRefuses(t *testing.T) {
	long := sample(t, "exec")
	args := unsafe.Offsetof(bpf.CoreExecEvent{}.ArgsLen)
	binary.NativeEndian.PutUint16(long[args:], 0xffff)
	overlap := sample(t, "exec")
	binary.NativeEndian.PutUint16(overlap[unsafe.Offsetof(bpf.CoreExecEvent{}.FilenameLen):], 100)
	kind := sample(t, "fork")
	kind[unsafe.Offsetof(bpf.CoreEventHeader{}.Kind)] = 99
	for _, test := range []struct {
		name string
		b    []byte
	}{
		{"nothing", nil},
		{"half a header", sample(t, "exit")[:30]},
		{"arguments beyond the end", long},
		{"path over arguments", overlap},
		{"unknown kind", kind},
	} {
		t.Run(test.name, func(t *testing.T) {
			var e event.Event
			if err := Decode(test.b, &e); !errors.Is(err, ErrMalformed) {
				t.Errorf("error %v, want %v", err, ErrMalformed)
			}
		})
	}
	for _, kind := range kinds {
		b := record(t, kind)
		var e event.Event
		size := len(b)
		if kind == event.KindExec {
			size = int(unsafe.Sizeof(bpf.CoreExecEvent{})) // words may be none
		}
		if err := Decode(b[:size-1], &e); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s cut by a byte: error %v, want %v", kind, err, ErrMalformed)
		}
	}
}

func TestDecodeCleansComm(t *testing.T) {
	b := sample(t, "exit")
	copy(b[unsafe.Offsetof(bpf.CoreEventHeader{}.Comm):], "ab\x00stale bytes!!")
	var e event.Event
	if err := Decode(b, &e); err != nil || e.Comm != event.MakeComm("ab") {
		t.Errorf("comm %q, error %v", e.Comm[:], err)
	}
}

// FuzzDecode looks for records that crash, that read past their end, or that leave
// something of an earlier record behind.
func FuzzDecode(f *testing.F) {
	for _, kind := range kinds {
		f.Add(record(f, kind))
	}
	dirty := sample(f, "exec")
	f.Fuzz(func(t *testing.T, b []byte) {
		// Nothing beyond the length may be looked at, and nothing kept.
		exact := bytes.Clone(b)[:len(b):len(b)]
		var fresh, used event.Event
		if err := Decode(dirty, &used); err != nil {
			t.Fatal(err)
		}
		err := Decode(exact, &fresh)
		if again := Decode(exact, &used); (err == nil) != (again == nil) {
			t.Fatalf("%v, then %v", err, again)
		}
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Errorf("error %v", err)
			}
			return
		}
		clear(exact)
		if fresh.Kind != event.KindExec {
			used.Exec = fresh.Exec // the part of another kind means nothing
		}
		if fresh != used {
			t.Errorf("decoded into a used event:\n%s", cmp.Diff(fresh, used))
		}
		if n := len(fresh.Exec.Filename) + len(fresh.Exec.Cmdline); n > len(b) {
			t.Errorf("%d bytes of words out of %d", n, len(b))
		}
	})
}

func TestReadTasks(t *testing.T) {
	b := sample(t, "tasks")
	whole, err := newTaskReader(1).readAll(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	if len(whole) != 3 || !whole[0].Kthread || whole[0].ID.PID != 2 || whole[2].Comm.String() != "sleep" || whole[2].Parent.PID != 1 {
		t.Errorf("tasks: %+v", whole)
	}
	bare, err := newTaskReader(1).readAll(bytes.NewReader(b[:2*unsafe.Sizeof(bpf.CoreTaskRecord{})]))
	if err != nil {
		t.Fatal(err)
	}
	if whole[1].CPU <= bare[1].CPU || whole[1].Threads < 2 {
		t.Errorf("with its threads %v, without %v of CPU", whole[1].CPU, bare[1].CPU)
	}
	for name, r := range map[string]io.Reader{
		"byte by byte": iotest.OneByteReader(bytes.NewReader(b)),
		"data at EOF":  iotest.DataErrReader(bytes.NewReader(b)),
	} {
		got, err := newTaskReader(1).readAll(r)
		if err != nil || cmp.Diff(whole, got) != "" {
			t.Errorf("%s: %v\n%s", name, err, cmp.Diff(whole, got))
		}
	}
	if _, err := newTaskReader(1).readAll(iotest.TimeoutReader(bytes.NewReader(b))); !errors.Is(err, iotest.ErrTimeout) {
		t.Errorf("error %v, want %v", err, iotest.ErrTimeout)
	}
}

// usageOf is what the usage iterator has of the tasks that the sample shows.
func usageOf(b []byte) (out []byte) {
	for len(b) >= int(unsafe.Sizeof(bpf.CoreTaskRecord{})) {
		if size := *(*uint32)(unsafe.Pointer(unsafe.SliceData(b))); size == uint32(unsafe.Sizeof(bpf.CoreThreadRecord{})) {
			out, b = append(out, b[:size]...), b[size:]
			continue
		}
		r := (*bpf.CoreTaskRecord)(unsafe.Pointer(unsafe.SliceData(b)))
		u := bpf.CoreUsageRecord{Size: uint32(unsafe.Sizeof(bpf.CoreUsageRecord{})), Threads: r.Threads, Id: r.Id,
			Parent: r.Parent, Rss: r.Rss, Swap: r.Swap, CpuTime: r.CpuTime, Uid: r.Uid, Euid: r.Euid,
			Suid: r.Suid, ExecId: r.ExecId, Flags: r.Flags, State: r.State, Comm: r.Comm}
		out = append(out, (*[unsafe.Sizeof(u)]byte)(unsafe.Pointer(&u))[:]...)
		b = b[r.Size:]
	}
	return append(out, b...)
}

func TestReadUsage(t *testing.T) {
	b := sample(t, "tasks")
	want, err := newTaskReader(1).readAll(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	for i := range want {
		want[i] = usageIn(want[i])
	}
	got, err := newTaskReader(1).readAll(iotest.OneByteReader(bytes.NewReader(usageOf(b))))
	if err != nil || cmp.Diff(want, got) != "" {
		t.Errorf("%v\n%s", err, cmp.Diff(want, got))
	}
}

// usageIn is the part of a task that Usage tells.
func usageIn(t event.Task) event.Task {
	return event.Task{ID: t.ID, HostPID: t.HostPID, Parent: t.Parent, Comm: t.Comm, UID: t.UID, EUID: t.EUID,
		SUID: t.SUID, ExecID: t.ExecID, Kthread: t.Kthread, Dead: t.Dead, State: t.State, Threads: t.Threads, RSS: t.RSS, Swap: t.Swap, CPU: t.CPU}
}

// FuzzReadTasks looks for snapshots that crash or never end.
func FuzzReadTasks(f *testing.F) {
	b := sample(f, "tasks")
	f.Add(b)
	f.Add(b[:100])
	f.Add(usageOf(b))
	f.Add([]byte(strings.Repeat("\xff", 80<<10)))
	f.Fuzz(func(t *testing.T, b []byte) {
		tasks, err := newTaskReader(1).readAll(bytes.NewReader(b))
		if err != nil && (!errors.Is(err, ErrMalformed) || tasks != nil) {
			t.Errorf("%d tasks, error %v", len(tasks), err)
		}
		if n := len(tasks) * int(unsafe.Sizeof(bpf.CoreUsageRecord{})); n > len(b) {
			t.Errorf("%d tasks out of %d bytes", len(tasks), len(b))
		}
	})
}

func TestStateLetter(t *testing.T) {
	for state, want := range map[uint32]byte{0: 'R', 1: 'S', 2: 'D', 0x402: 'I', 4: 'T', 8: 't', 0x10: 'X', 0x20: 'Z', 0x40: 'P', 0x2001: 'S'} {
		if got := stateLetter(state); got != want {
			t.Errorf("%#x: %c, want %c", state, got, want)
		}
	}
}

func BenchmarkDecode(b *testing.B) {
	for _, kind := range kinds {
		b.Run(kind.String(), func(b *testing.B) {
			r := record(b, kind)
			var e event.Event
			b.ReportAllocs()
			for b.Loop() {
				if err := Decode(r, &e); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
