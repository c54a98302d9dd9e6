// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"fmt"
	"os"

	"github.com/abot-trace/abot-trace/internal/alert"
	"github.com/abot-trace/abot-trace/internal/config"
	"github.com/abot-trace/abot-trace/internal/monitor"
	"github.com/abot-trace/abot-trace/internal/notify"
)

// HelperSocket is where the helper listens when it runs as a unit of its own.
const HelperSocket = "/run/abot-trace-notify/notify.sock"

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

// noticeSettings takes the part of the configuration that says who is told what.
func noticeSettings(cfg *config.Config, socket string) (notify.Settings, error) {
	s := notify.Settings{}
	var err error
	if s.Journald, err = severity(cfg.Notify.Journald.MinSeverity.Value, notify.SeverityInfo); err != nil {
		return s, err
	}
	for _, w := range cfg.Notify.Webhook {
		min, err := severity(w.MinSeverity.Value, notify.SeverityWarning)
		if err != nil {
			return s, err
		}
		s.Webhooks = append(s.Webhooks, notify.Webhook{URL: w.URL.Value, MinSeverity: min,
			HMACSecretFile: w.HMACSecretFile.Value, Template: w.Template.Value, Timeout: w.Timeout.Value})
	}
	for _, x := range cfg.Notify.Exec {
		min, err := severity(x.MinSeverity.Value, notify.SeverityWarning)
		if err != nil {
			return s, err
		}
		hook := notify.Exec{MinSeverity: min, Timeout: x.Timeout.Value}
		for _, word := range x.Command {
			hook.Command = append(hook.Command, word.Value)
		}
		s.Exec = append(s.Exec, hook)
	}
	if listen := cfg.Metrics.Listen.Value; listen != "" {
		s.Metrics = &notify.MetricsProxy{Listen: listen, Socket: socket}
	}
	return s, nil
}

func severity(name string, fallback notify.Severity) (notify.Severity, error) {
	if name == "" {
		return fallback, nil
	}
	s, err := notify.ParseSeverity(name)
	if err != nil {
		return 0, fmt.Errorf("notify: %w", err)
	}
	return s, nil
}

// monitorSettings takes the part of the configuration that says when to alert.
func monitorSettings(cfg *config.Config) (monitor.Settings, error) {
	s := monitor.Defaults()
	m := cfg.Monitor
	if m.Interval.At.IsSet() {
		s.Interval = m.Interval.Value
	}
	for _, t := range []struct {
		to   *alert.Thresholds
		from config.Threshold
	}{{&s.Memory, m.Memory}, {&s.CPU, m.CPU}, {&s.Disk, m.Disk}} {
		if t.from.Warning.At.IsSet() {
			t.to.Warning = t.from.Warning.Value
		}
		if t.from.Critical.At.IsSet() {
			t.to.Critical = t.from.Critical.Value
		}
	}
	if m.OrphanAge.At.IsSet() {
		s.OrphanAge = m.OrphanAge.Value
	}
	if m.ProcessMemory.At.IsSet() {
		s.ProcessMemory = m.ProcessMemory.Bytes
	}
	if err := s.Validate(); err != nil {
		return s, fmt.Errorf("monitor: %w", err)
	}
	return s, nil
}
