// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/wire"
)

const hangUp = unix.SIGHUP

// TestInvalidReload wants an invalid configuration to change nothing but to be told,
// and a valid one to be taken and the alert to go.
func TestInvalidReload(t *testing.T) {
	d := startDaemon(t, armed)
	d.configure(armed + "nonsense: 1\n")
	d.signal(hangUp)
	alert := func(state string) *wire.Event {
		return d.find(func(e *wire.Event) bool {
			return e.Alert != nil && e.Alert.Name == "configuration" && e.Alert.State == state
		})
	}
	d.await("an alert", func() bool { return alert(wire.AlertWarning) != nil })
	if text := alert(wire.AlertWarning).Alert.Message; !strings.Contains(text, "nonsense") {
		t.Errorf("alert: %s", text)
	}
	f := startFamily(t, "parent", "leaf")
	f.await("leaf", 1)
	f.killMain()
	f.empty() // the old rule is in force

	d.reload(strings.ReplaceAll(armed, "name: all", "name: other"))
	d.await("the alert goes", func() bool { return alert(wire.AlertOK) != nil })
	g := startFamily(t, "parent", "leaf")
	leaf := g.await("leaf", 1)[0]
	g.killMain()
	if k := d.kill(leaf.pid, nil); k.Rule != "other" {
		t.Errorf("kill: %+v", k)
	}
}
