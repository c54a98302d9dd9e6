// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"

	"github.com/abot-trace/abot-trace/internal/trace"
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
	began := time.Now()
	d.reloading.Lock() // SIGHUP and the socket may have it reloaded by now
	rules := len(d.cfg.Rules)
	d.reloading.Unlock()
	d.Log.Info("ready", "socket", d.Socket, "processes", d.tracer.Stats().Living, "rules", rules)
	_, _ = sd.SdNotify(false, sd.SdNotifyReady)
	d.tellCrash()
	interval := statusInterval
	if watchdog, err := sd.SdWatchdogEnabled(false); err == nil && watchdog > 0 {
		interval = min(interval, watchdog/2)
	}
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for last := began; ; {
		// Who was stopped, or got no processor, could not see it meanwhile.
		now := time.Now()
		if now.Sub(last) > 2*interval {
			began = now
		}
		last = now
		d.reportOnce(began)
		select {
		case <-ctx.Done():
			_, _ = sd.SdNotify(false, sd.SdNotifyStopping)
			return
		case <-tick.C:
		}
	}
}

// reportOnce reports for a daemon that was ready, or ran again, at the instant given.
func (d *daemon) reportOnce(began time.Time) {
	d.stopFile() // tells of a change
	s := d.tracer.Stats()
	line := fmt.Sprintf("%d processes, %d orphans, %d records lost", s.Living, s.Orphans, s.Refused)
	status(strings.Join(append([]string{line}, d.conditions()...), "; "))
	if alive(s, began) {
		_, _ = sd.SdNotify(false, sd.SdNotifyWatchdog)
		return
	}
	d.Log.Error("the stream is silent: the tracer does not see its own canary", "last_seen", s.CanarySeen)
}

// alive reports whether nothing speaks against the stream: the canary was seen, it is
// too soon since the beginning, or no canary could be made. Then a new daemon could not
// make one either.
func alive(s trace.Stats, began time.Time) bool {
	seen := s.CanarySeen
	if seen.Before(began) {
		seen = began
	}
	return time.Since(seen) < canaryPatience || s.CanaryError != nil
}

// conditions says what the daemon cannot do at present, one sentence each; from any
// goroutine.
func (d *daemon) conditions() []string {
	var list []string
	for _, err := range []error{d.tracer.Stats().CanaryError, d.stateSaver.condition(), d.historyFailed, d.history.condition()} {
		if err != nil {
			list = append(list, err.Error())
		}
	}
	if fault := d.configFault.Load(); fault != nil {
		list = append(list, "the configuration is invalid, the old one stays: "+*fault)
	}
	list = append(list, d.hostConditions...)
	report, _ := d.helpers.Stats()
	for _, name := range slices.Sorted(maps.Keys(report.Targets)) {
		if why := report.Targets[name].Unusable; why != "" {
			list = append(list, "notices do not reach "+why)
		}
	}
	return append(list, d.helpers.Refused()...)
}
