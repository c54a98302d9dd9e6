// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// A Mount is one line of mountinfo(5).
type Mount struct {
	Device string // major:minor of the file system
	Root   string // what of the file system is mounted
	Point  string // where, as the reader's root shows it
	FSType string
	Source string
	// ReadOnly says that the file system is, not only this mount of it.
	ReadOnly bool
}

// Mounts returns what the mount namespace of a process shows, in the order of mounting.
// Who is a directory of /proc: a pid or "self".
func (f FS) Mounts(who string) ([]Mount, error) {
	b, err := os.ReadFile(f.root() + "/" + who + "/mountinfo")
	if err != nil {
		return nil, err
	}
	return ParseMounts(b)
}

// ParseMounts decodes mountinfo.
func ParseMounts(b []byte) ([]Mount, error) {
	var mounts []Mount
	lines := bufio.NewScanner(bytes.NewReader(b))
	lines.Buffer(nil, 1<<20) // an overlay of many layers has a long line
	for lines.Scan() {
		// id parent major:minor root mountpoint options [tags] - type source options
		before, after, ok := strings.Cut(lines.Text(), " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if !ok || len(left) < 6 || len(right) < 2 {
			return nil, fmt.Errorf("mountinfo: malformed line %q", lines.Text())
		}
		m := Mount{Device: left[2], Root: unescapeMount(left[3]), Point: unescapeMount(left[4]),
			FSType: right[0], Source: unescapeMount(right[1])}
		// A service's own view may be read-only where the file system is not
		// (ProtectSystem=), so the options of the file system decide.
		if len(right) > 2 {
			m.ReadOnly = slices.Contains(strings.Split(right[2], ","), "ro")
		}
		mounts = append(mounts, m)
	}
	return mounts, lines.Err()
}

// unescapeMount undoes the kernel's octal escapes (mangle in fs/proc_namespace.c).
func unescapeMount(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var out strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				out.WriteByte(byte(n))
				i += 3
				continue
			}
		}
		out.WriteByte(s[i])
	}
	return out.String()
}
