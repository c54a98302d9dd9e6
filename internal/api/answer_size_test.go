// SPDX-License-Identifier: Apache-2.0

package api

import (
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// TestAnswerIsBounded: a daemon whose answer never ends takes no more of its client's memory
// than any honest answer.
func TestAnswerIsBounded(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "[")
		for { // until the client hangs up
			if _, err := io.WriteString(w, `{"pid":1},`); err != nil {
				return
			}
		}
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l)
	}()
	t.Cleanup(func() {
		_ = server.Close()
		<-done
	})
	c := NewClient(socket)
	defer c.http.CloseIdleConnections()
	c.maxAnswer = 1 << 20
	if _, err := c.Orphans(t.Context()); err == nil || !strings.Contains(err.Error(), "more than 1048576 bytes") {
		t.Errorf("error %v", err)
	}
}
