// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Pipes returns the pipes that the process holds open for reading and for writing, by the
// kernel's names ("pipe:[123]"), of the first 4,096 of its descriptors. FIFOs of a file system
// are none. It never waits for a file server.
func (p *Process) Pipes() (reads, writes []string, err error) {
	fds, err := p.FDs()
	if err != nil {
		return nil, nil, err
	}
	for _, fd := range fds {
		name, err := p.FD(fd)
		if err != nil {
			return nil, nil, err
		}
		if !strings.HasPrefix(name, "pipe:[") {
			continue
		}
		// The link's own permissions are the mode of the open file.
		var st unix.Stat_t
		err = unix.Fstatat(p.dir, "fd/"+strconv.Itoa(fd), &st, unix.AT_SYMLINK_NOFOLLOW)
		if err == unix.ENOENT {
			continue // closed meanwhile
		}
		if err != nil {
			return nil, nil, p.fail("fd", err)
		}
		if st.Mode&unix.S_IRUSR != 0 {
			reads = append(reads, name)
		}
		if st.Mode&unix.S_IWUSR != 0 {
			writes = append(writes, name)
		}
	}
	return reads, writes, nil
}
