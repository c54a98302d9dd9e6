// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/event"
)

// ErrLeaderEnded is that of files that cannot be read any more: the leading thread has ended,
// and with it what procfs shows of them. Other threads may live on, or end just now.
var ErrLeaderEnded = errors.New("the leading thread has ended")

// Stdio returns what is open on descriptors 0, 1 and 2; a closed one is the zero
// File. It never waits for a file server: what a network file system has cached
// of an inode's type and number is all that is needed.
func (p *Process) Stdio() (event.Stdio, error) {
	stdio, stdioErr := p.stdio()
	// A process that has just died shows no open file either, or refuses to.
	st, err := p.Stat()
	if err != nil {
		return event.Stdio{}, err
	}
	if err := p.hasFiles(&st); err != nil {
		return event.Stdio{}, err
	}
	return stdio, stdioErr
}

func (p *Process) stdio() (stdio event.Stdio, err error) {
	for i, name := range [...]string{"fd/0", "fd/1", "fd/2"} {
		if stdio[i], err = p.file(name); err != nil {
			return event.Stdio{}, err
		}
	}
	return stdio, nil
}

// hasFiles says why a process with the given stat, read afterwards, cannot be
// believed to have closed a file that was not found.
func (p *Process) hasFiles(st *Stat) error {
	switch {
	case st.Dead():
		return p.fail("fd", ErrGone)
	case st.State == 'Z':
		return p.fail("fd", ErrLeaderEnded)
	}
	return nil
}

func (p *Process) file(name string) (event.File, error) {
	const flags = unix.AT_STATX_DONT_SYNC | unix.AT_NO_AUTOMOUNT
	var st unix.Statx_t
	for {
		err := unix.Statx(p.dir, name, flags, unix.STATX_TYPE|unix.STATX_INO, &st)
		switch err {
		case nil:
			return event.File{
				Dev:  unix.Mkdev(st.Dev_major, st.Dev_minor),
				Ino:  st.Ino,
				Mode: uint32(st.Mode) & unix.S_IFMT,
				Rdev: unix.Mkdev(st.Rdev_major, st.Rdev_minor),
			}, nil
		case unix.ENOENT:
			return event.File{}, nil
		case unix.EINTR:
		default:
			return event.File{}, p.fail(name, err)
		}
	}
}

// Origin reads the detachment state that the process has now. A dead process is
// ErrGone, reaped or not. After any other error what could be read is set;
// StdioKnown says whether Stdio is among it.
func (p *Process) Origin() (event.Origin, error) {
	return p.origin(event.ID{PID: p.pid})
}

// Origin reads the detachment state of a process: ErrGone where the pid has
// another owner by now, as OpenID says it. It costs nine system calls and never
// blocks on the process.
func (f FS) Origin(id event.ID) (event.Origin, error) {
	p, err := f.open(id.PID)
	if err != nil {
		return event.Origin{}, err
	}
	defer p.Close()
	return p.origin(id)
}

// origin takes all but the files from stat: its SIGHUP bit is the one of status, at
// a third of the cost.
func (p *Process) origin(id event.ID) (event.Origin, error) {
	stdio, stdioErr := p.stdio()
	st, err := p.Stat()
	if err != nil {
		return event.Origin{}, err
	}
	if st.Dead() || !st.Is(id) {
		return event.Origin{}, p.fail("origin", ErrGone)
	}
	o := event.Origin{
		Session:    st.Session,
		SessionOwn: st.Session == st.PID,
		HupIgnored: st.Ignores(unix.SIGHUP),
		Tty:        st.TTY != 0,
	}
	if stdioErr == nil {
		stdioErr = p.hasFiles(&st)
	}
	if stdioErr != nil {
		return o, stdioErr
	}
	o.StdioKnown, o.Stdio = true, stdio
	return o, nil
}
