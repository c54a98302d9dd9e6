// SPDX-License-Identifier: Apache-2.0

package verdict

import (
	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/event"
)

// signs are those of a detached process.
type signs struct {
	session, hup, stdio bool
}

func (s signs) any() bool { return s != signs{} }
func (s signs) with(o signs) signs {
	return signs{s.session || o.session, s.hup || o.hup, s.stdio || o.stdio}
}
func (s signs) sessionOnly() bool { return s == signs{session: true} }

// launch is the state that the program which launched the orphan had when it forked: of a
// step of its code (the middle of a double fork), when it forked that.
func (f *Facts) launch() event.Origin {
	if l := &f.Leaker; f.Direct && !f.Tied && l.StartKnown && f.cause() == causeStep {
		return l.Start
	}
	return f.Launch
}

// ownSigns are those that the orphan gave by its own code: since it began to execute, or
// else since the program that it runs forked it, steps of that program's code included.
//
// What a program forks and sets up to work for it has /dev/null and ignores SIGHUP, too:
// where whom it worked for was killed, or failed, only a session is a sign of such a one.
func (f *Facts) ownSigns() signs {
	if f.Executed {
		return between(f.Exec, f.Now)
	}
	s := between(f.launch(), f.Now)
	if c := f.cause(); c == causeKilled || c == causeFailed {
		s.hup, s.stdio = false, false
	}
	return s
}

// preparedSigns are those that the launching code gave it before it executed. A SIGHUP that
// is ignored is handed down by fork too.
func (f *Facts) preparedSigns() signs {
	launch := f.launch()
	if !f.Executed {
		return signs{hup: launch.HupIgnored}
	}
	s := between(launch, f.Exec)
	s.hup = f.Exec.HupIgnored
	return s
}

// wrapperSigns are those of a launcher whose whole life was to launch the orphan, a program
// like setsid(1) before a shell: what it was given before it executed, and gave itself, the
// orphan has from it. They count only together: a session alone is made for what is to be
// ended, too.
func (f *Facts) wrapperSigns() signs {
	l := &f.Leaker
	if f.cause() != causeLeft || !l.StartKnown || l.Life <= 0 || l.Life > PreparedFor {
		return signs{}
	}
	state := f.Launch
	if f.Executed {
		state = f.Exec
	}
	s := between(l.Start, state)
	if !s.session || !s.stdio {
		return signs{}
	}
	return s
}

// between returns what makes the later state more detached than the earlier.
func between(before, after event.Origin) signs {
	return signs{
		session: after.SessionOwn && !before.SessionOwn ||
			after.Session != before.Session && after.Session != 0 && before.Session != 0,
		hup:   after.HupIgnored && !before.HupIgnored,
		stdio: replaced(before.Stdio, after.Stdio),
	}
}

// replaced reports whether all of 0, 1 and 2 are closed, /dev/null or regular files that
// were not there before, and at least one of them is another than before: a worker of a
// service whose output goes to /dev/null has replaced nothing.
func replaced(before, after event.Stdio) bool {
	changed := false
	for fd, file := range after {
		own := !file.Known() || file.IsNull() || isRegular(file) && !holds(before, file)
		if !own {
			return false
		}
		changed = changed || file != before[fd]
	}
	return changed
}

func isRegular(f event.File) bool { return f.Mode&unix.S_IFMT == unix.S_IFREG }

func holds(stdio event.Stdio, f event.File) bool {
	for _, own := range stdio {
		if own.Dev == f.Dev && own.Ino == f.Ino {
			return true
		}
	}
	return false
}

// own tells the signs that the orphan gave.
func (s signs) own() (lines []string) {
	if s.session {
		lines = append(lines, "it put itself into a new session (setsid)")
	}
	if s.hup {
		lines = append(lines, "it began to ignore SIGHUP (nohup)")
	}
	if s.stdio {
		lines = append(lines, "it replaced its standard input, output and error by /dev/null or files")
	}
	return lines
}

// prepared tells the signs that its launcher gave it.
func (s signs) prepared() (lines []string) {
	if s.session {
		lines = append(lines, "its launcher's code put it into a new session (setsid) before it executed")
	}
	if s.hup {
		lines = append(lines, "it ignores SIGHUP since before it executed, as its launcher had it")
	}
	if s.stdio {
		lines = append(lines, "its launcher's code gave it /dev/null or files for standard input, output and error")
	}
	return lines
}

// Abandoned reports whether nobody is at the other end of one of 0, 1 and 2.
func (f *Facts) Abandoned() bool {
	for _, end := range f.Ends {
		if end == EndAbandoned {
			return true
		}
	}
	return false
}

// endsKnown reports whether all other ends are, or whether one that nobody holds makes
// the rest idle.
func (f *Facts) endsKnown() bool {
	if f.Abandoned() {
		return true
	}
	for _, end := range f.Ends {
		if end == EndUnknown {
			return false
		}
	}
	return true
}
