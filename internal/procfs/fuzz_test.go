// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/abot-trace/abot-trace/internal/event"
)

// FuzzStat puts hostile names into a sound line: the name must never change
// another field. As it stands, input must never panic either.
func FuzzStat(f *testing.F) {
	for _, comm := range []string{"sleep", "foo) Z ", "a\nb", ") S 1 2 3 (", statLine("x", "Z")} {
		f.Add([]byte(comm))
	}
	want, err := parseStat([]byte(statLine("sleep", "S")))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, comm []byte) {
		parseStat(comm)
		got, err := parseStat([]byte(statLine(string(comm), "S")))
		if err != nil {
			t.Fatal(err)
		}
		want.Comm = event.MakeComm(string(comm))
		if got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	})
}

func FuzzStatus(f *testing.F) {
	f.Add([]byte(statusText))
	f.Fuzz(func(t *testing.T, b []byte) {
		st, err := parseStatus(b)
		if err != nil && !errors.Is(err, errSyntax) {
			t.Errorf("got %v, want %v", err, errSyntax)
		}
		st.NSInit()
	})
}

// FuzzCgroup: whatever the path, a container id has its form and a unit one of the
// path's components, less systemd's escape.
func FuzzCgroup(f *testing.F) {
	f.Add([]byte("3:cpu:/x\n1:name=systemd:/user.slice/user-0.slice/user@0.service/a.scope\n0::/other\n"))
	f.Add([]byte("0::/docker/" + strings.Repeat("a", 64) + " (deleted)\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseCgroups(b)
		if err != nil {
			return
		}
		u := UnitOf(c.Path())
		if u.Container != "" && !isContainerID(u.Container) {
			t.Errorf("container %q is no id", u.Container)
		}
		for _, name := range []string{u.Name, u.Slice, u.UserUnit} {
			parts := strings.Split(c.Path(), "/")
			if name != "" && !slices.Contains(parts, name) && !slices.Contains(parts, "_"+name) {
				t.Errorf("%q is no component of %q", name, c.Path())
			}
		}
	})
}

// FuzzMarks compares the scanner, fed in pieces, with the plain way.
func FuzzMarks(f *testing.F) {
	for _, tt := range markCases {
		f.Add([]byte(tt.in), 3)
	}
	f.Fuzz(func(t *testing.T, env []byte, size int) {
		size = max(1, size)
		var scan markScanner
		for piece := range slices.Chunk(env, size) {
			scan.write(piece)
		}
		entries := strings.Split(string(env), "\x00")
		want := Marks{slices.Contains(entries, keepMark), slices.Contains(entries, leashMark)}
		if got := scan.end(); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	})
}

func FuzzPort(f *testing.F) {
	f.Add([]byte("   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1\n"))
	f.Fuzz(func(t *testing.T, line []byte) {
		if addr, inode, ok := parsePort(line, "0A"); ok && (!addr.IsValid() || addr.Port() == 0 || inode == 0) {
			t.Errorf("%q: %v, %d", line, addr, inode)
		}
	})
}
