// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net/netip"
	"strconv"
)

// A Port is where a process can be reached: a TCP socket that listens, or a UDP socket
// that is bound and not connected.
type Port struct {
	Proto string // "tcp", "tcp6", "udp" or "udp6"
	Addr  netip.AddrPort
}

// Ports finds the ports of processes. It reads the tables of each network namespace once,
// so it is made anew for each question. It belongs to one goroutine.
type Ports struct {
	namespaces map[string]map[uint64]Port // by namespace, then by inode
}

// portTables are the tables of a network namespace, with the state of a socket there that
// can be reached: TCP_LISTEN, and TCP_CLOSE, which is what UDP calls not connected.
var portTables = []struct{ proto, state string }{{"tcp", "0A"}, {"tcp6", "0A"}, {"udp", "07"}, {"udp6", "07"}}

// Of returns the ports of a process, in the order of its descriptors.
func (t *Ports) Of(p *Process) ([]Port, error) {
	own, err := p.socketInodes()
	if err != nil || len(own) == 0 {
		return nil, err
	}
	namespace, err := p.link("ns/net")
	if err != nil {
		return nil, err
	}
	table, known := t.namespaces[namespace]
	if !known {
		if table, err = p.portTable(); err != nil {
			return nil, err
		}
		if t.namespaces == nil {
			t.namespaces = make(map[string]map[uint64]Port)
		}
		t.namespaces[namespace] = table
	}
	var ports []Port
	for _, inode := range own {
		if port, ok := table[inode]; ok {
			ports = append(ports, port)
		}
	}
	return ports, nil
}

// portTable reads the tables of the process's network namespace.
func (p *Process) portTable() (map[uint64]Port, error) {
	all := make(map[uint64]Port)
	for _, table := range portTables {
		b, err := p.readAll("net/"+table.proto, 16<<10, maxNetTable)
		if errors.Is(err, ErrGone) && p.exists() {
			continue // a kernel without that family
		}
		if err != nil {
			return nil, err
		}
		for line := range bytes.Lines(b) {
			if addr, inode, ok := parsePort(line, table.state); ok {
				all[inode] = Port{Proto: table.proto, Addr: addr}
			}
		}
	}
	return all, nil
}

// parsePort reads a line of one of the tables, of a socket in that state that is bound.
func parsePort(line []byte, state string) (addr netip.AddrPort, inode uint64, ok bool) {
	words := bytes.Fields(line)
	if len(words) < 10 || string(words[3]) != state {
		return addr, 0, false
	}
	host, port, found := bytes.Cut(words[1], []byte(":"))
	number, err := strconv.ParseUint(string(port), 16, 16)
	if !found || err != nil || number == 0 {
		return addr, 0, false
	}
	raw, err := hex.DecodeString(string(host))
	if err != nil || len(raw)%4 != 0 {
		return addr, 0, false
	}
	// Each word of the address is printed as a number of this machine's.
	for i := 0; i < len(raw); i += 4 {
		binary.NativeEndian.PutUint32(raw[i:], binary.BigEndian.Uint32(raw[i:]))
	}
	ip, ok := netip.AddrFromSlice(raw)
	if !ok {
		return addr, 0, false
	}
	inode, err = strconv.ParseUint(string(words[9]), 10, 64)
	return netip.AddrPortFrom(ip, uint16(number)), inode, err == nil && inode != 0
}
