// SPDX-License-Identifier: Apache-2.0

package state

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"time"
)

// Names of the record that a daemon leaves when it crashes, and of those of earlier
// crashes.
const (
	crashName = "crash"
	crashMark = crashName + "-"
	// maxCrash bounds what is read of one. The stacks of all goroutines may be more.
	maxCrash = 1 << 20
)

// A Crash is what is known of a daemon of this boot that did not end in order.
type Crash struct {
	Time   time.Time // when it last wrote its record: its start, where it was killed
	Reason string    // the runtime's first line; empty where it was killed and could say nothing
	Path   string    // the whole record; empty with Reason
}

// RecordCrash makes the file that this process's runtime is to write to when it crashes
// (debug.SetCrashOutput), and returns what the last daemon has left in its own: nil where
// that ended in order, or with the machine and without a word. The caller closes the file.
func (d *Dir) RecordCrash() (*os.File, *Crash, error) {
	last, err := d.takeCrash()
	if err != nil {
		return nil, nil, fmt.Errorf("crash record: %w", err)
	}
	f, err := d.dir.Create(crashName, 0o600)
	if err != nil {
		return nil, last, fmt.Errorf("crash record: %w", err)
	}
	if _, err := f.WriteString(d.crashHeader()); err != nil {
		return nil, last, errors.Join(fmt.Errorf("crash record: %w", err), f.Close())
	}
	return f, last, nil
}

// EndedInOrder removes the file of RecordCrash: nothing is to be told of this process.
func (d *Dir) EndedInOrder() error {
	if err := d.dir.Remove(crashName); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("crash record: %w", err)
	}
	return nil
}

func (d *Dir) crashHeader() string { return "boot " + d.boot + "\n" }

// takeCrash sets the last daemon's record aside and returns what it says.
func (d *Dir) takeCrash() (*Crash, error) {
	f, err := d.dir.Open(crashName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, errors.Join(err, d.dir.Remove(crashName)) // no file of ours
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxCrash))
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	said, ofThisBoot := bytes.CutPrefix(text, []byte(d.crashHeader()))
	if !ofThisBoot {
		_, said, _ = bytes.Cut(text, []byte{'\n'})
	}
	c := &Crash{Time: info.ModTime(), Reason: firstWords(said)}
	if c.Reason == "" {
		err := d.dir.Remove(crashName)
		if !ofThisBoot {
			c = nil // it ended with the machine
		}
		return c, err
	}
	name := crashMark + c.Time.UTC().Format(asideTime)
	if err := d.dir.Rename(crashName, name); err != nil {
		return nil, err
	}
	c.Path = d.dir.Path() + "/" + name
	return c, d.bound(crashMark)
}

// firstWords is the first line that says something.
func firstWords(text []byte) string {
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" {
			return line[:min(len(line), 200)]
		}
	}
	return ""
}
