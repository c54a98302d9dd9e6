// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bytes"
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/bpf"
	"github.com/abot-trace/abot-trace/internal/event"
)

// ErrMalformed is returned for a record that the programs cannot have written.
var ErrMalformed = errors.New("malformed record")

// view returns b as a *T without copying. The records hold integers only, for
// which Go on the supported architectures needs no alignment; the ring aligns to
// 8 bytes anyway.
func view[T any](b []byte) (*T, error) {
	var zero T
	if uintptr(len(b)) < unsafe.Sizeof(zero) {
		return nil, fmt.Errorf("%w: %d bytes, want %d", ErrMalformed, len(b), unsafe.Sizeof(zero))
	}
	return (*T)(unsafe.Pointer(unsafe.SliceData(b))), nil
}

// Decode decodes one record of the ring into e, which it overwrites. It keeps no
// reference to b. On error e holds nothing of use.
func Decode(b []byte, e *event.Event) error {
	hdr, err := view[bpf.CoreEventHeader](b)
	if err != nil {
		return err
	}
	e.Kind = event.Kind(hdr.Kind)
	e.Subject = decodeID(&hdr.Id)
	e.HostPID = int32(hdr.Id.HostPid)
	e.Ordinal = hdr.Ordinal
	e.Time = hdr.Time
	e.Refused = hdr.Refused
	e.Comm = decodeComm(hdr.Comm)
	e.UID = hdr.Uid
	e.ExecID = hdr.ExecId
	if int(e.Kind) >= len(records) || records[e.Kind].decode == nil {
		return fmt.Errorf("%w: kind %d", ErrMalformed, hdr.Kind)
	}
	return records[e.Kind].decode(b, e)
}

func decodeID(id *bpf.CoreProcessId) event.ID {
	return event.ID{PID: int32(id.Pid), Start: id.Start}
}

// decodeComm clears what some kernels leave after a name's end, so that equal names
// compare equal.
func decodeComm(c [16]uint8) event.Comm {
	if end := bytes.IndexByte(c[:], 0); end >= 0 {
		clear(c[end:])
	}
	return c
}

func decodeFork(r *bpf.CoreForkEvent, _ []byte, f *event.Fork) error {
	*f = event.Fork{
		Spawner: decodeID(&r.Spawner),
		Caller:  decodeID(&r.Caller),
		Cgroup:  r.Cgroup,
		Origin:  decodeOrigin(&r.Origin),
		Moved:   r.Origin.Flags&uint32(bpf.CoreOriginFlagsORIGIN_MOVED) != 0,
		NSInit:  r.Origin.Flags&uint32(bpf.CoreOriginFlagsORIGIN_NS_INIT) != 0,
	}
	return nil
}

func decodeExec(r *bpf.CoreExecEvent, words []byte, x *event.Exec) error {
	*x = event.Exec{
		Origin:     decodeOrigin(&r.Origin),
		Cgroup:     r.Cgroup,
		Truncated:  r.Flags&uint32(bpf.CoreExecFlagsEXEC_TRUNCATED) != 0,
		MarksKnown: r.Flags&uint32(bpf.CoreExecFlagsEXEC_MARKS_KNOWN) != 0,
		Keep:       r.Flags&uint32(bpf.CoreExecFlagsEXEC_MARK_KEEP) != 0,
		Leash:      r.Flags&uint32(bpf.CoreExecFlagsEXEC_MARK_LEASH) != 0,
	}
	path, offset, size := int(r.FilenameLen), int(r.ArgsOffset), int(r.ArgsLen)
	if path > offset || offset+size > len(words) {
		return fmt.Errorf("%w: exec of %d+%d bytes at %d in %d", ErrMalformed, path, size, offset, len(words))
	}
	x.Filename = string(words[:path])
	x.Cmdline = string(words[offset : offset+size])
	return nil
}

