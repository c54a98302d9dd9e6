// SPDX-License-Identifier: Apache-2.0

package enforce

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/procfs"
	"github.com/abot-trace/abot-trace/internal/rawsys"
	"github.com/abot-trace/abot-trace/internal/rootfile"
)

// Journal remembers who is stopped by us, so that nobody stays so if we die.
type Journal interface {
	// Stopping writes down, before it returns, the processes that the kill has
	// stopped or is about to stop: all of them, each time.
	Stopping(killID string, ids []event.ID) error
	// Thawed forgets the kill: nothing is stopped by it any more.
	Thawed(killID string) error
}

// Dir is a Journal in files of a directory, one per kill. It has to outlive this
// process, not the machine: a stopped process does not either. Only its owner may
// be able to write there.
type Dir string

type journalEntry struct {
	BootID    string             `json:"boot_id"`
	KillID    string             `json:"kill_id"`
	Processes []journaledProcess `json:"processes"`
}

type journaledProcess struct {
	PID     int32  `json:"pid"`
	StartNS uint64 `json:"start_ns"`
}

const journalSuffix = ".stopped"

// maxEntry bounds what is read of one kill's notes: 64 lines, each of as many processes
// as there can be pids, are not reached.
const maxEntry = 64 << 20

func (d Dir) path(killID string) string {
	return filepath.Join(string(d), url.PathEscape(killID)+journalSuffix)
}

// Stopping implements Journal. A line is added, which is whole or ignored: what it names
// is not stopped before.
func (d Dir) Stopping(killID string, ids []event.ID) error {
	boot, err := bootID()
	if err != nil {
		return err
	}
	return appendTo(d.path(killID), appendEntry(nil, boot, killID, ids))
}

// appendEntry writes a journalEntry as a line of JSON.
func appendEntry(b []byte, boot, killID string, ids []event.ID) []byte {
	b = append(b, `{"boot_id":`...)
	b = strconv.AppendQuote(b, boot) // neither has anything that JSON writes otherwise
	b = append(b, `,"kill_id":`...)
	b = strconv.AppendQuote(b, killID)
	b = append(b, `,"processes":[`...)
	for i, id := range ids {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"pid":`...)
		b = strconv.AppendInt(b, int64(id.PID), 10)
		b = append(b, `,"start_ns":`...)
		b = strconv.AppendUint(b, id.Start, 10)
		b = append(b, '}')
	}
	return append(b, "]}\n"...)
}

// appendTo appends a line at once: the directory lies in memory.
func appendTo(path string, line []byte) error {
	fd, err := rawsys.Open(unix.AT_FDCWD, path, unix.O_WRONLY|unix.O_CREAT|unix.O_APPEND|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer rawsys.Close(fd)
	n, err := rawsys.Write(fd, line)
	switch {
	case err != nil:
		return &fs.PathError{Op: "write", Path: path, Err: err}
	case n < len(line):
		return &fs.PathError{Op: "write", Path: path, Err: io.ErrShortWrite}
	}
	return nil
}

// Thawed implements Journal.
func (d Dir) Thawed(killID string) error { return os.Remove(d.path(killID)) }

var bootID = sync.OnceValues(func() (string, error) {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(string(id)), err
})

// Thaw lets whatever an earlier process has left stopped continue, and returns how
// many that were. It goes by the start in ticks: it has to work where no probe
// does, and SIGCONT to a process that is not stopped does nothing. An entry that
// cannot be read is an error once; it is removed like the others.
func (d Dir) Thaw(proc procfs.FS) (thawed int, err error) {
	paths, err := filepath.Glob(filepath.Join(globEscape(string(d)), "*"+journalSuffix))
	if err != nil {
		return 0, err
	}
	boot, err := bootID()
	if err != nil {
		return 0, err
	}
	var errs []error
	for _, path := range paths {
		entry, err := readEntry(path)
		errs = append(errs, err)
		if err == nil && entry.BootID == boot {
			n, err := entry.thaw(proc)
			thawed += n
			errs = append(errs, err)
		}
		if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return thawed, errors.Join(errs...)
}

var globEscape = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace

// readEntry returns the last line of an entry that is whole: it names everybody.
func readEntry(path string) (entry journalEntry, err error) {
	f, err := rootfile.Own.Open(path)
	if err != nil {
		return entry, err
	}
	text, err := io.ReadAll(io.LimitReader(f, maxEntry))
	if err = errors.Join(err, f.Close()); err != nil {
		return entry, err
	}
	lines := bytes.Split(bytes.TrimSuffix(text, []byte{'\n'}), []byte{'\n'})
	for _, line := range slices.Backward(lines) {
		entry = journalEntry{}
		if err = json.Unmarshal(line, &entry); err == nil {
			return entry, nil
		}
	}
	return entry, fmt.Errorf("%s: %w", path, err)
}

func (e journalEntry) thaw(proc procfs.FS) (thawed int, err error) {
	var errs []error
	for _, p := range e.Processes {
		switch err := resume(proc, event.ID{PID: p.PID, Start: p.StartNS}); {
		case err == nil:
			thawed++
		case !errors.Is(err, procfs.ErrGone):
			errs = append(errs, err)
		}
	}
	return thawed, errors.Join(errs...)
}

// resume sends SIGCONT to a process, with the pidfd opened before the identity is
// looked at.
func resume(proc procfs.FS, id event.ID) error {
	if id.PID <= 1 || id.Start == 0 {
		return fmt.Errorf("journal names %s", id)
	}
	fd, err := pidfdOpen(id.PID)
	if errors.Is(err, unix.ESRCH) {
		return procfs.ErrGone
	}
	if err != nil {
		return fmt.Errorf("pid %d: pidfd: %w", id.PID, err)
	}
	defer unix.Close(fd)
	p, err := proc.OpenID(id)
	if err != nil {
		return err
	}
	p.Close()
	// Sent in every state: a process that was busy in the kernel has yet to stop.
	switch err := pidfdSend(fd, unix.SIGCONT); {
	case err == nil:
		return nil
	case errors.Is(err, unix.ESRCH):
		return procfs.ErrGone
	default:
		return fmt.Errorf("pid %d: SIGCONT: %w", id.PID, err)
	}
}
