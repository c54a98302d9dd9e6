// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"log/slog"
	"os"

	"github.com/abot-trace/abot-trace/internal/notify"
)

// newHelpers returns who delivers webhooks and commands: the helper's own unit where
// there is one, else children of ours.
func newHelpers(settings notify.Settings, log *slog.Logger) *notify.Helpers {
	if _, err := os.Stat(notify.HelperSocket); err == nil {
		return notify.OneHelper(notify.DialSocket(notify.HelperSocket), settings, log)
	}
	return notify.SpawnedHelpers(settings, log, "notify-helper")
}
