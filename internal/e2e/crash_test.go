// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/wire"
)

// TestCrashIsTold: whatever ends a daemon but an order to, the next one says so, and the
// runtime's own words outlive it.
func TestCrashIsTold(t *testing.T) {
	for _, tt := range []struct {
		name   string
		signal unix.Signal
		code   int
		want   string // in the notice; empty is none
		record string // in the file that is kept
	}{
		{"crash", unix.SIGABRT, 2, "SIGABRT: abort", "goroutine "},
		{"killed", unix.SIGKILL, -1, "was killed", ""},
		{"ended in order", unix.SIGTERM, 0, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newKept(t, ruleless)
			d.start()
			if got := d.endBy(tt.signal).ExitCode(); got != tt.code {
				t.Errorf("exit code %d, want %d", got, tt.code)
			}
			d.start()
			if tt.want == "" {
				d.endBy(unix.SIGTERM)
				if e := d.find(crashAlert); e != nil {
					t.Errorf("told: %s", e.Alert.Message)
				}
				return
			}
			d.await("the notice", func() bool { return d.find(crashAlert) != nil })
			if got := d.find(crashAlert).Alert.Message; !strings.Contains(got, tt.want) {
				t.Errorf("told %q, want %q in it", got, tt.want)
			}
			d.wantLog("did not end in order")
			kept, err := filepath.Glob(filepath.Join(d.state(), "crash-*"))
			if tt.record == "" {
				if len(kept) != 0 {
					t.Errorf("kept %q", kept)
				}
				return
			}
			if err != nil || len(kept) != 1 {
				t.Fatalf("kept %q, %v", kept, err)
			}
			if b, err := os.ReadFile(kept[0]); err != nil || !strings.Contains(string(b), tt.record) {
				t.Errorf("the record: %.300q, %v", b, err)
			}
		})
	}
}

func crashAlert(e *wire.Event) bool { return e.Alert != nil && e.Alert.Name == "crash" }