func decodeExit(r *bpf.CoreExitEvent, _ []byte, x *event.Exit) error {
	has := func(f bpf.CoreExitFlags) bool { return r.Flags&uint32(f) != 0 }
	*x = event.Exit{
		Status:      event.Status(r.Status),
		Adopter:     decodeID(&r.Adopter),
		HasChildren: has(bpf.CoreExitFlagsEXIT_HAS_CHILDREN),
		NSEnds:      has(bpf.CoreExitFlagsEXIT_NS_ENDS),
		OOM:         has(bpf.CoreExitFlagsEXIT_OOM),
		EUID:        r.Euid,
		SUID:        r.Suid,
		NeverExeced: has(bpf.CoreExitFlagsEXIT_NEVER_EXECED),
		PeakRSS:     r.PeakRss,
		CPUTime:     r.CpuTime,
	}
	switch {
	case has(bpf.CoreExitFlagsEXIT_ADOPTER_SUBREAPER):
		x.AdopterKind = event.AdopterSubreaper
	case has(bpf.CoreExitFlagsEXIT_ADOPTER_INIT):
		x.AdopterKind = event.AdopterInit
	}
	return nil
}

func decodeSignal(r *bpf.CoreSignalEvent, _ []byte, s *event.Signal) error {
	*s = event.Signal{
		Signal:     unix.Signal(r.Signal),
		Sender:     decodeID(&r.Sender),
		SenderHost: int32(r.Sender.HostPid),
		SenderComm: decodeComm(r.SenderComm),
		SenderUID:  r.SenderUid,
		FromKernel: r.FromKernel != 0,
		Effect:     event.Effect(r.Effect),
		Suppressed: r.Suppressed,
	}
	return nil
}

func decodeOOM(r *bpf.CoreOomEvent, _ []byte, o *event.OOM) error {
	*o = event.OOM{Cgroup: r.Cgroup, RSSBytes: r.Rss}
	return nil
}

func decodeChild(r *bpf.CoreChildEvent, _ []byte, c *event.Child) error {
	*c = event.Child{Parent: decodeID(&r.Parent), Origin: decodeOrigin(&r.Origin)}
	return nil
}

func decodeMove(r *bpf.CoreMoveEvent, _ []byte, m *event.Move) error {
	*m = event.Move{Cgroup: r.Cgroup}
	return nil
}

func decodeOrigin(o *bpf.CoreOrigin) event.Origin {
	has := func(f bpf.CoreOriginFlags) bool { return o.Flags&uint32(f) != 0 }
	origin := event.Origin{
		Session:    o.Session,
		SessionOwn: has(bpf.CoreOriginFlagsORIGIN_SESSION_OWN),
		HupIgnored: has(bpf.CoreOriginFlagsORIGIN_HUP_IGNORED),
		Tty:        has(bpf.CoreOriginFlagsORIGIN_TTY),
		StdioKnown: has(bpf.CoreOriginFlagsORIGIN_STDIO_KNOWN),
	}
	if origin.StdioKnown {
		for i := range o.Stdio {
			origin.Stdio[i] = decodeFile(&o.Stdio[i])
		}
	}
	return origin
}

func decodeFile(f *bpf.CoreFileId) event.File {
	if f.Mode == 0 {
		return event.File{}
	}
	return event.File{
		Dev:  userDev(f.Dev),
		Ino:  f.Ino,
		Mode: f.Mode & unix.S_IFMT,
		Rdev: userDev(f.Rdev),
	}
}

// userDev turns the kernel's own device number (include/linux/kdev_t.h: 12 bits of
// major over 20 of minor) into the one that stat(2) reports.
func userDev(dev uint32) uint64 {
	if dev == 0 {
		return 0
	}
	return unix.Mkdev(dev>>20, dev&(1<<20-1))
}

// taskReader decodes the task iterator's lines: every thread in the order of ids,
// so that once ids have wrapped a thread may come before its leader.
type taskReader struct {
	pageSize uint64
	buf      []byte
	tasks    []event.Task
	threads  map[int32]bpf.CoreThreadRecord // sums of the other threads by process
}

// add decodes the first line of b and returns how many bytes it took: 0 when b
// holds less than one line.
func (t *taskReader) add(b []byte) (int, error) {
	if len(b) < 4 {
		return 0, nil
	}
	const taskSize = int(unsafe.Sizeof(bpf.CoreTaskRecord{}))
	const usageSize = int(unsafe.Sizeof(bpf.CoreUsageRecord{}))
	const threadSize = int(unsafe.Sizeof(bpf.CoreThreadRecord{}))
	size := int(*(*uint32)(unsafe.Pointer(unsafe.SliceData(b))))
	switch {
	case size != taskSize && size != usageSize && size != threadSize:
		return 0, fmt.Errorf("%w: task of %d bytes", ErrMalformed, size)
	case len(b) < size:
		return 0, nil
	case size == taskSize:
		t.tasks = append(t.tasks, t.task((*bpf.CoreTaskRecord)(unsafe.Pointer(unsafe.SliceData(b)))))
	case size == usageSize:
		t.tasks = append(t.tasks, t.usage((*bpf.CoreUsageRecord)(unsafe.Pointer(unsafe.SliceData(b)))))
	default:
		t.addThread((*bpf.CoreThreadRecord)(unsafe.Pointer(unsafe.SliceData(b))))
	}
	return size, nil
}

