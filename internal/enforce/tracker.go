// SPDX-License-Identifier: Apache-2.0

package enforce

import (
	"regexp"
	"slices"

	"golang.org/x/sys/unix"
)

// trackerCode is the code that such a process is started with: by multiprocessing
// (semaphore_tracker before Python 3.8), loky, joblib's copy of it, or billiard.
var trackerCode = regexp.MustCompile(`^from [\w.]+\.(resource|semaphore)_tracker import main;? *main\(`)

// ResourceTracker reports whether args are those of the process that Python's
// multiprocessing, or a package of its kind, starts to unlink shared memory and semaphores when
// everybody who could is gone. It ignores SIGINT and SIGTERM and ends by itself then, at the end
// of file of a pipe; whoever kills it earlier leaks what it keeps track of. It is
// a Target with Last.
//
// Anyone can have such arguments. All that it gains is to die last.
func ResourceTracker(args []string) bool {
	code := slices.Index(args, "-c") + 1
	return code > 0 && code < len(args) && trackerCode.MatchString(args[code])
}

// maxHelpers bounds whose descriptors are looked at.
const maxHelpers = 64

// spareHelpers finds, before SIGKILL, who of those left waits for the others to end, as a
// resource tracker does, whatever it is called: it ignores what asked it to end, and reads from a
// pipe that others of those left can write to, and it cannot. It ends at that pipe's end of file,
// or is killed when it does not: it becomes a Target with Last. Where one is known already, nobody
// else is looked for: a pool's workers that ignore SIGTERM wait at a pipe of the kind, too.
func (k *kill) spareHelpers() {
	left := k.which(isNotLast)
	if first := k.req.firstSignal(); first == unix.SIGKILL || len(k.which(isLast)) > 0 || len(left) < 2 || len(left) > maxHelpers || k.ctx.Err() != nil {
		return
	}
	reads, writers := make(map[*member][]string), make(map[string]int)
	for _, m := range left {
		r, w, ignores := k.pipes(m)
		slices.Sort(w)
		for _, name := range slices.Compact(w) {
			writers[name]++
		}
		if ignores {
			reads[m] = slices.DeleteFunc(r, func(name string) bool { return slices.Contains(w, name) })
		}
	}
	for m, names := range reads {
		m.Last = slices.ContainsFunc(names, func(name string) bool { return writers[name] > 0 })
	}
}

// pipes returns the pipes that a member can read from and write to, and whether it ignores the
// first signal: nothing of one of whom that cannot be read.
func (k *kill) pipes(m *member) (reads, writes []string, ignores bool) {
	p, err := k.FS.OpenID(m.ID)
	if err != nil {
		return nil, nil, false
	}
	defer p.Close()
	st, err := p.Stat()
	if err != nil {
		return nil, nil, false
	}
	reads, writes, err = p.Pipes()
	if err != nil {
		return nil, nil, false
	}
	return reads, writes, st.Ignores(k.req.firstSignal())
}
