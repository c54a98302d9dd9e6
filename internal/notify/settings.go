// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"time"

	"github.com/abot-trace/abot-trace/internal/notify/template"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// Settings say who is told what. They travel to the helper as JSON.
type Settings struct {
	// Journald is the least severity that becomes a record; SeverityDebug adds every fork,
	// exec and exit.
	Journald Severity `json:"journald"`
	// PerUser is how many notices a minute are told about processes of one user; zero is
	// DefaultPerUser.
	PerUser  int       `json:"-"`
	Webhooks []Webhook `json:"webhooks,omitempty"`
	Exec     []Exec    `json:"exec,omitempty"`
	// Metrics is where the helper serves the metrics that it fetches from the
	// daemon's socket; nil for nowhere.
	Metrics *MetricsProxy `json:"metrics,omitempty"`
}

// Webhook is one address that notices are posted to.
type Webhook struct {
	URL         string   `json:"url"`
	MinSeverity Severity `json:"min_severity"`
	// HMACSecretFile holds the key of the signature; empty for none. The helper
	// reads it. It is root's, or with OwnSecret that of the helper's own user.
	HMACSecretFile string `json:"hmac_secret_file,omitempty"`
	OwnSecret      bool   `json:"own_secret,omitempty"`
	// Events are the types that it is told of; nil is all.
	Events []string `json:"events,omitempty"`
	// Format is how the body is made: FormatSlack, or the event's JSON where it is empty and
	// there is no Template.
	Format string `json:"format,omitempty"`
	// Template makes the body, see [template.Parse].
	Template string `json:"template,omitempty"`
	// Timeout is for one attempt; zero is DefaultTimeout.
	Timeout time.Duration `json:"timeout,omitempty"`
}

// Exec is one command that is run for each notice.
type Exec struct {
	Command     []string      `json:"command"` // an argv; no shell
	MinSeverity Severity      `json:"min_severity"`
	Timeout     time.Duration `json:"timeout,omitempty"` // zero is DefaultTimeout
	// Events are the types that it is told of; nil is all.
	Events []string `json:"events,omitempty"`
	// User runs it, by name or number. Empty is nobody, and whoever the helper is where
	// that is a service of its own, or a person's.
	User string `json:"user,omitempty"`
	// Name is what it is called in messages: its place in the configuration.
	Name string `json:"name"`
}

// FormatSlack makes the body of a webhook as Slack's incoming webhooks take it.
const FormatSlack = "slack"

// Wants reports whether the webhook is told of an event of that severity.
func (w *Webhook) Wants(s Severity, e *Event) bool { return wants(w.MinSeverity, w.Events, s, e) }

// Wants reports whether the command is told of an event of that severity.
func (x *Exec) Wants(s Severity, e *Event) bool { return wants(x.MinSeverity, x.Events, s, e) }

// wants reports whether a target with these settings is told of an event. That members of a
// leak came and went, and what is held of them now, is nobody's news.
func wants(least Severity, events []string, s Severity, e *Event) bool {
	if l := e.Leak; l != nil && (l.Change == wire.LeakMembers || l.Change == wire.LeakVerdict) {
		return false
	}
	return s >= least && (events == nil || slices.Contains(events, e.Type))
}

// MetricsProxy is a loopback address and the daemon's socket behind it.
type MetricsProxy struct {
	Listen string `json:"listen"`
	Socket string `json:"socket"`
}

// DefaultTimeout is how long one delivery may take.
const DefaultTimeout = 10 * time.Second

// Validate returns the first setting that cannot be meant, by its name in the
// configuration.
func (s Settings) Validate() error {
	for i, w := range s.Webhooks {
		if err := w.Validate(); err != nil {
			return fmt.Errorf("notify.webhook[%d]: %w", i, err)
		}
	}
	for i, e := range s.Exec {
		if err := e.Validate(); err != nil {
			return fmt.Errorf("notify.exec[%d]: %w", i, err)
		}
	}
	return nil
}

// Validate checks one webhook.
func (w Webhook) Validate() error {
	u, err := url.Parse(w.URL)
	switch {
	case err != nil:
		return errors.New("url: cannot be parsed") // the parser's message repeats the credentials
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return errors.New("url: want http:// or https:// and a host")
	case u.User != nil:
		return errors.New("url: no credentials here; secrets come from files")
	case w.HMACSecretFile != "" && !filepath.IsAbs(w.HMACSecretFile):
		return fmt.Errorf("hmac_secret_file %q: want an absolute path", w.HMACSecretFile)
	case w.Timeout < 0:
		return fmt.Errorf("timeout %v is negative", w.Timeout)
	}
	if _, err := template.Parse(w.Template); err != nil {
		return fmt.Errorf("template: %w", err)
	}
	return nil
}

// Validate checks one command.
func (e Exec) Validate() error {
	switch {
	case len(e.Command) == 0 || e.Command[0] == "":
		return errors.New("command: is empty")
	case !filepath.IsAbs(e.Command[0]):
		return fmt.Errorf("command %q: want an absolute path", e.Command[0])
	case e.Timeout < 0:
		return fmt.Errorf("timeout %v is negative", e.Timeout)
	}
	return nil
}
