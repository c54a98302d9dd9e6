// SPDX-License-Identifier: Apache-2.0

package descend

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/procfs"
)

// Check reports why procfs cannot serve this process: not mounted, or mounted
// for another pid namespace, whose numbers would name other processes here.
func Check() error {
	self, err := os.Readlink("/proc/self")
	if err != nil {
		return fmt.Errorf("procfs is not mounted for this pid namespace: %w", err)
	}
	if self != strconv.Itoa(os.Getpid()) {
		return fmt.Errorf("procfs shows another pid namespace: it calls this process %s, not %d", self, os.Getpid())
	}
	return nil
}

// Walk visits the living descendants of root, parents first, root itself left
// out. Where visit returns false the descendants of that process are left out.
//
// One walk is no snapshot: what forks or moves behind it is missed. Walk again
// until nothing new is found. Children of root that root has not yet reaped are
// always found, provided that nobody reaps while Walk runs.
func Walk(root int, visit func(Proc) bool) error {
	list, err := lister()
	if err != nil {
		return err
	}
	seen := map[int]bool{root: true}
	queue := []int{root}
	for len(queue) > 0 {
		parent := queue[0]
		queue = queue[1:]
		for _, pid := range list(parent) {
			if seen[pid] {
				continue
			}
			seen[pid] = true
			p, err := Read(pid)
			if err != nil && parent == root && !errors.Is(err, ErrGone) {
				// procfs hides it (hidepid), but it is there.
				p, err = Proc{PID: pid, PPID: root, State: '?', Threads: 1}, nil
			}
			if err != nil || !p.Alive() {
				continue
			}
			if visit(p) {
				queue = append(queue, pid)
			}
		}
	}
	return nil
}

// List returns the living descendants of root, parents first.
func List(root int) ([]Proc, error) {
	var procs []Proc
	err := Walk(root, func(p Proc) bool {
		procs = append(procs, p)
		return true
	})
	return procs, err
}

var hasChildrenFiles = sync.OnceValue(procfs.FS{}.HasChildren)

// lister returns a function that lists the children of a process: from the
// kernel's own lists where it shows them (CONFIG_PROC_CHILDREN), otherwise from
// one look at every process.
func lister() (func(pid int) []int, error) {
	if hasChildrenFiles() {
		return func(pid int) []int { return ints(procfs.FS{}.Children(int32(pid))) }, nil
	}
	byParent, err := procfs.FS{}.ChildrenByParent()
	if err != nil {
		return nil, err
	}
	return func(pid int) []int { return ints(byParent[int32(pid)]) }, nil
}

func ints(pids []int32) []int {
	out := make([]int, len(pids))
	for i, pid := range pids {
		out[i] = int(pid)
	}
	return out
}

// Ancestors returns the pids of the processes above pid, nearest first, as far
// as this pid namespace shows them.
func Ancestors(pid int) []int {
	var pids []int
	for {
		p, err := Read(pid)
		if err != nil || p.PPID <= 0 {
			return pids
		}
		pid = p.PPID
		pids = append(pids, pid)
	}
}

// Cmdline returns the arguments of pid; it is empty for kernel threads and
// zombies. The arguments are hostile input.
func Cmdline(pid int) ([]string, error) { return nulList(pid, "cmdline") }

// Environ returns the environment that pid was started with, for as far as the
// process has not overwritten it. It needs the right to trace pid.
func Environ(pid int) ([]string, error) { return nulList(pid, "environ") }

// nulList reads a file of /proc/PID that is a list of texts, each ended by a NUL.
func nulList(pid int, file string) ([]string, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/" + file)
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return nil, ErrGone
	}
	if err != nil {
		return nil, err
	}
	b = bytes.TrimSuffix(b, []byte{0})
	if len(b) == 0 {
		return nil, nil
	}
	var list []string
	for s := range bytes.SplitSeq(b, []byte{0}) {
		list = append(list, string(s))
	}
	return list, nil
}

// Zombies returns the children of pid that have ended and were not waited for.
func Zombies(pid int) ([]Proc, error) {
	list, err := lister()
	if err != nil {
		return nil, err
	}
	var zombies []Proc
	for _, child := range list(pid) {
		if p, err := Read(child); err == nil && !p.Alive() {
			zombies = append(zombies, p)
		}
	}
	return zombies, nil
}
