// SPDX-License-Identifier: Apache-2.0

package sample

import (
	"os/user"
	"strconv"
	"time"

	"github.com/shirou/gopsutil/v3/process"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/procfs"
	"github.com/abot-trace/abot-trace/internal/safetext"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// Describe returns a process as the wire shows it, for the few that are shown: exe,
// command line without its likely secrets, user. What cannot be read, or would be
// of another process that has taken the pid, is absent.
func Describe(u Usage, boot time.Duration, now time.Time) wire.Process {
	started := now.Add(time.Duration(u.ID.Start) - boot)
	p := wire.Process{PID: u.ID.PID, StartNS: u.ID.Start, PPID: u.Parent.PID, Comm: u.Comm.String(), UID: &u.UID,
		State: wire.StateRunning, StartedAt: &started, Lineage: wire.LineageUnknown,
		RSSBytes: &u.RSS, SwapBytes: &u.Swap, Threads: u.Threads}
	if u.CPUKnown {
		p.CPUPercent = &u.CPUPercent
	}
	seconds := float64(u.CPU) / 1e9
	p.CPUSeconds = &seconds
	if who, err := user.LookupId(strconv.FormatUint(uint64(u.UID), 10)); err == nil {
		p.User = who.Username
	}
	// Constructed, not looked up: looking up asks for the start as a time of day.
	proc := &process.Process{Pid: u.ID.PID}
	exe, _ := proc.Exe()
	args, _ := proc.CmdlineSlice()
	// Only now: what was read before is of this process, if it still is the same.
	if sameProcess(u.ID) {
		p.Exe, p.Cmdline = exe, safetext.Redact(args)
	}
	return p
}

// sameProcess reports whether the pid is still that identity, at the precision of
// procfs.
func sameProcess(id event.ID) bool {
	st, err := procfs.FS{}.Stat(id.PID)
	return err == nil && st.Is(id)
}
