// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
)

// A process's own ports are told, with their addresses; sockets that are connected are not.
func TestPorts(t *testing.T) {
	listen := func(network, addr string) netip.AddrPort {
		t.Helper()
		var address net.Addr
		if network[:3] == "tcp" {
			l, err := net.Listen(network, addr)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { l.Close() })
			address = l.Addr()
		} else {
			c, err := net.ListenPacket(network, addr)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			address = c.LocalAddr()
		}
		return netip.MustParseAddrPort(address.String())
	}
	want := []Port{{"tcp", listen("tcp4", "127.0.0.1:0")}, {"udp", listen("udp4", "127.0.0.1:0")}}
	if l, err := net.Listen("tcp6", "[::1]:0"); err == nil { // a machine may have no IPv6
		l.Close()
		want = append(want, Port{"tcp6", listen("tcp6", "[::1]:0")}, Port{"udp6", listen("udp6", "[::1]:0")})
	}
	conn, err := net.Dial("tcp4", want[0].Addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()

	var table Ports
	got, err := table.Of(open(t, FS{}, int32(os.Getpid())))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range want {
		if !slices.Contains(got, p) {
			t.Errorf("%v is missing in %v", p, got)
		}
	}
	local := netip.MustParseAddrPort(conn.LocalAddr().String())
	if slices.ContainsFunc(got, func(p Port) bool { return p.Addr == local }) {
		t.Errorf("%v is connected, and in %v", local, got)
	}
}

func TestParsePort(t *testing.T) {
	const tail = " 00000000:00000000 00:00000000 00000000  1000        0 4711 1 0000000000000000 100 0 0 10 0\n"
	for _, tt := range []struct {
		line, want string
	}{
		{"   0: 0100007F:1F90 00000000:0000 0A" + tail, "127.0.0.1:8080"},
		{"   0: 00000000000000000000000001000000:0016 00000000000000000000000000000000:0000 0A" + tail, "[::1]:22"},
		{"   0: 0100007F:1F90 0100007F:0050 01" + tail, ""}, // connected
		{"   0: 0100007F:0000 00000000:0000 0A" + tail, ""}, // not bound
		{"   0: 0100007F 00000000:0000 0A" + tail, ""},
		{"   0: 01007F:1F90 00000000:0000 0A" + tail, ""},
		{"   0: 0100007F:1F900 00000000:0000 0A" + tail, ""},
		{"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n", ""},
		{"", ""},
	} {
		addr, inode, ok := parsePort([]byte(tt.line), "0A")
		if tt.want == "" && ok || tt.want != "" && (!ok || addr.String() != tt.want || inode != 4711) {
			t.Errorf("%q: got %v, %d, %v, want %q", tt.line, addr, inode, ok, tt.want)
		}
	}
}
