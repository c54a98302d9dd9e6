// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"net"
	"path/filepath"
	"testing"

	"github.com/abot-trace/abot-trace/internal/supervise"
)

// TestLeaseFrom wants a supervisor to go on without a daemon where none is required, and to say
// so where a socket was left by one.
func TestLeaseFrom(t *testing.T) {
	none, deserted := filepath.Join(t.TempDir(), "none"), filepath.Join(t.TempDir(), "deserted")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: deserted, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	for _, tt := range []struct {
		name, socket string
		required     bool
		said, err    string
	}{
		{"no daemon", none, false, "", ""},
		{"no daemon, required", none, true, "", "socket " + none + ": no such file or directory"},
		{"one that is gone", deserted, false, "no lease, for no daemon can be asked: socket " + deserted + ": connect: connection refused", ""},
		{"one that is gone, required", deserted, true, "", "socket " + deserted + ": connect: connection refused"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var said, failed string
			cfg := supervise.Config{Report: func(format string, args ...any) { said += fmt.Sprintf(format, args...) }}
			if err := leaseFrom(tt.socket, tt.required, &cfg); err != nil {
				failed = err.Error()
			}
			if said != tt.said || failed != tt.err || cfg.Leaser != nil {
				t.Errorf("said %q, error %q, leaser %v; want %q, %q", said, failed, cfg.Leaser, tt.said, tt.err)
			}
		})
	}
}
