// SPDX-License-Identifier: Apache-2.0

// Package descend finds the living descendants of a process through procfs and
// signals them by pidfd, so that a reused pid is never hit.
package descend

import "github.com/abot-trace/abot-trace/internal/procfs"

// ErrGone says that a process ended, or that its pid now names another one.
var ErrGone = procfs.ErrGone

// Proc is what /proc/PID/stat says of one process.
type Proc struct {
	PID, PPID int
	// PGID and SID are its process group and session.
	PGID, SID int
	// Start is its start since boot in clock ticks (10 ms): with PID its identity
	// in procfs.
	Start uint64
	// State is the state letter of the thread group's leader.
	State byte
	// Threads counts living threads. A leader may be a zombie while they live.
	Threads int
	// Comm is hostile input: any 15 bytes.
	Comm string
}

// Alive reports whether any thread of p lives: a zombie leader with other
// threads is a living process.
func (p Proc) Alive() bool {
	return p.State != 'Z' && p.State != 'X' || p.Threads > 1
}

// Stopped reports whether p is stopped by a job control signal.
func (p Proc) Stopped() bool { return p.State == 'T' }

// Read reads the process that pid names now. The error is ErrGone when there is none.
func Read(pid int) (Proc, error) {
	st, err := procfs.FS{}.Stat(int32(pid))
	if err != nil {
		return Proc{}, err
	}
	return Proc{PID: int(st.PID), PPID: int(st.PPID), PGID: int(st.PGrp), SID: int(st.Session), Start: st.StartTicks,
		State: st.State, Threads: int(st.Threads), Comm: st.Comm.String()}, nil
}
