// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// genForest draws up to 24 processes, each below an older one or below nobody, with
// whatever a process can be. Every pid is its start in seconds.
func genForest() *rapid.Generator[*forest] {
	return rapid.Custom(func(t *rapid.T) *forest {
		f := newForest()
		n := int32(rapid.IntRange(1, 24).Draw(t, "processes"))
		rarely := func(label string) bool { return rapid.IntRange(0, 7).Draw(t, label) == 0 }
		for pid := int32(2); pid < 2+n; pid++ {
			spawner := int32(rapid.IntRange(0, int(pid)-1).Draw(t, "spawner"))
			if spawner < 2 {
				spawner = 0
			}
			p := f.add(pid, spawner)
			p.Dead = rarely("dead")
			p.Observed = !rarely("not observed")
			p.Keep = rarely("keep")
			p.User = rapid.SampledFrom([]string{"app", "web"}).Draw(t, "user")
			p.Cmdline = rapid.SampledFrom([]string{"python3 -c work", "node server.js", ""}).Draw(t, "cmdline")
			p.RSS = uint64(rapid.IntRange(0, 100).Draw(t, "MiB")) << 20
			p.MemoryKnown = !rarely("memory unknown")
			if rarely("guardian") {
				p.Comm = "sshd"
			}
			p.MainPID = rarely("main")
			// The roots of a real tree are orphans for a reason; here any will do.
			p.Orphan = spawner != 0 && f.processes[id(spawner)].Dead || rapid.Bool().Draw(t, "orphan")
			// A verdict without an orphaning means nothing.
			p.Verdict = rapid.SampledFrom(Verdicts).Draw(t, "verdict")
			if p.Orphan {
				p.Since = at(time.Duration(rapid.IntRange(0, 200).Draw(t, "since")) * time.Second)
				p.Leak = rapid.SampledFrom([]string{"", "L1", "L2"}).Draw(t, "leak")
			}
		}
		return f
	})
}

func genRule(name string) *rapid.Generator[Rule] {
	return rapid.Custom(func(t *rapid.T) Rule {
		some := func(label string) bool { return rapid.IntRange(0, 3).Draw(t, label) == 0 }
		r := Rule{Name: name, Match: make(Match), Mode: rapid.SampledFrom(wire.Modes).Draw(t, "mode"),
			Scope: rapid.SampledFrom(wire.Scopes).Draw(t, "scope")}
		if some("notifies") {
			r.Action = ActionNotify
		}
		if rapid.Bool().Draw(t, "names verdicts") {
			r.Verdict = rapid.SliceOfNDistinct(rapid.SampledFrom(Verdicts), 1, 3, rapid.ID).Draw(t, "verdict")
		}
		if some("user") {
			r.Match["user"] = []string{"app"}
		}
		if some("cmdline") {
			r.Match["cmdline"] = "work"
		}
		if some("age") {
			r.Match["orphaned_for"] = time.Duration(rapid.IntRange(1, 200).Draw(t, "orphaned for")) * time.Second
		}
		if some("memory") {
			r.Match["memory_above"] = uint64(50 << 20)
		}
		if some("for") {
			r.For = time.Duration(rapid.IntRange(1, 50).Draw(t, "for")) * time.Second
		}
		return r
	})
}

func genRules() *rapid.Generator[[]Rule] {
	return rapid.Custom(func(t *rapid.T) []Rule {
		var rules []Rule
		for i := range rapid.IntRange(1, 4).Draw(t, "rules") {
			rules = append(rules, genRule(fmt.Sprint("rule", i)).Draw(t, "rule"))
		}
		return rules
	})
}

// check holds one decision against the tree and the rule as they are written,
// without a line of the engine's own logic but the protected set.
func check(t *rapid.T, f *forest, r Rule, d *Decision, now uint64) {
	for i := range d.Trees {
		if leak := f.processes[d.Trees[i].Root].Leak; leak != d.Leak || leak == "" && len(d.Trees) > 1 {
			t.Fatalf("a tree of leak %q in a decision on %q: %+v", leak, d.Leak, d)
		}
		checkRoot(t, f, r, d, d.Trees[i].Root, now)
	}
	verdicts := verdictsOf(r)
	if d.Action == ActionNotify && len(d.Targets) > 0 {
		t.Fatalf("a notice has targets: %+v", d)
	}
	for _, target := range d.Targets {
		checkTarget(t, f, d, verdicts, target)
	}
}

func verdictsOf(r Rule) []string {
	if r.Verdict == nil && r.Action != ActionNotify {
		return []string{"leaked"}
	}
	return r.Verdict
}

