// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"os"

	"github.com/abot-trace/abot-trace/internal/notify"
)

// HelperSocket is where the helper listens when it runs as a unit of its own.
const HelperSocket = "/run/abot-trace-notify/deliver.sock"

// helperDialer returns how to reach the helper that delivers webhooks and hooks: its
// own unit where there is one, else a child of ours.
func helperDialer() notify.Dialer {
	if _, err := os.Stat(HelperSocket); err == nil {
		return notify.DialSocket(HelperSocket)
	}
	self, err := os.Executable()
	if err != nil {
		self = "/proc/self/exe"
	}
	return notify.Spawn(self, "notify-helper")
}
