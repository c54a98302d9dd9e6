// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"github.com/abot-trace/abot-trace/internal/safetext"
	"github.com/abot-trace/abot-trace/internal/state"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// alertCrash is the alert on an earlier daemon that did not end in order.
const alertCrash = "crash"

// recordCrash has the runtime write what it says at a crash, with the stacks of all
// goroutines, to the state directory as well as to standard error, which nobody may
// keep. It remembers how the last daemon ended.
func (d *daemon) recordCrash() {
	if os.Getenv("GOTRACEBACK") == "" {
		debug.SetTraceback("all")
	}
	if d.stateSaver.dir == nil {
		return
	}
	f, last, err := d.stateSaver.dir.RecordCrash()
	d.crashed = last
	if err == nil {
		err = debug.SetCrashOutput(f, debug.CrashOptions{})
		f.Close()
	}
	if err != nil {
		d.Log.Warn("a crash would leave no record but on standard error", "err", err)
	}
}

// endedInOrder takes the record back. It is not deferred: a panic has to leave it.
func (d *daemon) endedInOrder() {
	if d.stateSaver.dir == nil {
		return
	}
	if err := d.stateSaver.dir.EndedInOrder(); err != nil {
		d.Log.Warn("the next daemon will take this one for crashed", "err", err)
	}
}

// tellCrash tells how the last daemon ended, where that was not in order.
func (d *daemon) tellCrash() {
	if d.crashed == nil {
		return
	}
	d.Log.Error("the daemon before this one did not end in order", "reason", d.crashed.Reason, "record", d.crashed.Path)
	d.alert(wire.Alert{Name: alertCrash, State: wire.AlertWarning, Previous: wire.AlertOK, Since: time.Now(), Message: crashMessage(d.crashed)})
}

func crashMessage(c *state.Crash) string {
	if c.Reason == "" {
		return fmt.Sprintf("the daemon that was started at %s was killed: by a person, the watchdog, or for memory",
			c.Time.Local().Format(time.DateTime))
	}
	return fmt.Sprintf("the daemon crashed at %s: %s; all of it is in %s",
		c.Time.Local().Format(time.DateTime), safetext.Terminal(c.Reason), c.Path)
}
