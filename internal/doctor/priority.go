// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

const capSysNice = 23 // capabilities(7)

// priority tells whether the daemon runs before what it watches, or could.
func (r *Report) priority(daemon int) {
	const hint = "give it CAP_SYS_NICE (a container: --cap-add=SYS_NICE), or start it at nice -20"
	if daemon == 0 {
		caps, err := effectiveCapabilities()
		r.ability(err == nil && caps&(1<<capSysNice) != 0, hint)
		return
	}
	nice, err := niceOf(daemon)
	switch {
	case errors.Is(err, unix.ESRCH):
		r.add("priority", OK, "of the daemon cannot be told: it is in another pid namespace", "")
	case err != nil:
		r.add("priority", Degraded, fmt.Sprintf("of the daemon cannot be told: %v", err), "")
	case nice >= 0:
		r.add("priority", Degraded, fmt.Sprintf("the daemon runs at nice %d: in a storm of processes records may be lost, and kills come late", nice), hint)
	default:
		r.add("priority", OK, fmt.Sprintf("the daemon runs at nice %d, before what it watches", nice), "")
	}
}

// ability tells whether a daemon that is started here could raise its priority.
func (r *Report) ability(raises bool, hint string) {
	if raises {
		r.add("priority", OK, "a daemon started here raises its own", "")
		return
	}
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NICE, &limit) == nil && limit.Cur >= 40 { // 20 - nice, getrlimit(2)
		r.add("priority", OK, "a daemon started here raises its own, by the limit on nice", "")
		return
	}
	r.add("priority", Degraded, "a daemon started here runs at nice 0: in a storm of processes records may be lost, and kills come late", hint)
}

// niceOf returns the nice value of a process; the system call returns 20 less it
// (getpriority(2)).
func niceOf(pid int) (int, error) {
	priority, err := unix.Getpriority(unix.PRIO_PROCESS, pid)
	return 20 - priority, err
}
