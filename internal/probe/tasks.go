// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/bpf"
	"github.com/abot-trace/abot-trace/internal/event"
)

// newTaskReader returns a reader with room for that many tasks.
func newTaskReader(room int) *taskReader {
	return &taskReader{
		pageSize: uint64(os.Getpagesize()),
		tasks:    make([]event.Task, 0, room),
		threads:  make(map[int32]bpf.CoreThreadRecord),
		// The kernel fills at most eight pages a read, and may split a line.
		buf: make([]byte, 64<<10),
	}
}

// readAll decodes the task iterator's output. The result is good until the next call.
func (t *taskReader) readAll(r io.Reader) ([]event.Task, error) {
	t.tasks = t.tasks[:0]
	clear(t.threads)
	buf, held := t.buf, 0
	for {
		n, err := r.Read(buf[held:])
		held += n
		used, decodeErr := t.addAll(buf[:held])
		if decodeErr != nil {
			return nil, decodeErr
		}
		held = copy(buf, buf[used:held])
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("read task iterator: %w", err)
		}
	}
	if held != 0 {
		return nil, fmt.Errorf("%w: %d bytes after the last task", ErrMalformed, held)
	}
	return t.finish(), nil
}

func (t *taskReader) addAll(b []byte) (int, error) {
	used := 0
	for {
		n, err := t.add(b[used:])
		if n == 0 || err != nil {
			return used, err
		}
		used += n
	}
}

// ownNamespace returns the inode of this process's pid namespace, or 0 where it is
// the initial one.
func ownNamespace() (uint32, error) {
	var st unix.Stat_t
	if err := unix.Stat("/proc/self/ns/pid", &st); err != nil {
		return 0, fmt.Errorf("own pid namespace: %w", err)
	}
	// The inode of the initial namespace is fixed (PROC_PID_INIT_INO, include/linux/proc_ns.h).
	const initial = 0xEFFFFFFC
	if st.Ino == initial {
		return 0, nil
	}
	return uint32(st.Ino), nil
}
