// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"fmt"

	"github.com/abot-trace/abot-trace/internal/config"
)

// FromConfig returns the settings of a configuration; socket is where the daemon
// serves its metrics.
func FromConfig(c *config.Config, socket string) (Settings, error) {
	s := Settings{PerUser: c.Notify.PerUser.Value}
	var err error
	if s.Journald, err = severity(c.Notify.Journald.MinSeverity); err != nil {
		return s, fmt.Errorf("notify.journald: %w", err)
	}
	for i, w := range c.Notify.Webhook {
		hook := Webhook{URL: w.URL.Value, Events: eventsOf(w.Events, c.Notify.Events), HMACSecretFile: w.HMACSecretFile.Value, Template: w.Template.Value, Timeout: w.Timeout.Value}
		if hook.MinSeverity, err = severity(w.MinSeverity); err != nil {
			return s, fmt.Errorf("notify.webhook[%d]: %w", i, err)
		}
		if w.Format.Value == config.FormatSlack {
			hook.Format = FormatSlack
		}
		s.Webhooks = append(s.Webhooks, hook)
	}
	for i, e := range c.Notify.Exec {
		run := Exec{Events: eventsOf(e.Events, c.Notify.Events), Timeout: e.Timeout.Value, User: e.User.Value, Name: fmt.Sprintf("exec[%d]", i)}
		for _, arg := range e.Command {
			run.Command = append(run.Command, arg.Value)
		}
		if run.MinSeverity, err = severity(e.MinSeverity); err != nil {
			return s, fmt.Errorf("notify.exec[%d]: %w", i, err)
		}
		s.Exec = append(s.Exec, run)
	}
	if listen := c.Metrics.Listen.Value; listen != "" {
		s.Metrics = &MetricsProxy{Listen: listen, Socket: socket}
	}
	return s, s.Validate()
}

// eventsOf are the types that a target is told of: its own, else those of all, else the default.
func eventsOf(own, all []config.Text) (types []string) {
	if len(own) == 0 {
		own = all
	}
	for _, e := range own {
		types = append(types, e.Value)
	}
	if types == nil {
		return config.DefaultNotifyEvents
	}
	return types
}

// severity reads a word of the configuration; none is info.
func severity(word config.Text) (Severity, error) {
	if word.Value == "" {
		return SeverityInfo, nil
	}
	return ParseSeverity(word.Value)
}
