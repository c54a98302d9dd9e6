// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/probe"
)

// kernel looks at what the kernel has: its release, its type information, lockdown.
func (r *Report) kernel(s Settings) {
	release := kernelRelease()
	major, minor := splitRelease(release)
	if major > 5 || major == 5 && minor >= 8 {
		r.need("kernel", OK, release, "")
	} else {
		r.need("kernel", Missing, release+" has no BPF ring buffer", "use Linux 5.8 or newer")
	}
	const types = "/sys/kernel/btf/vmlinux"
	if info, err := os.Stat(s.Root + types); err == nil {
		r.need("btf", OK, fmt.Sprintf("%s, %d MiB", types, (info.Size()+1<<19)>>20), "")
	} else {
		r.need("btf", Missing, types+" is not there",
			"use a kernel with CONFIG_DEBUG_INFO_BTF=y; in a container mount /sys/kernel/btf")
	}
	switch mode := probe.Lockdown(); mode {
	case "confidentiality":
		r.add("lockdown", Degraded, "confidentiality: file names and arguments come from procfs, which misses processes that end at once",
			`boot with lockdown=integrity where that is acceptable`)
	case "":
		r.add("lockdown", OK, "not compiled in, or securityfs is not mounted", "")
	default:
		r.add("lockdown", OK, mode, "")
	}
}

func kernelRelease() string {
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return err.Error()
	}
	return unix.ByteSliceToString(uts.Release[:])
}

// splitRelease returns the first two numbers of a release, zeros where there are none.
func splitRelease(release string) (major, minor int) {
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err != nil {
		return 0, 0
	}
	return major, minor
}

// A capability and what goes without it.
type capability struct {
	bit     int
	name    string
	without string
}

// Bits as in capabilities(7). The first two tracing needs.
var capabilities = []capability{
	{39, "CAP_BPF", ""},
	{38, "CAP_PERFMON", ""},
	{5, "CAP_KILL", "other users' processes cannot be ended"},
	{19, "CAP_SYS_PTRACE", "which program another user's process runs is not seen"},
	{2, "CAP_DAC_READ_SEARCH", "other users' marks (ABOT_TRACE_KEEP) are seen only at exec"},
}

// capSysAdmin stands in for BPF and PERFMON.
const capSysAdmin = 21

func (r *Report) capabilities(traced bool) {
	caps, err := effectiveCapabilities()
	if err != nil {
		r.need("capabilities", Missing, err.Error(), "")
		return
	}
	has := func(bit int) bool { return caps&(1<<bit) != 0 }
	var vital, lesser []string
	for _, c := range capabilities {
		switch {
		case has(c.bit) || c.without == "" && has(capSysAdmin):
		case c.without == "":
			vital = append(vital, c.name)
		default:
			lesser = append(lesser, "without "+c.name+" "+c.without)
		}
	}
	switch {
	case len(vital) > 0 && traced:
		r.add("capabilities", Degraded, "this user cannot trace; the daemon can", "run doctor as root to look deeper")
	case len(vital) > 0:
		r.need("capabilities", Missing, strings.Join(vital, " and ")+" missing", "run it as root, or grant "+strings.Join(vital, " and "))
	case len(lesser) > 0:
		r.add("capabilities", Degraded, strings.Join(lesser, "; "), "grant them, as abot-trace.service does")
	default:
		r.need("capabilities", OK, "BPF PERFMON KILL SYS_PTRACE DAC_READ_SEARCH", "")
	}
}

func effectiveCapabilities() (uint64, error) {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return 0, fmt.Errorf("capget: %w", err)
	}
	return uint64(data[1].Effective)<<32 | uint64(data[0].Effective), nil
}

// memlock matters before 5.11, where BPF memory counts against the limit.
func (r *Report) memlock() {
	major, minor := splitRelease(kernelRelease())
	if major > 5 || major == 5 && minor >= 11 {
		r.add("memlock", OK, "not counted by this kernel", "")
		return
	}
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit); err != nil {
		r.add("memlock", Degraded, err.Error(), "")
		return
	}
	need := uint64(2 * probe.DefaultRingBytes)
	if limit.Cur >= need || limit.Max >= need || os.Geteuid() == 0 {
		r.add("memlock", OK, limitText(limit.Max), "")
		return
	}
	r.add("memlock", Degraded, fmt.Sprintf("%s, the ring needs up to %d MiB", limitText(limit.Max), need>>20),
		"set LimitMEMLOCK=infinity, as abot-trace.service does")
}

func limitText(limit uint64) string {
	if limit == unix.RLIM_INFINITY {
		return "unlimited"
	}
	return fmt.Sprintf("limit of %d KiB", limit>>10)
}

