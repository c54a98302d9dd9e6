// SPDX-License-Identifier: Apache-2.0

package control

import (
	"os"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/policy"
	"github.com/abot-trace/abot-trace/internal/procfs"
)

// ownLine is this process and its ancestors, as the kernel has them, each with its start: a
// later process with the pid of a dead one is not of them.
type ownLine []procfs.Stat

// newOwnLine asks procfs. When an ancestor dies, another one or pid 1 takes its place: what
// was found once has all that come later.
func newOwnLine(proc procfs.FS) (line ownLine) {
	for pid := int32(os.Getpid()); pid > 0; {
		stat, err := proc.Stat(pid)
		if err != nil || len(line) > 0 && stat.StartTicks > line[len(line)-1].StartTicks {
			return line // nobody is younger than those that descend from him
		}
		line = append(line, stat)
		pid = stat.PPID
	}
	return line
}

// pid is our own; 0 where procfs did not tell.
func (l ownLine) pid() int32 {
	if len(l) == 0 {
		return 0
	}
	return l[0].PID
}

// relation is how the process is related to this one, descendants apart.
func (l ownLine) relation(id event.ID) policy.Relation {
	for i := range l {
		if l[i].Is(id) {
			if i == 0 {
				return policy.Ourselves
			}
			return policy.OurAncestor
		}
	}
	return policy.NotOurs
}
