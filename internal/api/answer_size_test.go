// SPDX-License-Identifier: Apache-2.0

package api

import (
	"io"
	"math"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/render"
)

// TestAnswerIsBounded: a daemon whose answer never ends takes no more of its client's memory
// than any honest answer.
func TestAnswerIsBounded(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Accept") == drawingType {
			w.Header().Set("Content-Type", drawingType)
			w.Header().Set("Content-Length", strconv.FormatInt(math.MaxInt64, 10))
			return
		}
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
	for name, ask := range map[string]func() error{
		"orphans":           func() error { _, err := c.Orphans(t.Context()); return err },
		"orphans of then":   func() error { _, err := c.At(time.Now()).Orphans(t.Context()); return err },
		"a drawing":         func() error { return c.DrawTree(t.Context(), io.Discard, render.TreeOptions{}) },
		"a drawing of then": func() error { return c.At(time.Now()).DrawTree(t.Context(), io.Discard, render.TreeOptions{}) },
	} {
		if err := ask(); err == nil || !strings.Contains(err.Error(), "more than 1048576 bytes") {
			t.Errorf("%s: error %v", name, err)
		}
	}
}
