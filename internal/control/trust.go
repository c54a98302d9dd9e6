// SPDX-License-Identifier: Apache-2.0

package control

import (
	"cmp"
	"fmt"
	"time"

	"github.com/abot-trace/abot-trace/internal/boottime"
	"github.com/abot-trace/abot-trace/internal/config"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/policy"
	"github.com/abot-trace/abot-trace/internal/quantity"
	"github.com/abot-trace/abot-trace/internal/trust"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// maxRecentKills bounds how many kills are remembered to see whether their victims come back.
const maxRecentKills = 4096

// A recentKill is what a rule has ended of leaks of one fingerprint lately.
type recentKill struct {
	from, until uint64 // its first signals, and its end; CLOCK_BOOTTIME, ns
	unit        string // its tree's; empty where that had failed before
}

// A killKey says of what a recentKill was.
type killKey struct{ fingerprint, rule string }

// exempt says why a rule does not end a process because of what was decided about the
// fingerprint of its leak, or nothing.
func (v *view) exempt(id event.ID) func(rule string) string {
	if v.trust == nil || !v.trust.Exempts() {
		return nil
	}
	return func(rule string) string {
		fingerprint, _ := v.tracer.Leaks().Case(id)
		return v.trust.Exempt(fingerprint, rule)
	}
}

// leaseExempt says why nothing is ended that the holder of a lease leaves, or nothing.
func (c *Controller) leaseExempt(holder event.ID) string {
	if c.opt.Trust == nil || !c.opt.Trust.Exempts() {
		return ""
	}
	return c.opt.Trust.Exempt(c.tracer.Leaks().CaseOf(holder), config.LeaseRule)
}

// noteKill remembers a kill that begins.
func (c *Controller) noteKill(a *killInFlight, rule string) {
	if c.opt.Trust == nil || a.decision == nil {
		return
	}
	now := boottime.Now()
	if a.fingerprint == "" {
		return
	}
	if len(c.recentKills) >= maxRecentKills {
		clear(c.recentKills)
	}
	kill := recentKill{from: now, until: now}
	if a.root != nil && a.root.Unit != "" && c.opt.Owners != nil {
		if s, known := c.opt.Owners.Told(a.root.Unit); known && s.State != unitFailed {
			kill.unit = a.root.Unit
		}
	}
	c.recentKills[killKey{a.fingerprint, rule}] = kill
}

const unitFailed = "failed"

// noteKilled counts for its rule what a kill has ended.
func (c *Controller) noteKilled(a *killInFlight, kill *wire.Kill) {
	if c.opt.Trust == nil || a == nil || a.decision == nil || kill.Mode != wire.ModeEnforce {
		return
	}
	var died uint64
	for i := range kill.Processes {
		if kill.Processes[i].Outcome == wire.OutcomeDied {
			died++
		}
	}
	key := killKey{a.fingerprint, kill.Rule}
	if died == 0 {
		delete(c.recentKills, key)
		return
	}
	if recent, ok := c.recentKills[key]; ok {
		recent.until = boottime.Now()
		c.recentKills[key] = recent
	}
	c.opt.Trust.Ended(kill.Rule, died, kill.FreedBytes, time.Now())
	c.opt.TrustChanged()
}

// cameBack reports whether a leak of the fingerprint that was opened then is one of those
// whose likes the rule has just ended: it treats a symptom. It is suspended for them.
func (c *Controller) cameBack(fingerprint, rule string, opened uint64) bool {
	recent, ok := c.recentKills[killKey{fingerprint, rule}]
	if !ok || c.spec.Respawn <= 0 || opened <= recent.from || opened > recent.until+uint64(c.spec.Respawn) {
		return false
	}
	after := time.Duration(opened - recent.from)
	c.suspend(fingerprint, rule, "its victims came back "+quantity.FormatDuration(after.Round(time.Millisecond))+
		" after it had ended them: it treats a symptom")
	return true
}

// decidedBack is cameBack for a tree that a rule is about to end.
func (c *Controller) decidedBack(d *policy.Decision) bool {
	if len(c.recentKills) == 0 {
		return false
	}
	fingerprint, opened := c.tracer.Leaks().Case(d.Root)
	return c.cameBack(fingerprint, d.Rule, opened)
}

// noteLeak looks at a leak that was opened.
func (c *Controller) noteLeak(l *wire.Leak) {
	if l.Change != wire.LeakOpened {
		return
	}
	for key := range c.recentKills {
		if key.fingerprint == l.Fingerprint {
			c.cameBack(key.fingerprint, key.rule, l.OpenedNS)
		}
	}
}

// UnitChanged takes note of a unit whose state is another: where it failed for want of what a
// rule has just ended, the rule is suspended for that. On the loop.
func (c *Controller) UnitChanged(unit string) {
	if c.opt.Owners == nil || c.spec.Respawn <= 0 {
		return
	}
	now := boottime.Now()
	for key, kill := range c.recentKills {
		if kill.unit != unit || now > kill.until+uint64(c.spec.Respawn) {
			continue
		}
		if s, known := c.opt.Owners.Told(unit); known && s.State == unitFailed {
			c.suspend(key.fingerprint, key.rule, fmt.Sprintf("unit %s failed after it had ended what was in it", unit))
		}
	}
}

// suspend keeps the rule from leaks of the fingerprint until somebody forgets that, and tells.
func (c *Controller) suspend(fingerprint, rule, why string) {
	delete(c.recentKills, killKey{fingerprint, rule})
	if c.opt.Trust.Suspended(fingerprint, rule) {
		return
	}
	t, err := c.opt.Trust.Decide(wire.Trust{Kind: wire.TrustSuspend, Fingerprint: fingerprint, Rule: rule, Reason: why,
		Name: c.tracer.Leaks().NameOf(fingerprint), Since: time.Now()})
	if err != nil {
		c.opt.Log.Warn("a rule whose victims come back goes on", "rule", rule, "fingerprint", fingerprint, "err", err)
		return
	}
	c.opt.TrustChanged()
	c.notifyOrDefer(func() { c.tracer.PublishOnLoop(&wire.Event{Type: wire.TypeTrust, Trust: &t}) })
	c.alert(wire.Alert{Name: "suspended:" + rule, State: wire.AlertWarning, Previous: wire.AlertOK, Since: time.Now(),
		Message: trust.Sentence(&t) + "; abot-trace leaks forget " + fingerprint + " lets it go on"})
}

// grantToday asks whether the rule may end one more leak within its day.
func (c *Controller) grantToday(rule string, now uint64) policy.Grant {
	limit := c.cfg.LeaksPerDay(rule)
	if limit == 0 || c.opt.Trust == nil {
		return policy.Grant{OK: true}
	}
	wall := time.Now()
	n, next := c.opt.Trust.Today(rule, wall)
	running := 0
	for _, a := range c.killsInFlight {
		if a.armed && a.decision != nil && a.decision.Rule == rule {
			running++
		}
	}
	if n+running < limit {
		return policy.Grant{OK: true}
	}
	retry := now + uint64(busyRetry)
	if running == 0 {
		retry = max(retry, now+uint64(max(0, next.Sub(wall))))
	}
	return policy.Grant{Why: fmt.Sprintf("it has ended %d leaks within a day, which is its limit", n), RetryAt: retry,
		Exhausted: running == 0}
}

// Reconsider evaluates the rules anew: something else than the tree has changed. On the loop.
func (c *Controller) Reconsider() {
	c.decide(c.engine.Evaluate(c.bind(), &c.host, boottime.Now()))
}

// Rules tells of each rule what it may do, and has done. On the loop.
func (c *Controller) Rules(now time.Time) []wire.RuleStatus {
	rules, _ := c.cfg.Policy()
	list := make([]wire.RuleStatus, 0, len(rules))
	for i := range rules {
		s := wire.RuleStatus{Name: rules[i].Name, Mode: cmp.Or(rules[i].Mode, wire.ModeObserve), LeaksPerDay: c.cfg.LeaksPerDay(rules[i].Name)}
		for j := range c.cfg.Armed {
			if a := &c.cfg.Armed[j]; a.Rule.Value == s.Name {
				s.ArmedBy = a.By.Value
				if at, err := time.Parse(time.RFC3339, a.Time.Value); err == nil {
					s.ArmedAt = &at
				}
			}
		}
		if book := c.opt.Trust; book != nil {
			r := book.Rule(s.Name)
			s.Leaks, s.Processes, s.Bytes = r.Leaks, r.Processes, r.Bytes
			s.Today, _ = book.Today(s.Name, now)
			for _, t := range book.All(now) {
				if t.Kind == wire.TrustSuspend && t.Rule == s.Name {
					s.Suspended = append(s.Suspended, t.Fingerprint)
				}
			}
		}
		list = append(list, s)
	}
	return list
}
