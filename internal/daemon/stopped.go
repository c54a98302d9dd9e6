// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/abot-trace/abot-trace/internal/dirlock"
	"github.com/abot-trace/abot-trace/internal/enforce"
	"github.com/abot-trace/abot-trace/internal/procfs"
	"github.com/abot-trace/abot-trace/internal/rootfile"
)

// stoppedDir is where the daemon at a socket writes down whom it has stopped.
func stoppedDir(socket string) string { return filepath.Join(filepath.Dir(socket), "stopped") }

// Thaw resumes whatever a daemon at that socket has stopped and left so, because
// it was killed before it could send the SIGTERM that was to follow, and returns how
// many processes that were. While a daemon is there the error is a
// [dirlock.BusyError]: it thaws by itself, and needs its notes until then.
func Thaw(socket string) (int, error) {
	dir := stoppedDir(socket)
	held, err := rootfile.Own.OpenDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil // no daemon was ever here
	}
	if err != nil {
		return 0, fmt.Errorf("notes on stopped processes: %w", err)
	}
	defer held.Close()
	lock, err := dirlock.Acquire(dir)
	if err != nil {
		return 0, err
	}
	n, err := enforce.Dir(dir).Thaw(procfs.FS{})
	return n, errors.Join(err, lock.Release())
}

// stopJournal remembers in the runtime directory who is stopped, so that nobody stays
// so when the daemon dies in between: the next start continues them, or Thaw. The lock
// is held as long as the daemon lives.
func (d *daemon) stopJournal() enforce.Journal {
	journal, err := d.openStopped()
	if err != nil {
		d.Log.Warn("the journal of stopped processes is not available: kills skip the step that stops a tree first", "err", err)
		return nil
	}
	if n, err := journal.Thaw(procfs.FS{}); err != nil || n > 0 {
		d.Log.Warn("continued what an earlier daemon had stopped", "processes", n, "err", err)
	}
	return journal
}

func (d *daemon) openStopped() (enforce.Dir, error) {
	dir := stoppedDir(d.Socket)
	held, err := rootfile.Own.MakeDir(dir, 0o700)
	if err != nil {
		return "", fmt.Errorf("journal of stopped processes: %w", err)
	}
	defer held.Close()
	if d.stopped, err = dirlock.Acquire(dir); err != nil {
		return "", fmt.Errorf("journal of stopped processes: %w", err)
	}
	return enforce.Dir(dir), nil
}

// closeStopped lets the next daemon, or Thaw, have the notes.
func (d *daemon) closeStopped() {
	if d.stopped != nil {
		_ = d.stopped.Release()
	}
}
