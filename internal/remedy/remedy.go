// SPDX-License-Identifier: Apache-2.0

// Package remedy says what keeps a leak from coming back: one sentence for its kind, with a
// place in docs/prevention.md. It is pure: no clock, no I/O.
package remedy

import (
	"slices"
	"strings"

	"github.com/abot-trace/abot-trace/internal/program"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// A Kind is what a leak is for who is to prevent it.
type Kind string

// The kinds, in the order in which they are tried: the one whose setting ends all that is left,
// whatever the program does, before what the program can do.
const (
	Memory     Kind = "memory"      // the kernel ended the leaker when memory ran out
	Container  Kind = "container"   // it was left in a container
	Cron       Kind = "cron"        // by a job of cron
	KillMode   Kind = "kill_mode"   // in a unit that leaves processes on purpose
	Patience   Kind = "patience"    // the leaker was asked to end, and killed before it had
	PythonPool Kind = "python_pool" // workers of a Python program
	Pool       Kind = "pool"        // workers of any other program
	Wrapper    Kind = "wrapper"     // the one command that a shell waited for
	Shell      Kind = "shell"       // commands of a shell
	Python     Kind = "python"      // what a Python program had started
	Program    Kind = "program"     // what any other program had started
)

// page is where all links lead to.
const page = "docs/prevention.md"

var remedies = map[Kind]struct{ text, section string }{
	Memory: {"One process was ended for memory, not those that it had started: OOMPolicy=kill in the unit " +
		"(memory.oom.group of a cgroup) has the kernel end all of them", "when-memory-runs-out"},
	Container: {"Have the container's first process end what is left: abot-trace supervise as its ENTRYPOINT", "a-container"},
	Cron:      {"Run the job below abot-trace supervise in its crontab line", "a-crontab-line"},
	KillMode: {"KillMode=mixed in the unit has systemd end what its main process leaves behind; " +
		"the unit's setting now says to leave it", "a-systemd-unit"},
	Patience: {"It was asked to end and killed before it had: give it longer (TimeoutStopSec= of a unit), or have its own " +
		"shutdown take less", "a-service-that-is-killed-too-early"},
	Pool: {"These are its own workers: shut the pool down whatever happens, and have a worker end when its parent does",
		"a-pool-of-workers"},
	PythonPool: {"These are its own workers: close the pool in a with block, and register it with the Python module abot_trace, " +
		"which ends it after kill -9, too", "a-pool-of-workers"},
	Wrapper: {"A wrapper waited for one command: let it exec that, and the signal reaches the command itself", "a-wrapper-script"},
	Shell:   {"Run the script below abot-trace supervise, which leaves none of its commands behind", "recipes"},
	Python: {"Register what it starts with the Python module abot_trace, or run it below abot-trace supervise",
		"in-a-python-program"},
	Program: {"Run it below abot-trace supervise; a Go program can use the package shutdown itself", "in-a-go-program"},
}

// Of returns the remedy of a kind; nil for what is none.
func Of(k Kind) *wire.Remedy {
	r, ok := remedies[k]
	if !ok {
		return nil
	}
	return &wire.Remedy{Kind: string(k), Text: r.text, Link: page + "#" + r.section}
}

// KindOf says of which kind a leak is, while its members are known. killMode is the KillMode
// of the leaker's unit, empty where it is not known.
func KindOf(l *wire.Leak, killMode string) Kind {
	leaver := &l.Leaker
	runs := program.Of(leaver.Cmdline, leaver.Exe, leaver.Comm)
	switch exit := leaver.Exit; {
	case exit != nil && exit.OOM:
		return Memory
	case leaver.Container != "":
		return Container
	case slices.Contains(cronUnits, leaver.Unit):
		return Cron
	case killMode == "process" || killMode == "none":
		return KillMode
	case exit != nil && exit.Signal == "SIGKILL" && exit.AskedBy != nil:
		return Patience
	}
	switch {
	case hasWorker(l, &runs) && runs.Python():
		return PythonPool
	case hasWorker(l, &runs):
		return Pool
	case runs.Shell() && waited(l):
		return Wrapper
	case runs.Shell():
		return Shell
	case runs.Python():
		return Python
	}
	return Program
}

// cronUnits are the services in which jobs run that cron and at start.
var cronUnits = []string{"cron.service", "crond.service", "cronie.service", "anacron.service", "atd.service"}

// hasWorker reports whether one of the leaker's own children runs what the leaker ran, or, by the
// same interpreter, code that was given to it (as multiprocessing does). Another script is a
// command like any other, and so is a shell below a shell.
func hasWorker(l *wire.Leak, runs *program.Program) bool {
	return !runs.Shell() && slices.ContainsFunc(l.Members, func(m wire.LeakMember) bool {
		p := program.Of(m.Cmdline, "", m.Comm)
		return m.Direct && p.Name == runs.Name && (p.Script == runs.Script || strings.HasPrefix(p.Script, "-c "))
	})
}

// waited reports whether the leaker was ended while it had one child: a shell that ended by
// itself had put that one into the background.
func waited(l *wire.Leak) bool {
	direct := 0
	for _, m := range l.Members {
		if m.Direct {
			direct++
		}
	}
	return direct == 1 && l.Leaker.Exit != nil && l.Leaker.Exit.Signal != ""
}
