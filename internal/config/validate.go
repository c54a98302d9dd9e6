// SPDX-License-Identifier: Apache-2.0

package config

import (
	"cmp"
	"errors"
	"net"
	"net/netip"
	"net/url"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/abot-trace/abot-trace/internal/nearest"
	"github.com/abot-trace/abot-trace/internal/notify/template"
	"github.com/abot-trace/abot-trace/internal/policy"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// Names that no rule may have.
const (
	// LeaseRule is the built-in rule that ends what a dead lease leaves.
	LeaseRule = "lease"
	// ManualRule stands for whoever asks for a kill by hand.
	ManualRule = wire.RuleManual
)

var ruleName = sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,63}$`) })

// validate reports whatever a well-formed configuration says that cannot be meant.
func (c *Config) validate(r *report) {
	c.validateRules(r)
	c.validateProtect(r)
	c.validateBudget(r)
	c.validateMonitor(r)
	c.validateHistory(r)
	c.validateNotify(r)
	c.validateMetrics(r)
}

func (c *Config) validateRules(r *report) {
	first := make(map[string]Pos)
	var names []string
	for i := range c.Rules {
		rule := &c.Rules[i]
		name := rule.Name.Value
		at, twice := first[name]
		switch {
		case name == "":
			r.add(rule.At, "a rule without a name")
		case name == LeaseRule:
			r.add(rule.Name.At, "the name %q is taken by the built-in rule for leases", name)
		case name == ManualRule:
			r.add(rule.Name.At, "the name %q is taken by kills that somebody asks for", name)
		case !ruleName().MatchString(name):
			r.add(rule.Name.At, "the rule name %q: use lower-case letters, digits, - and _, at most 64", name)
		case twice:
			r.add(rule.Name.At, "a second rule named %q: the first is at %s:%d", name, at.src.name, at.Line)
		default:
			first[name] = rule.Name.At
			names = append(names, name)
		}
		rule.validate(r)
	}
	for _, name := range c.Enforce {
		if !slices.Contains(names, name.Value) && !slices.Contains(c.off, name.Value) {
			r.add(name.At, "enforce: no rule is named %q%s", name.Value, nearest.Hint(name.Value, names...))
		}
	}
	for i := range c.Armed {
		a := &c.Armed[i]
		switch {
		case !slices.Contains(names, a.Rule.Value) && !slices.Contains(c.off, a.Rule.Value):
			r.add(cmp.Or(a.Rule.At, a.At), "armed: no rule is named %q%s", a.Rule.Value, nearest.Hint(a.Rule.Value, names...))
		case a.LeaksPerDay.Value < 0 || a.LeaksPerDay.Value > maxLeaksPerDay:
			r.add(a.LeaksPerDay.At, "armed.leaks_per_day: want 0, which is no limit, to %d", maxLeaksPerDay)
		}
		if _, err := time.Parse(time.RFC3339, a.Time.Value); a.Time.At.IsSet() && err != nil {
			r.add(a.Time.At, "armed.time: %q is no time: want one as 2026-01-31T15:04:05Z", a.Time.Value)
		}
	}
}

// maxLeaksPerDay is the largest daily limit of a rule.
const maxLeaksPerDay = 1000

// validate checks one rule by compiling it, and puts the fault where it stands.
func (rule *Rule) validate(r *report) {
	checked := len(r.errs)
	word(r, "mode", rule.Mode, wire.Modes)
	word(r, "action", rule.Action, policy.Actions)
	word(r, "scope", rule.Scope, wire.Scopes)
	for _, v := range rule.Match.Verdict {
		word(r, "verdict", v, policy.Verdicts)
	}
	if rule.Action.Value == policy.ActionNotify && rule.Grace.At.IsSet() {
		r.add(rule.Grace.At, "grace: a rule that only notifies ends nothing")
	}
	if len(r.errs) > checked {
		return
	}
	spec := rule.policy()
	if spec.Name == "" {
		spec.Name = "(unnamed)"
	}
	var fault *policy.FieldError
	if err := spec.Check(); errors.As(err, &fault) {
		at, text := rule.fieldAt(fault.Field)
		if fault.Line > 0 {
			at = within(at, text, fault.Line, fault.Column)
		}
		r.add(at, "%s: %s", fault.Field, policy.Message(fault.Err))
	}
}

// within moves at to a line and column of the text that stands there. A scalar may be
// plain, quoted or folded: the text's line is looked for, and where it cannot be
// found, at is all that is known.
func within(at Pos, text string, line, column int) Pos {
	lines := strings.Split(text, "\n")
	if at.src == nil || line > len(lines) {
		return at
	}
	wanted := lines[line-1]
	for n := at.Line; n <= min(len(at.src.lines), at.Line+len(lines)); n++ {
		source := at.src.lines[n-1]
		from := 0
		if n == at.Line {
			from = min(at.Column-1, len(source))
		}
		if i := strings.Index(source[from:], wanted); wanted != "" && i >= 0 {
			return Pos{at.src, n, len([]rune(source[:from+i])) + column}
		}
	}
	return at
}

// word checks a word against those that are valid; an unset one is fine.
func word(r *report, field string, t Text, valid []string) {
	if !t.At.IsSet() || slices.Contains(valid, t.Value) {
		return
	}
	if near := nearest.Hint(t.Value, valid...); near != "" {
		r.add(t.At, "%s: unknown word %q%s", field, t.Value, near)
		return
	}
	r.add(t.At, "%s: unknown word %q: there are %s", field, t.Value, nearest.List(valid))
}

func (c *Config) validateProtect(r *report) {
	for _, list := range []struct {
		texts []Text
		spec  func(string) policy.Protect
	}{
		{c.Protect.Units, func(s string) policy.Protect { return policy.Protect{Units: []string{s}} }},
		{c.Protect.Containers, func(s string) policy.Protect { return policy.Protect{Containers: []string{s}} }},
		{c.Protect.Cmdline, func(s string) policy.Protect { return policy.Protect{Cmdline: []string{s}} }},
	} {
		for _, t := range list.texts {
			if _, err := policy.NewProtection(list.spec(t.Value)); err != nil {
				r.add(t.At, "%v", err)
			}
		}
	}
}

func (c *Config) validateBudget(r *report) {
	if n := c.Budget.KillsPerMinute; n.Value < 1 {
		r.add(n.At, "budget.kills_per_minute: %d is less than 1: to end nothing, arm no rule or create the stop file", n.Value)
	}
	if f := c.Budget.StopFile; !filepath.IsAbs(f.Value) {
		r.add(f.At, "budget.stop_file: %q is not an absolute path", f.Value)
	}
}

func (c *Config) validateMonitor(r *report) {
	m := &c.Monitor
	if m.Interval.Value < time.Second {
		r.add(m.Interval.At, "monitor.interval: %s is less than 1s", m.Interval.Value)
	}
	for _, t := range []struct {
		name string
		Threshold
	}{{"memory", m.Memory}, {"cpu", m.CPU}, {"disk", m.Disk}} {
		if t.name != "disk" && len(t.Exclude) > 0 {
			r.add(t.Exclude[0].At, "monitor.%s.exclude: is for disk alone", t.name)
		}
		for _, glob := range t.Exclude {
			if _, err := path.Match(glob.Value, ""); err != nil {
				r.add(glob.At, "monitor.%s.exclude: %q: syntax error in pattern", t.name, glob.Value)
			}
		}
		if t.Off || t.Warning.Value < t.Critical.Value {
			continue
		}
		at := t.Warning.At
		if !at.IsSet() {
			at = t.Critical.At
		}
		r.add(at, "monitor.%s: warning at %g%% is not below critical at %g%%", t.name, t.Warning.Value, t.Critical.Value)
	}
	if m.OrphanAge.Value <= 0 && !m.OrphanAge.Off {
		r.add(m.OrphanAge.At, "monitor.orphan_age: must be more than nothing")
	}
	if m.ProcessMemory.Bytes == 0 && !m.ProcessMemory.Off {
		r.add(m.ProcessMemory.At, "monitor.process_memory: must be more than nothing")
	}
}

// minHistory is the least that is worth keeping: one segment of the stream, in compressed form.
const minHistory = 16 << 20

func (c *Config) validateHistory(r *report) {
	h := &c.History
	for _, s := range []struct {
		name string
		size Size
		min  uint64
	}{{"size", h.Size, minHistory}, {"notable_size", h.NotableSize, minHistory / 16}} {
		if s.size.Bytes < s.min {
			r.add(s.size.At, "history.%s: less than %d MiB: to keep nothing, write history: off", s.name, s.min>>20)
		}
		if s.size.Bytes > 1<<50 {
			r.add(s.size.At, "history.%s: more than any disk", s.name)
		}
	}
	for _, a := range []struct {
		name string
		age  Duration
	}{{"age", h.Age}, {"notable_age", h.NotableAge}} {
		if a.age.Value < time.Minute {
			r.add(a.age.At, "history.%s: less than a minute: to keep nothing, write history: off", a.name)
		}
	}
}

func (c *Config) validateNotify(r *report) {
	word(r, "notify.journald.min_severity", c.Notify.Journald.MinSeverity, wire.Severities)
	if n := c.Notify.PerUser; n.Value < 1 {
		r.add(n.At, "notify.per_user: want 1 or more notices a minute")
	}
	validateEvents(r, "notify.events", c.Notify.Events)
	for i := range c.Notify.Webhook {
		c.Notify.Webhook[i].validate(r)
	}
	for i := range c.Notify.Exec {
		e := &c.Notify.Exec[i]
		word(r, "notify.exec.min_severity", e.MinSeverity, wire.Severities)
		validateEvents(r, "notify.exec.events", e.Events)
		switch {
		case len(e.Command) == 0:
			r.add(e.At, "notify.exec: a command is missing")
		case !filepath.IsAbs(e.Command[0].Value):
			r.add(e.Command[0].At, "notify.exec.command: %q is not an absolute path", e.Command[0].Value)
		}
		timeout(r, "notify.exec.timeout", &e.Timeout)
		if e.User.At.IsSet() && e.User.Value == "" {
			r.add(e.User.At, "notify.exec.user: is empty")
		}
	}
}

// validateEvents wants names of event types.
func validateEvents(r *report, field string, events []Text) {
	for _, e := range events {
		word(r, field, e, wire.Types)
	}
}

func (w *Webhook) validate(r *report) {
	word(r, "notify.webhook.format", w.Format, Formats)
	validateEvents(r, "notify.webhook.events", w.Events)
	switch format := w.Format.Value; {
	case format == FormatTemplate && w.Template.Value == "":
		r.add(w.Format.At, "notify.webhook.format: template, and there is no template")
	case format != FormatTemplate && format != "" && w.Template.Value != "":
		r.add(w.Template.At, "notify.webhook.template: is for format template, not %s", format)
	}
	word(r, "notify.webhook.min_severity", w.MinSeverity, wire.Severities)
	timeout(r, "notify.webhook.timeout", &w.Timeout)
	if f := w.HMACSecretFile; f.At.IsSet() && !filepath.IsAbs(f.Value) {
		r.add(f.At, "notify.webhook.hmac_secret_file: %q is not an absolute path", f.Value)
	}
	if _, err := template.Parse(w.Template.Value); err != nil {
		r.add(w.Template.At, "notify.webhook.template: %s", strings.TrimPrefix(err.Error(), "template: "))
	}
	if !w.URL.At.IsSet() {
		r.add(w.At, "notify.webhook: a url is missing")
		return
	}
	u, err := url.Parse(w.URL.Value)
	switch {
	case err != nil:
		// The error repeats the URL, which may hold a secret.
		r.add(w.URL.At, "notify.webhook.url: not a URL")
	case u.Scheme != "https" && u.Scheme != "http" || u.Host == "":
		r.add(w.URL.At, "notify.webhook.url: want https://host/path or http://host/path")
	case u.User != nil:
		r.add(w.URL.At, "notify.webhook.url: credentials do not belong into the configuration")
	}
}

// timeout fills in a default and refuses what can never be met.
func timeout(r *report, field string, d *Duration) {
	if !d.At.IsSet() {
		d.Value = DefaultTimeout
	}
	if d.Value <= 0 {
		r.add(d.At, "%s: must be more than nothing", field)
	}
}

func (c *Config) validateMetrics(r *report) {
	if f := c.Metrics.Textfile; f.At.IsSet() && !filepath.IsAbs(f.Value) {
		r.add(f.At, "metrics.textfile: %q is not an absolute path", f.Value)
	}
	listen := c.Metrics.Listen
	if !listen.At.IsSet() {
		return
	}
	host, port, err := net.SplitHostPort(listen.Value)
	if err != nil || port == "" {
		r.add(listen.At, "metrics.listen: %q is not an address: write 127.0.0.1:9733", listen.Value)
		return
	}
	if addr, err := netip.ParseAddr(host); host != "localhost" && (err != nil || !addr.IsLoopback()) {
		r.add(listen.At, "metrics.listen: %q is not a loopback address: write 127.0.0.1:%s", listen.Value, port)
	}
}
