// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"bytes"
	"strconv"
)

// Status is what /proc/PID/status tells beyond Stat. RSS and Swap are 0 for a
// process without memory of its own (a kernel thread, a zombie).
type Status struct {
	UID, EUID, SUID uint32 // real, effective and saved user ids
	// SigIgn and SigCgt are the masks of ignored and of caught signals; bit 0 is SIGHUP.
	SigIgn, SigCgt uint64
	// NSPID and NSTGID are the pid of the leader and of the group in each pid
	// namespace, from the reader's inwards; the last is what the process sees.
	NSPID, NSTGID []int32
	RSS, Swap     uint64 // bytes; approximate, as the kernel batches its counters
}

// NSInit reports whether the process is the init of a pid namespace below the
// reader's.
func (s *Status) NSInit() bool { n := len(s.NSTGID); return n > 1 && s.NSTGID[n-1] == 1 }

// maxStatus has room for 65,536 supplementary groups (NGROUPS_MAX) of ten digits.
const maxStatus = 1 << 20

// Status reads the process's status. It costs about three times a Stat.
func (p *Process) Status() (Status, error) {
	buf, err := p.readAll("status", 4<<10, maxStatus)
	if err != nil {
		return Status{}, err
	}
	st, err := parseStatus(buf)
	if err != nil {
		return Status{}, p.fail("status", err)
	}
	return st, nil
}

// Status reads the status of the process that has pid now.
func (f FS) Status(pid int32) (Status, error) {
	p, err := f.open(pid)
	if err != nil {
		return Status{}, err
	}
	defer p.Close()
	return p.Status()
}

// parseStatus can go by lines, unlike parseStat: here the kernel escapes a newline
// in the name.
func parseStatus(b []byte) (st Status, err error) {
	var seen int
	for line := range bytes.Lines(b) {
		key, value, found := bytes.Cut(line, []byte{':'})
		if !found {
			return Status{}, errSyntax
		}
		words := bytes.Fields(value)
		if len(words) == 0 {
			continue
		}
		known, err := st.set(string(key), words)
		if err != nil {
			return Status{}, err
		}
		if known {
			seen++
		}
	}
	if seen < 3 { // Uid, SigIgn and SigCgt are always there
		return Status{}, errSyntax
	}
	return st, nil
}

// set takes one line, and reports whether it is one of those always present.
func (s *Status) set(key string, words [][]byte) (always bool, err error) {
	switch key {
	case "Uid":
		if len(words) < 3 {
			return true, errSyntax
		}
		for i, id := range []*uint32{&s.UID, &s.EUID, &s.SUID} {
			n, err := strconv.ParseUint(string(words[i]), 10, 32)
			if err != nil {
				return true, errSyntax
			}
			*id = uint32(n)
		}
		return true, nil
	case "SigIgn":
		s.SigIgn, err = strconv.ParseUint(string(words[0]), 16, 64)
		return true, syntax(err)
	case "SigCgt":
		s.SigCgt, err = strconv.ParseUint(string(words[0]), 16, 64)
		return true, syntax(err)
	case "NSpid":
		s.NSPID, err = parsePIDs(words)
	case "NStgid":
		s.NSTGID, err = parsePIDs(words)
	case "VmRSS":
		s.RSS, err = parseKiB(words)
	case "VmSwap":
		s.Swap, err = parseKiB(words)
	}
	return false, err
}

func syntax(err error) error {
	if err != nil {
		return errSyntax
	}
	return nil
}

func parsePIDs(words [][]byte) ([]int32, error) {
	pids := make([]int32, len(words))
	for i, word := range words {
		if err := setInt(&pids[i], word); err != nil {
			return nil, err
		}
	}
	return pids, nil
}

// parseKiB reads "1234 kB", where kB means 1024 bytes.
func parseKiB(words [][]byte) (uint64, error) {
	n, err := parseUint(words[0])
	if err != nil || n > 1<<53 || len(words) != 2 || string(words[1]) != "kB" {
		return 0, errSyntax
	}
	return n << 10, nil
}