func (t *taskReader) addThread(r *bpf.CoreThreadRecord) {
	sum := t.threads[int32(r.Pid)]
	sum.CpuTime += r.CpuTime
	// Threads share the memory: any one tells it.
	sum.Rss, sum.Swap = max(sum.Rss, r.Rss), max(sum.Swap, r.Swap)
	t.threads[int32(r.Pid)] = sum
}

// finish returns the processes with their threads' shares added.
func (t *taskReader) finish() []event.Task {
	for i := range t.tasks {
		task := &t.tasks[i]
		sum, ok := t.threads[task.ID.PID]
		if !ok {
			continue
		}
		task.CPU += sum.CpuTime
		task.RSS += sum.Rss * t.pageSize
		task.Swap += sum.Swap * t.pageSize
	}
	return t.tasks
}

func (t *taskReader) task(r *bpf.CoreTaskRecord) event.Task {
	has := func(f bpf.CoreTaskFlags) bool { return r.Flags&uint32(f) != 0 }
	return event.Task{
		ID:           decodeID(&r.Id),
		HostPID:      int32(r.Id.HostPid),
		Parent:       decodeID(&r.Parent),
		Comm:         decodeComm(r.Comm),
		UID:          r.Uid,
		EUID:         r.Euid,
		SUID:         r.Suid,
		ExecID:       r.ExecId,
		Cgroup:       r.Cgroup,
		Origin:       decodeOrigin(&r.Origin),
		Kthread:      has(bpf.CoreTaskFlagsTASK_KTHREAD),
		Subreaper:    has(bpf.CoreTaskFlagsTASK_SUBREAPER),
		HasSubreaper: has(bpf.CoreTaskFlagsTASK_HAS_SUBREAPER),
		NSInit:       has(bpf.CoreTaskFlagsTASK_NS_INIT),
		Dead:         has(bpf.CoreTaskFlagsTASK_DEAD),
		NeverExeced:  has(bpf.CoreTaskFlagsTASK_NEVER_EXECED),
		State:        stateLetter(r.State),
		Threads:      int(r.Threads),
		RSS:          r.Rss * t.pageSize,
		Swap:         r.Swap * t.pageSize,
		CPU:          r.CpuTime,
	}
}

// usage decodes a process with what changes while it runs.
func (t *taskReader) usage(r *bpf.CoreUsageRecord) event.Task {
	return event.Task{
		ID:      decodeID(&r.Id),
		HostPID: int32(r.Id.HostPid),
		Parent:  decodeID(&r.Parent),
		Comm:    decodeComm(r.Comm),
		UID:     r.Uid,
		EUID:    r.Euid,
		SUID:    r.Suid,
		ExecID:  r.ExecId,
		Kthread: r.Flags&uint32(bpf.CoreTaskFlagsTASK_KTHREAD) != 0,
		Dead:    r.Flags&uint32(bpf.CoreTaskFlagsTASK_DEAD) != 0,
		State:   stateLetter(r.State),
		Threads: int(r.Threads),
		RSS:     r.Rss * t.pageSize,
		Swap:    r.Swap * t.pageSize,
		CPU:     r.CpuTime,
	}
}

// stateLetter names the task state bits of include/linux/sched.h as proc(5) does:
// the kernel's TASK_REPORT bits in order.
func stateLetter(state uint32) byte {
	const idle = 0x402 // TASK_IDLE: uninterruptible, without load
	if state&idle == idle {
		return 'I'
	}
	letters := "RSDTtXZP"
	for i := len(letters) - 1; i > 0; i-- {
		if state&(1<<(i-1)) != 0 {
			return letters[i]
		}
	}
	return 'R'
}
