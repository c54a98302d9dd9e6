// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// enoughFDs is how many descriptors a daemon has use for at least: its clients, and a
// pidfd for each process of a tree that is being ended.
const enoughFDs = 1024

// hostConditions says what the daemon cannot do because of where it runs, one sentence
// each. root stands for "/"; "" is the real one.
func hostConditions(root string, fds uint64) []string {
	var list []string
	if why := procfsProblem(root + "/proc"); why != "" {
		list = append(list, why+": command lines, marks, user ids and files of processes cannot be read, and no rule ends whom it cannot read")
	}
	if fds < enoughFDs {
		list = append(list, fmt.Sprintf("only %d descriptors (RLIMIT_NOFILE): trees are ended in portions, and clients may be turned away", fds))
	}
	return list
}

// procfsProblem says what keeps the processes from being read at dir; empty for nothing.
func procfsProblem(dir string) string {
	var st unix.Statfs_t
	switch err := unix.Statfs(dir, &st); {
	case err != nil:
		return fmt.Sprintf("no procfs at %s (%v)", dir, err)
	case st.Type != unix.PROC_SUPER_MAGIC:
		return "no procfs at " + dir
	}
	// One of another pid namespace has us under another number.
	self, err := os.Readlink(filepath.Join(dir, "self"))
	if err != nil || self != strconv.Itoa(os.Getpid()) {
		return "the procfs at " + dir + " is another pid namespace's"
	}
	if _, err := os.Stat(filepath.Join(dir, "1")); err != nil {
		return "the procfs at " + dir + " hides the processes of others (hidepid, subset)"
	}
	return ""
}

// ownHostConditions is hostConditions of this process.
func ownHostConditions() []string {
	limit := unix.Rlimit{Cur: enoughFDs}
	_ = unix.Getrlimit(unix.RLIMIT_NOFILE, &limit)
	return hostConditions("", limit.Cur)
}
