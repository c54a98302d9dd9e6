// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
)

// TestLease checks what the daemon is asked for, and what the caller is told.
func TestLease(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var asked string
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked = r.Method + " " + r.URL.Path + " " + string(body)
		fmt.Fprint(w, `{"lease_id": "L7"}`)
	})}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Close()
		<-served
	})
	tests := []struct {
		name string
		args []string
		out  string
	}{
		{"text", nil, fmt.Sprintf("lease L7 held by process %d\n", os.Getppid())},
		{"json", []string{"--json"}, fmt.Sprintf(`{"holder":{"pid":%d},"lease_id":"L7"}`+"\n", os.Getppid())},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			args := append([]string{"abot-trace", "lease", "--socket", socket, "--grace", "30s"}, tt.args...)
			if code := run(context.Background(), args, &stdout, &stderr); code != exitOK {
				t.Fatalf("exit code %d: %s", code, stderr.String())
			}
			if stdout.String() != tt.out {
				t.Errorf("got %q, want %q", stdout.String(), tt.out)
			}
			if want := `POST /v1/lease {"grace_seconds":30,"holder":"caller"}`; asked != want {
				t.Errorf("asked %q, want %q", asked, want)
			}
		})
	}
}