// checkRoot holds the root of one tree of a decision against the rule.
func checkRoot(t *rapid.T, f *forest, r Rule, d *Decision, id event.ID, now uint64) {
	root := f.processes[id]
	verdicts := verdictsOf(r)
	orphanedFor, _ := r.Match["orphaned_for"].(time.Duration)
	memoryAbove, _ := r.Match["memory_above"].(uint64)
	switch {
	case root == nil || root.Dead || !root.Orphan:
		t.Fatalf("the root of %+v is no living orphan", d)
	case verdicts != nil && !slices.Contains(verdicts, root.Verdict):
		t.Fatalf("verdict %s is not in %v", root.Verdict, verdicts)
	case r.Match["user"] != nil && !slices.Contains(r.Match.Texts("user"), root.User):
		t.Fatalf("user %s is not in %v", root.User, r.Match.Texts("user"))
	case r.Match["cmdline"] != nil && root.Cmdline != "python3 -c work":
		t.Fatalf("command line %q does not match", root.Cmdline)
	case now-root.Since < uint64(orphanedFor):
		t.Fatalf("orphan since %d, too young at %d for %s", root.Since, now, orphanedFor)
	case d.Enforceable != root.Observed:
		t.Fatalf("carries %v although observed is %v", d.Enforceable, root.Observed)
	}
	if bytes, known := f.TreeMemory(id); memoryAbove > 0 && (!known || bytes <= memoryAbove) {
		t.Fatalf("memory %d (known %v) is not above %d", bytes, known, memoryAbove)
	}
}

// checkTarget holds one target and everything between it and the root to the rules
// of what may be signalled.
func checkTarget(t *rapid.T, f *forest, d *Decision, verdicts []string, of Target) {
	target := of.ID
	if f.processes[target].Dead {
		t.Fatalf("%v is dead", target)
	}
	if d.Scope == wire.ScopeProcess && target != of.Tree {
		t.Fatalf("scope process, but %v is not the root", target)
	}
	for id := target; ; id = f.processes[id].Spawner {
		p := f.processes[id]
		if p == nil {
			t.Fatalf("%v is outside the tree of %v", target, of.Tree)
		}
		if p.Comm == "sshd" || p.MainPID || p.Keep {
			t.Fatalf("%v is protected or kept, or below such a one: %+v", target, p)
		}
		if id == of.Tree {
			return
		}
		if !p.Observed {
			t.Fatalf("%v hangs on an edge that was not observed: %+v", target, p)
		}
		if p.Orphan && !slices.Contains(verdicts, p.Verdict) {
			t.Fatalf("%v belongs to an orphan with the verdict %s", target, p.Verdict)
		}
	}
}

// TestDecisionsAreSafe: over random trees, rules and passes, no protected process, no
// process of a living owner, nothing outside the matched tree is ever in a decision,
// every condition holds, and no rule takes a process twice.
func TestDecisionsAreSafe(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := genForest().Draw(t, "forest")
		rules := genRules().Draw(t, "rules")
		e := mustEngineOf(t, Options{Rules: rules})
		now, taken := at(200*time.Second), make(map[string]bool)
		for range rapid.IntRange(1, 5).Draw(t, "passes") {
			var decisions []Decision
			if rapid.Bool().Draw(t, "by deadline") {
				decisions = e.Due(f, idleHost(), now)
			} else {
				decisions = e.Evaluate(f, idleHost(), now)
			}
			for i := range decisions {
				d := &decisions[i]
				rule := rules[slices.IndexFunc(rules, func(r Rule) bool { return r.Name == d.Rule })]
				check(t, f, rule, d, now)
				for _, target := range d.Targets {
					if !d.Enforceable {
						break
					}
					key := d.Rule + target.ID.String()
					// A wait may let a younger one act before its ancestor is ready.
					if taken[key] && rule.For == 0 && rule.Match["orphaned_for"] == nil {
						t.Fatalf("%s takes %v twice", d.Rule, target.ID)
					}
					taken[key] = true
				}
			}
			now += at(time.Duration(rapid.IntRange(0, 60).Draw(t, "step")) * time.Second)
		}
	})
}

