// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"sync"
	"time"

	"github.com/abot-trace/abot-trace/internal/wire"
)

// alertStopFile is the alert on a stop file that is in force.
const alertStopFile = "stop_file"

// A stopNotice remembers whether people were told that all kills are called off. It is safe
// for concurrent use.
type stopNotice struct {
	mu    sync.Mutex
	told  bool
	since time.Time
}

func (n *stopNotice) inForce() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.told
}

// change returns the alert on what has changed since the last call; false where nothing has.
func (n *stopNotice) change(stop *wire.Stop, now time.Time) (wire.Alert, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	in := stop != nil && stop.InForce
	if in == n.told {
		return wire.Alert{}, false
	}
	n.told = in
	if !in {
		return wire.Alert{Name: alertStopFile, State: wire.AlertOK, Previous: wire.AlertWarning, Since: n.since,
			Message: "the stop file is gone: rules act again"}, true
	}
	if n.since = now; stop.Since != nil {
		n.since = *stop.Since
	}
	message := "no rule ends anything while " + stop.Path + " exists"
	if stop.Reason != "" {
		message += ": " + stop.Reason
	}
	return wire.Alert{Name: alertStopFile, State: wire.AlertWarning, Previous: wire.AlertOK, Since: n.since, Message: message}, true
}

// stopFile tells of the file by which an operator calls off all kills, nil where none is
// configured, and has people told when that changes. From any goroutine but the loop's.
func (d *daemon) stopFile() *wire.Stop {
	stop := d.control.StopFile()
	if a, changed := d.stopNotice.change(stop, time.Now()); changed {
		d.alert(a)
	}
	return stop
}
