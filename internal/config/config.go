// SPDX-License-Identifier: Apache-2.0

// Package config reads the configuration: one YAML file, then the drop-ins of conf.d
// beside it. It is strict: whatever it does not know is an error that says where and
// what was probably meant. A configuration that Load returns is valid as a whole.
package config

import (
	"time"

	"github.com/abot-trace/abot-trace/internal/policy"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// DefaultPath is where the service keeps its configuration.
const DefaultPath = "/etc/abot-trace/config.yaml"

// Config is a whole configuration, merged and checked.
type Config struct {
	Socket  Socket  `yaml:"socket"`
	Enforce []Text  `yaml:"enforce"` // names of rules to arm
	Armed   []Armed `yaml:"armed"`   // rules that arm has armed
	Rules   []Rule  `yaml:"rules"`
	// Override is what was read of it. It is applied to Rules already.
	Override []Override `yaml:"override"`
	Protect  Protect    `yaml:"protect"`
	Budget   Budget     `yaml:"budget"`
	Monitor  Monitor    `yaml:"monitor"`
	History  History    `yaml:"history"`
	Notify   Notify     `yaml:"notify"`
	Metrics  Metrics    `yaml:"metrics"`

	// Files are the files that were read, in their order.
	Files []string

	off []string // names of rules that an override has removed
}

// Armed is a rule that a person has armed: it is as if its mode were enforce.
type Armed struct {
	At   Pos
	Rule Text `yaml:"rule"`
	By   Text `yaml:"by"`
	Time Text `yaml:"time"` // RFC 3339
	// LeaksPerDay is how much it may end within 24 hours; 0 is no limit.
	LeaksPerDay Int `yaml:"leaks_per_day"`
}

// Socket says who may talk to the daemon.
type Socket struct {
	Group Text `yaml:"group"`
}

// Rule is one rule as written; see [policy.Rule] for what its fields mean.
type Rule struct {
	At     Pos
	Name   Text     `yaml:"name"`
	Mode   Text     `yaml:"mode"`
	Match  Match    `yaml:"match"`
	Fields Fields   `yaml:",inline"` // beside match
	For    Duration `yaml:"for"`
	Action Text     `yaml:"action"`
	Scope  Text     `yaml:"scope"`
	Grace  Duration `yaml:"grace"`
}

// Match narrows a rule to some orphans; all that is given must hold.
type Match struct {
	Verdict []Text `yaml:"verdict"`
	Fields  Fields `yaml:",inline=match."`
}

// Protect adds to the built-in protected set.
type Protect struct {
	Users      []Text `yaml:"users"`
	Units      []Text `yaml:"units"`
	Containers []Text `yaml:"containers"`
	Cmdline    []Text `yaml:"cmdline"`
}

// Budget limits how fast trees are ended.
type Budget struct {
	KillsPerMinute Int      `yaml:"kills_per_minute"`
	WarmUp         Duration `yaml:"warm_up"`
	Pause          Duration `yaml:"pause"`
	StopFile       Text     `yaml:"stop_file"`
	// Respawn is how soon after a rule's kill another leak of the same fingerprint suspends
	// the rule for that; 0 is never.
	Respawn Duration `yaml:"respawn"`
}

// Monitor holds what the host's figures are held against.
type Monitor struct {
	Interval      Duration      `yaml:"interval"`
	Memory        Threshold     `yaml:"memory"`
	CPU           Threshold     `yaml:"cpu"`
	Disk          Threshold     `yaml:"disk"`
	OrphanAge     DurationOrOff `yaml:"orphan_age"`
	ProcessMemory SizeOrOff     `yaml:"process_memory"` // RSS plus swap of one process
	Hold          Duration      `yaml:"hold"`           // nothing is alerted on so soon after a start
}

// Threshold is where a figure becomes a warning and where it becomes critical.
type Threshold struct {
	Off      bool
	Warning  Percent  `yaml:"warning"`
	Critical Percent  `yaml:"critical"`
	For      Duration `yaml:"for"`     // how long it has to be so
	Exclude  []Text   `yaml:"exclude"` // globs on mount points, of disk alone
}

func (t *Threshold) switchOff() { *t = Threshold{Off: true} }

// History says how much of the past is kept; the word off in its place keeps none.
type History struct {
	Off         bool
	Size        Size     `yaml:"size"`
	Age         Duration `yaml:"age"`
	NotableSize Size     `yaml:"notable_size"`
	NotableAge  Duration `yaml:"notable_age"`
}

func (h *History) switchOff() { h.Off = true }

// Notify says who is told what.
type Notify struct {
	Journald Journald  `yaml:"journald"`
	Webhook  []Webhook `yaml:"webhook"`
	Exec     []Exec    `yaml:"exec"`
	PerUser  Int       `yaml:"per_user"` // notices a minute about processes of one user
	Events   []Text    `yaml:"events"`   // types that webhooks and commands are told of
}

// DefaultNotifyEvents are the types of events that webhooks and commands are told of where
// nothing else is said.
var DefaultNotifyEvents = []string{wire.TypeLeak, wire.TypeKill, wire.TypeAlert, wire.TypeLost}

// Formats of a webhook's body.
const (
	FormatGeneric  = "generic"  // the notice as JSON
	FormatSlack    = "slack"    // for Slack's incoming webhooks, and what takes the same
	FormatTemplate = "template" // by the webhook's own template
)

// Formats lists the valid words.
var Formats = []string{FormatGeneric, FormatSlack, FormatTemplate}

// Journald limits what goes to the journal.
type Journald struct {
	MinSeverity Text `yaml:"min_severity"`
}

// Webhook is one URL that notices are posted to.
type Webhook struct {
	At             Pos
	URL            Text     `yaml:"url"`
	MinSeverity    Text     `yaml:"min_severity"`
	HMACSecretFile Text     `yaml:"hmac_secret_file"`
	Format         Text     `yaml:"format"` // generic, or template where there is one
	Template       Text     `yaml:"template"`
	Events         []Text   `yaml:"events"` // in the place of notify.events
	Timeout        Duration `yaml:"timeout"`
}

// Exec is one command that notices are given to: an argv, never a shell.
type Exec struct {
	At          Pos
	Command     []Text   `yaml:"command"`
	MinSeverity Text     `yaml:"min_severity"`
	Timeout     Duration `yaml:"timeout"`
	User        Text     `yaml:"user"`   // who runs it; nobody by default
	Events      []Text   `yaml:"events"` // in the place of notify.events
}

// Metrics says where metrics go besides the socket.
type Metrics struct {
	Textfile Text `yaml:"textfile"`
	Listen   Text `yaml:"listen"` // by the helper, never by the privileged daemon
}

// Defaults of what a rule or a hook leaves out.
const (
	DefaultGrace   = 10 * time.Second
	DefaultTimeout = 10 * time.Second
)

// Default returns the configuration of an installation without a file: it watches,
// and has no rules.
func Default() *Config {
	percent := func(v float64) Percent { return Percent{Value: v} }
	return &Config{
		Budget: Budget{
			KillsPerMinute: Int{Value: 10},
			WarmUp:         Duration{Value: time.Minute},
			Pause:          Duration{Value: 5 * time.Second},
			StopFile:       Text{Value: "/run/abot-trace/stop"},
			Respawn:        Duration{Value: time.Minute},
		},
		Monitor: Monitor{
			Interval:      Duration{Value: 30 * time.Second},
			Memory:        Threshold{Warning: percent(75), Critical: percent(85)},
			CPU:           Threshold{Warning: percent(80), Critical: percent(90), For: Duration{Value: 5 * time.Minute}},
			Disk:          Threshold{Warning: percent(80), Critical: percent(90)},
			OrphanAge:     DurationOrOff{Duration: Duration{Value: 24 * time.Hour}},
			ProcessMemory: SizeOrOff{Size: Size{Bytes: 500e6}},
			Hold:          Duration{Value: time.Minute},
		},
		History: History{
			Size: Size{Bytes: 512 << 20}, Age: Duration{Value: 14 * 24 * time.Hour},
			NotableSize: Size{Bytes: 64 << 20}, NotableAge: Duration{Value: 90 * 24 * time.Hour},
		},
		Notify: Notify{Journald: Journald{MinSeverity: Text{Value: "info"}}, PerUser: Int{Value: 600}},
	}
}

// Policy returns the rules and the protected additions as the engine takes them,
// with the names of enforce armed.
func (c *Config) Policy() ([]policy.Rule, policy.Protect) {
	armed := make(map[string]bool)
	for _, name := range c.Enforce {
		armed[name.Value] = true
	}
	for i := range c.Armed {
		armed[c.Armed[i].Rule.Value] = true
	}
	rules := make([]policy.Rule, len(c.Rules))
	for i := range c.Rules {
		rules[i] = c.Rules[i].policy()
		if armed[rules[i].Name] {
			rules[i].Mode = wire.ModeEnforce
		}
	}
	return rules, policy.Protect{
		Users: values(c.Protect.Users), Units: values(c.Protect.Units),
		Containers: values(c.Protect.Containers), Cmdline: values(c.Protect.Cmdline),
	}
}

// Engine compiles the configuration's rules; oneShot as in [policy.Options].
func (c *Config) Engine(oneShot bool) (*policy.Engine, error) {
	rules, protect := c.Policy()
	return policy.NewEngine(policy.Options{Rules: rules, Protect: protect, OneShot: oneShot})
}

// LeaksPerDay is how many leaks the rule may end within 24 hours; 0 is no limit.
func (c *Config) LeaksPerDay(rule string) int {
	for i := range c.Armed {
		if a := &c.Armed[i]; a.Rule.Value == rule && a.LeaksPerDay.Value > 0 {
			return a.LeaksPerDay.Value
		}
	}
	return 0
}

// BudgetSpec returns the limits as the budget takes them.
func (c *Config) BudgetSpec() policy.BudgetSpec {
	return policy.BudgetSpec{
		KillsPerMinute: c.Budget.KillsPerMinute.Value,
		WarmUp:         c.Budget.WarmUp.Value,
		Pause:          c.Budget.Pause.Value,
		StopFile:       c.Budget.StopFile.Value,
		Respawn:        c.Budget.Respawn.Value,
	}
}

func (r *Rule) policy() policy.Rule {
	grace := DefaultGrace
	if r.Grace.At.IsSet() {
		grace = r.Grace.Value
	}
	return policy.Rule{
		Name: r.Name.Value, Mode: r.Mode.Value, Verdict: values(r.Match.Verdict), Match: r.match(),
		For: r.For.Value, Action: r.Action.Value, Scope: r.Scope.Value, Grace: grace,
	}
}

func values(texts []Text) []string {
	var s []string
	for _, t := range texts {
		s = append(s, t.Value)
	}
	return s
}
