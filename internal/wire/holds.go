// SPDX-License-Identifier: Apache-2.0

package wire

// Facts of processes that are looked for only where they are asked for.
const (
	FactCwd   = "cwd"
	FactPorts = "ports"
)

// Facts lists them.
var Facts = []string{FactCwd, FactPorts}

// Port is where a process can be reached: Proto is "tcp", "tcp6", "udp" or "udp6".
type Port struct {
	Proto string `json:"proto"`
	Addr  string `json:"addr"`
	Port  uint16 `json:"port"`
}

// Holds is what processes keep from others.
type Holds struct {
	Ports        []Port     `json:"ports,omitempty"`
	GPUs         []GPU      `json:"gpus,omitempty"`
	DeletedBytes uint64     `json:"deleted_bytes,omitempty"` // on disk, of open files without a name
	SharedBytes  uint64     `json:"shm_bytes,omitempty"`     // shared memory, mapped and resident
	Locks        []FileLock `json:"locks,omitempty"`
	// Unread says in a phrase each what could not be read.
	Unread []string `json:"unread,omitempty"`
}

// GPU is a graphics or compute device that is open: "nvidia0", "renderD128", "kfd".
type GPU struct {
	Device string  `json:"device"`
	Bytes  *uint64 `json:"bytes,omitempty"` // of its memory, where the driver tells
}

// FileLock is a lock on a file, by the words of lslocks(8).
type FileLock struct {
	Type string `json:"type"` // POSIX, FLOCK, OFDLCK, LEASE
	Mode string `json:"mode"` // READ, WRITE
	Path string `json:"path"`
}
