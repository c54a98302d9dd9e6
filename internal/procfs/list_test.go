// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"os"
	"os/exec"
	"slices"
	"testing"
)

// TestChildren wants the kernel's lists and a look at every process to agree on the children
// of this one, a zombie among them.
func TestChildren(t *testing.T) {
	child := exec.Command("sleep", "60")
	zombie := exec.Command("true")
	for _, cmd := range []*exec.Cmd{child, zombie} {
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		defer cmd.Wait()
		defer cmd.Process.Kill()
	}
	fs, self := FS{}, int32(os.Getpid())
	for {
		st, err := fs.Stat(int32(zombie.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		if st.Dead() {
			break
		}
	}
	byParent, err := fs.ChildrenByParent()
	if err != nil {
		t.Fatal(err)
	}
	lists := map[string][]int32{"by parent": byParent[self]}
	if fs.HasChildren() {
		lists["the kernel's"] = fs.Children(self)
	}
	for name, list := range lists {
		for _, cmd := range []*exec.Cmd{child, zombie} {
			if !slices.Contains(list, int32(cmd.Process.Pid)) {
				t.Errorf("%s: %v is without %d", name, list, cmd.Process.Pid)
			}
		}
	}
	pids, err := fs.PIDs()
	if err != nil || !slices.Contains(pids, self) || !slices.Contains(pids, 1) {
		t.Errorf("%d pids, %v: without this process or init", len(pids), err)
	}
}

func TestStatusByPID(t *testing.T) {
	status, err := FS{}.Status(int32(os.Getpid()))
	if err != nil || int(status.UID) != os.Getuid() || status.RSS == 0 {
		t.Errorf("%+v, %v", status, err)
	}
	if _, err := (FS{Root: t.TempDir()}).Status(1); err == nil {
		t.Error("read what is not there")
	}
}
