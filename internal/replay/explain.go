// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"time"

	"github.com/abot-trace/abot-trace/internal/policy"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// Explain says for each rule of the engine why it would have applied to a process of a tree
// that is told as JSON, or not: at an instant of CLOCK_BOOTTIME, ns, of the tree's boot, which
// is its Time. What the host used, and how long a condition had held, is not known.
func Explain(doc *wire.Tree, engine *policy.Engine, p *wire.Process, now uint64) []wire.ExplainRule {
	t := newTree()
	for i := range doc.Processes {
		t.apply(&wire.Event{Process: &doc.Processes[i]})
	}
	id := t.apply(&wire.Event{Process: p}) // a dead one may not be in the tree
	host := policy.UnknownHost()
	rules := []wire.ExplainRule{}
	for _, r := range engine.Explain(t, &host, id, now) {
		rule := wire.ExplainRule{Name: r.Name, Applies: r.Applies, Why: r.Why}
		if r.ActsAt != 0 {
			at := doc.Time.Add(time.Duration(int64(r.ActsAt) - int64(now)))
			rule.ActsAt = &at
		}
		rules = append(rules, rule)
	}
	return rules
}
