// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"fmt"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
)

// Times of the service.
const (
	flushTimeout   = 2 * time.Second
	statusInterval = 10 * time.Second
	// canaryPatience is how long the canary may stay unseen: three of its intervals.
	canaryPatience = 30 * time.Second
)

func status(text string) { _, _ = sd.SdNotify(false, "STATUS="+text) }

// report tells the service manager how things stand: ready after the first snapshot,
// then live figures, and the watchdog as long as the canary is seen.
func (d *daemon) report(ctx context.Context) {
	select {
	case <-d.tracer.Ready():
	case <-ctx.Done():
		return
	}
	d.Log.Info("ready", "socket", d.Socket, "processes", d.tracer.Stats().Living, "rules", len(d.cfg.Rules))
	_, _ = sd.SdNotify(false, sd.SdNotifyReady)
	interval := statusInterval
	if watchdog, err := sd.SdWatchdogEnabled(false); err == nil && watchdog > 0 {
		interval = min(interval, watchdog/2)
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		d.reportOnce()
		select {
		case <-ctx.Done():
			_, _ = sd.SdNotify(false, sd.SdNotifyStopping)
			return
		case <-tick.C:
		}
	}
}

func (d *daemon) reportOnce() {
	s := d.tracer.Stats()
	status(fmt.Sprintf("%d processes, %d orphans, %d records lost", s.Living, s.Orphans, s.Refused))
	if s.CanarySeen.IsZero() || time.Since(s.CanarySeen) < canaryPatience {
		_, _ = sd.SdNotify(false, sd.SdNotifyWatchdog)
		return
	}
	d.Log.Error("the stream is silent: the tracer does not see its own canary", "last_seen", s.CanarySeen)
}
