// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/config"
	"github.com/abot-trace/abot-trace/internal/leak"
	"github.com/abot-trace/abot-trace/internal/monitor"
	"github.com/abot-trace/abot-trace/internal/notify"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// alertConfig is the alert on a configuration that could not be taken.
const alertConfig = "configuration"

// reloads takes the configuration anew whenever it is asked to.
func (d *daemon) reloads(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.Reload:
		}
		notifyReloading()
		err := d.reload(ctx)
		_, _ = sd.SdNotify(false, sd.SdNotifyReady)
		if err != nil {
			d.refuseConfig(err)
		}
	}
}

// refuseConfig tells that a configuration was not taken.
func (d *daemon) refuseConfig(err error) {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	fault := firstLine(err)
	d.configFault.Store(&fault)
	d.Log.Error("the configuration is invalid: the old one stays", "err", err)
	d.configInvalid = time.Now()
	d.alert(wire.Alert{Name: alertConfig, State: wire.AlertWarning, Previous: wire.AlertOK, Since: d.configInvalid,
		Message: "the configuration is invalid, the old one stays: " + fault})
}

// notifyReloading is RELOADING=1 of sd_notify(3), which wants the time with it.
func notifyReloading() {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts)
	_, _ = sd.SdNotify(false, fmt.Sprintf("RELOADING=1\nMONOTONIC_USEC=%d", ts.Nano()/1000))
}

// reload replaces the configuration as a whole, or not at all.
func (d *daemon) reload(ctx context.Context) error {
	d.reloading.Lock()
	defer d.reloading.Unlock()
	cfg, err := ownConfig(d.Config)
	if err != nil {
		return err
	}
	notices, err := notify.FromConfig(cfg, d.Socket)
	if err != nil {
		return err
	}
	var configured error
	err = d.tracer.Do(ctx, func(*tracker.Tree) {
		if configured = d.control.Configure(cfg); configured == nil {
			d.cfg = cfg
			d.tracer.Leaks().SetThresholds(leakThresholds(cfg))
		}
	})
	if err != nil || configured != nil {
		return cmp.Or(err, configured)
	}
	d.notices.Configure(notices)
	d.history.configure(&cfg.History)
	d.samplerLoop.configure(monitor.FromConfig(cfg.Monitor), cfg.Metrics.Textfile.Value)
	d.configFault.Store(nil)
	d.Log.Info("configuration loaded", "rules", len(cfg.Rules))
	if !d.configInvalid.IsZero() {
		d.alert(wire.Alert{Name: alertConfig, State: wire.AlertOK, Previous: wire.AlertWarning, Since: d.configInvalid,
			Message: "the configuration is valid again"})
		d.configInvalid = time.Time{}
	}
	return nil
}

// leakThresholds are what age and what memory of a leak are told.
func leakThresholds(cfg *config.Config) leak.Thresholds {
	return leak.Thresholds{Age: cfg.Monitor.OrphanAge.Value, Memory: cfg.Monitor.ProcessMemory.Bytes}
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}
