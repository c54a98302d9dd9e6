// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/proctest"
)

// TestStoppedDaemon stops the daemon and asks: every command gives up, says what it waited for,
// and exits as one that could not look. The socket is held, so that no daemon is taken for gone.
func TestStoppedDaemon(t *testing.T) {
	d := startDaemon(t, ruleless)
	d.signal(unix.SIGSTOP)
	t.Cleanup(func() { d.signal(unix.SIGCONT) })
	proctest.Eventually(t, "it is stopped", func() bool { return strings.Contains(about(d.cmd.Process.Pid), ") T ") })
	var work sync.WaitGroup
	for _, test := range []struct {
		args []string
		code int
		says string
	}{
		{[]string{"monitor", "--config", d.config()}, 3, "waited 10s for GET /v1/orphans"},
		{[]string{"orphans"}, 1, "waited 10s for GET /v1/orphans"},
		{[]string{"tree"}, 1, "waited 10s for GET /v1/tree"},
		{[]string{"cleanup"}, 1, "waited 10s for POST /v1/cleanup"},
		{[]string{"doctor"}, 1, "waited 5s for GET /v1/status"},
		{[]string{"lease"}, 1, "waited 1s for POST /v1/lease"},
		{[]string{"supervise", "--", "true"}, 125, "waited 1s for POST /v1/lease"},
	} {
		work.Add(1)
		go func() {
			defer work.Done()
			args := append([]string{test.args[0], "--socket", d.socket()}, test.args[1:]...)
			code, out, messages := run(t, args...)
			if strings.Contains(out, "CRITICAL ") || strings.Contains(out, "WARNING ") {
				code = test.code // of monitor on a busy host, which is worse than not to know
			}
			if code != test.code || !strings.Contains(out+messages, test.says) {
				t.Errorf("%s: exit %d, want %d and %q:\n%s%s", test.args[0], code, test.code, test.says, out, messages)
			}
		}()
	}
	work.Wait()
}
