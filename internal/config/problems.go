// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/abot-trace/abot-trace/internal/policy"
	"github.com/abot-trace/abot-trace/internal/rootfile"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// Problems looks at what a valid configuration names and cannot be used at present, one
// sentence each. The daemon goes on without.
func (c *Config) Problems() []string {
	var list []string
	for i, w := range c.Notify.Webhook {
		if w.HMACSecretFile.Value == "" {
			continue
		}
		f, err := rootfile.Root.Open(w.HMACSecretFile.Value)
		if err != nil {
			list = append(list, fmt.Sprintf("notify.webhook[%d].hmac_secret_file %s: %v", i, w.HMACSecretFile.Value, err))
			continue
		}
		f.Close()
	}
	return list
}

// NotToldOfOrphans names the webhooks and commands that say nothing of events and so are told
// of leaks, as a whole, and no more of every orphan.
func (c *Config) NotToldOfOrphans() (list []string) {
	if len(c.Notify.Events) > 0 {
		return nil
	}
	for i, w := range c.Notify.Webhook {
		if len(w.Events) == 0 {
			list = append(list, fmt.Sprintf("notify.webhook[%d]", i))
		}
	}
	for i, e := range c.Notify.Exec {
		if len(e.Events) == 0 {
			list = append(list, fmt.Sprintf("notify.exec[%d]", i))
		}
	}
	return list
}

// Warnings tells of what a valid configuration says and hardly anyone means, one sentence each:
// matches that can never hold, and armed rules that match on verdicts alone. KnowsUser reports
// whether there is a user of that name.
func (c *Config) Warnings(knowsUser func(name string) bool) (list []string) {
	rules, _ := c.Policy()
	for i := range c.Rules {
		r := &c.Rules[i]
		warn := func(at Pos, format string, args ...any) {
			e := Error{Pos: at}
			list = append(list, fmt.Sprintf("%s:%d:%d: rule %q: ", e.File(), at.Line, at.Column, r.Name.Value)+fmt.Sprintf(format, args...))
		}
		r.given(func(f *policy.Field, target any) {
			texts, ok := target.(*[]Text)
			if !ok {
				return
			}
			for _, t := range *texts {
				switch {
				case f.Path == "match.exe" && !strings.ContainsAny(t.Value, "/["):
					warn(t.At, "exe %q never holds: the whole path is compared, as in /usr/bin/%s, and * matches no slash", t.Value, strings.TrimLeft(t.Value, "*"))
				case f.Path == "match.user" && !isNumber(t.Value) && !knowsUser(t.Value):
					warn(t.At, "user %q never holds: there is no such user", t.Value)
				}
			}
		})
		if p := &rules[i]; p.Mode == wire.ModeEnforce && p.Action != policy.ActionNotify && len(p.Match) == 0 {
			warn(r.At, "it is armed and matches on verdicts alone: it ends all of them, whoever's they are")
		}
	}
	return list
}

func isNumber(s string) bool {
	_, err := strconv.ParseUint(s, 10, 32)
	return err == nil
}
