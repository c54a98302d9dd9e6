// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"bytes"
	"os"
	"strconv"
)

// PIDs returns the pids of all processes that are shown, zombies included, in no order.
func (f FS) PIDs() ([]int32, error) {
	names, err := readNames(f.root())
	if err != nil {
		return nil, err
	}
	pids := make([]int32, 0, len(names))
	for _, name := range names {
		if pid, err := strconv.ParseInt(name, 10, 32); err == nil && pid > 0 {
			pids = append(pids, int32(pid))
		}
	}
	return pids, nil
}

// HasChildren reports whether the kernel shows its own lists of children
// (CONFIG_PROC_CHILDREN).
func (f FS) HasChildren() bool {
	_, err := os.Stat(f.root() + "/thread-self/children")
	return err == nil
}

// Children returns the children of a process, zombies included, as the kernel lists them
// under each of its threads; nobody where it has ended. The kernel must show its lists: see
// HasChildren.
func (f FS) Children(pid int32) []int32 {
	dir := f.path(pid, "task/")
	threads, err := readNames(dir)
	if err != nil {
		return nil
	}
	var pids []int32
	for _, tid := range threads {
		b, err := os.ReadFile(dir + tid + "/children")
		if err != nil {
			continue
		}
		for word := range bytes.FieldsSeq(b) {
			if child, err := strconv.ParseInt(string(word), 10, 32); err == nil {
				pids = append(pids, int32(child))
			}
		}
	}
	return pids
}

// ChildrenByParent returns the children of all processes, from one look at each.
func (f FS) ChildrenByParent() (map[int32][]int32, error) {
	pids, err := f.PIDs()
	if err != nil {
		return nil, err
	}
	byParent := make(map[int32][]int32)
	for _, pid := range pids {
		if st, err := f.Stat(pid); err == nil {
			byParent[st.PPID] = append(byParent[st.PPID], pid)
		}
	}
	return byParent, nil
}

func readNames(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	names, err := d.Readdirnames(-1)
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return names, err
}