// TestLivingOwner: processes that have no orphan among themselves and their ancestors
// are in no decision, whatever the rules.
func TestLivingOwner(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := genForest().Draw(t, "forest")
		e := mustEngineOf(t, Options{Rules: genRules().Draw(t, "rules")})
		var decisions []Decision
		for id := range f.processes { // orphan or not: the caller may be wrong
			decisions = append(decisions, e.EvaluateOrphans(f, idleHost(), []event.ID{id}, at(300*time.Second))...)
		}
		for _, d := range append(decisions, e.Evaluate(f, idleHost(), at(300*time.Second))...) {
			if slices.ContainsFunc(d.Roots(), func(root event.ID) bool { return !f.processes[root].Orphan }) {
				t.Fatalf("a root of %+v is no orphan", d)
			}
			for _, target := range d.Targets {
				owned := true
				for p := f.processes[target.ID]; p != nil; p = f.processes[p.Spawner] {
					owned = owned && !p.Orphan
				}
				if owned {
					t.Fatalf("%v has a living owner: %+v", target.ID, d)
				}
			}
		}
	})
}

// TestObserveAndEnforceDecideAlike: the mode is all that differs.
func TestObserveAndEnforceDecideAlike(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := genForest().Draw(t, "forest")
		rules := genRules().Draw(t, "rules")
		evaluate := func(mode string) (all []Decision) {
			for i := range rules {
				rules[i].Mode = mode
			}
			e := mustEngineOf(t, Options{Rules: rules})
			for second := time.Duration(200); second < 260; second += 20 {
				all = append(all, e.Evaluate(f, idleHost(), at(second*time.Second))...)
			}
			return all
		}
		observed, enforced := evaluate(wire.ModeObserve), evaluate(wire.ModeEnforce)
		ignore := cmp.Options{cmpopts.IgnoreFields(Decision{}, "Mode"), cmpopts.IgnoreUnexported(Decision{}, Tree{}), cmpopts.EquateNaNs()}
		if diff := cmp.Diff(observed, enforced, ignore); diff != "" {
			t.Fatalf("observe and enforce differ:\n%s", diff)
		}
		for i := range observed {
			if observed[i].Enforces() {
				t.Fatalf("a rule that observes enforces: %+v", observed[i])
			}
		}
	})
}

// TestOneByOneIsTheWholePass: judged one by one, in any order, orphans come to the
// same end as in a pass over all of them.
func TestOneByOneIsTheWholePass(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := genForest().Draw(t, "forest")
		rules := genRules().Draw(t, "rules")
		now := at(300 * time.Second)
		whole := mustEngineOf(t, Options{Rules: rules}).Evaluate(f, idleHost(), now)

		var ids []event.ID
		f.Orphans(func(id event.ID) bool { ids = append(ids, id); return true })
		slices.SortFunc(ids, compareAge)
		if len(ids) > 0 {
			ids = rapid.Permutation(ids).Draw(t, "order")
		}
		e := mustEngineOf(t, Options{Rules: rules})
		var single []Decision
		for _, id := range ids {
			single = append(single, e.EvaluateOrphans(f, idleHost(), []event.ID{id}, now)...)
		}
		if diff := cmp.Diff(roots(whole), roots(single)); diff != "" {
			t.Fatalf("whole pass (-) and one by one (+) differ:\n%s", diff)
		}
	})
}

// roots lists rule, root and targets of every tree, sorted.
func roots(decisions []Decision) []string {
	list := []string{}
	for _, d := range decisions {
		for _, root := range d.Roots() {
			ofTree := slices.DeleteFunc(slices.Clone(d.Targets), func(t Target) bool { return t.Tree != root })
			list = append(list, fmt.Sprintf("%s %v %v", d.Rule, root, pids(ofTree)))
		}
	}
	slices.Sort(list)
	return list
}

// TestExplainAgrees: what explain says will happen now is what happens, and asking
// changes nothing.
func TestExplainAgrees(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := genForest().Draw(t, "forest")
		rules := genRules().Draw(t, "rules")
		now := at(300 * time.Second)
		e := mustEngineOf(t, Options{Rules: rules})
		claims := make(map[string]RuleReason)
		for id := range f.processes {
			for _, reason := range e.Explain(f, idleHost(), id, now) {
				claims[reason.Name+id.String()] = reason
			}
		}
		for _, d := range e.Evaluate(f, idleHost(), now) {
			for _, root := range d.Roots() {
				if claim := claims[d.Rule+root.String()]; !claim.Applies || claim.ActsAt != now {
					t.Fatalf("%s acts on %v, but explain says %+v", d.Rule, root, claim)
				}
			}
		}
	})
}

// TestDeadlines: the heap gives back what it was given, the earliest first.
func TestDeadlines(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		instants := rapid.SliceOf(rapid.Uint64()).Draw(t, "instants")
		var h deadlines
		for _, at := range instants {
			h.push(deadline{at, id(2)})
		}
		slices.Sort(instants)
		for _, want := range instants {
			if got := h.pop().at; got != want {
				t.Fatalf("got %d, want %d", got, want)
			}
		}
	})
}