// otherEnds tries to borrow a descriptor of this process's own: by that it is told who is at
// the other ends of an orphan's standard input, output and error.
func (r *Report) otherEnds(getfd func(pidfd, fd, flags int) (int, error)) {
	const without = "who is at the other ends of an orphan's standard input, output and error is not known, and verdicts that hang on it stay unknown"
	pidfd, err := unix.PidfdOpen(os.Getpid(), 0)
	if err == nil {
		defer unix.Close(pidfd)
		var own int
		if own, err = getfd(pidfd, pidfd, 0); err == nil {
			_ = unix.Close(own)
			r.add("other ends", OK, "descriptors can be borrowed (pidfd_getfd)", "")
			return
		}
	}
	r.add("other ends", Degraded, fmt.Sprintf("pidfd_getfd: %v: %s", err, without),
		"in a container allow pidfd_getfd in its filter of system calls; it is there from Linux 5.6")
}

// programs tries the load of each program.
func (r *Report) programs(traced bool) {
	trials, err := probe.Try()
	if err != nil {
		if traced && errors.Is(err, os.ErrPermission) {
			return // said under capabilities
		}
		r.need("programs", Missing, err.Error(), probe.Hint(err))
		return
	}
	for _, t := range trials {
		name := "program " + t.Program
		switch {
		case t.Err == nil && t.Limited:
			r.add(name, Degraded, "loads without reads of kernel memory only: the stdio of some processes stays unknown, and so their verdict", "see lockdown")
		case t.Err == nil:
			r.add(name, OK, "loads", "")
		case t.Optional:
			r.add(name, Degraded, t.Err.Error(), "file names and arguments come from procfs instead")
		default:
			r.need(name, Missing, t.Err.Error(), probe.Hint(t.Err))
		}
	}
}

// procfs looks whether the processes can be read.
func (r *Report) procfs(s Settings) {
	var st unix.Statfs_t
	dir := s.Root + "/proc"
	if err := unix.Statfs(dir, &st); err != nil || st.Type != unix.PROC_SUPER_MAGIC {
		r.add("procfs", Degraded, "not at "+dir+": command lines, marks and user ids of processes cannot be read", "mount -t proc proc "+dir)
		return
	}
	r.add("procfs", OK, dir, "")
}

// namespace tells whose processes are seen.
func (r *Report) namespace(s Settings) {
	target, err := os.Readlink(s.Root + "/proc/self/ns/pid")
	// The inode of the initial namespace is fixed (PROC_PID_INIT_INO, include/linux/proc_ns.h).
	switch {
	case err != nil:
		r.add("pid namespace", Degraded, err.Error(), "mount proc")
	case target == "pid:[4026531836]":
		r.add("pid namespace", OK, "the host's: all its processes are seen", "")
	default:
		r.add("pid namespace", Degraded, "not the host's: only processes in it and below it are seen",
			"to trace the host use --pid=host, or hostPID: true")
	}
}

// bytesPerProcess is what the records of one process's life take in the ring: fork,
// exec with a typical command line, exit, each with its header.
const bytesPerProcess = 620

// ring holds the ring's size against how fast this host has made processes so far.
func (r *Report) ring(s Settings) {
	made, uptime, err := processRate(s.Root)
	if err != nil {
		r.add("ring", Degraded, "cannot tell the fork rate: "+err.Error(), "")
		return
	}
	lives := float64(probe.DefaultRingBytes) / bytesPerProcess
	rate := float64(made) / max(uptime.Seconds(), 1)
	holds := time.Duration(lives / max(rate, 1) * float64(time.Second))
	detail := fmt.Sprintf("%d MiB hold %.0f processes' records: %s at this host's average of %.1f a second",
		probe.DefaultRingBytes>>20, lives, holds.Round(time.Second), rate)
	if holds < 2*time.Second {
		r.add("ring", Degraded, detail, "look for what starts so many processes")
		return
	}
	r.add("ring", OK, detail, "")
}

// processRate returns how many processes and threads were made since boot, and how
// long ago that was.
func processRate(root string) (uint64, time.Duration, error) {
	stat, err := os.ReadFile(root + "/proc/stat")
	if err != nil {
		return 0, 0, err
	}
	up, err := os.ReadFile(root + "/proc/uptime")
	if err != nil {
		return 0, 0, err
	}
	first, _, _ := strings.Cut(string(up), " ")
	seconds, err := strconv.ParseFloat(first, 64)
	if err != nil {
		return 0, 0, fmt.Errorf("uptime: %w", err)
	}
	for line := range strings.Lines(string(stat)) {
		if count, ok := strings.CutPrefix(line, "processes "); ok {
			made, err := strconv.ParseUint(strings.TrimSpace(count), 10, 64)
			return made, time.Duration(seconds * float64(time.Second)), err
		}
	}
	return 0, 0, errors.New("/proc/stat has no line for processes")
}
