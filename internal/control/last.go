// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/abot-trace/abot-trace/internal/enforce"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/policy"
	"github.com/abot-trace/abot-trace/internal/tracker"
)

// isResourceTracker reports whether the process is what a Python program has started to
// clean up when all who share its memory are gone. It says so by its arguments, and its
// spawner must be an interpreter of Python, as far as that is known.
func isResourceTracker(tree *tracker.Tree, id event.ID) bool {
	p, ok := tree.Get(id)
	if !ok || !enforce.ResourceTracker(event.SplitCmdline(p.Cmdline)) {
		return false
	}
	spawner, ok := tree.Get(p.Spawner)
	if !ok || spawner.Filename == "" {
		return true
	}
	words := append(event.SplitCmdline(spawner.Cmdline), spawner.Filename, spawner.Comm.String())
	return slices.ContainsFunc(words, func(word string) bool {
		name := path.Base(word)
		return strings.HasPrefix(name, "python") || strings.HasPrefix(name, "pypy")
	})
}

// lastRetry is how soon the resource trackers of a leak are looked at again whose others are
// still to be ended.
const lastRetry = 500 * time.Millisecond

// sortLast puts decisions upon resource trackers behind the others.
func (c *Controller) sortLast(decisions []policy.Decision) {
	slices.SortStableFunc(decisions, func(a, b policy.Decision) int {
		x, y := c.isLast(&a), c.isLast(&b)
		switch {
		case x == y:
			return 0
		case x:
			return 1
		default:
			return -1
		}
	})
}

// isLast reports whether d ends nobody but resource trackers.
func (c *Controller) isLast(d *policy.Decision) bool {
	tree := c.tracer.TreeOnLoop()
	return d.Action == policy.ActionKill && len(d.Targets) > 0 &&
		!slices.ContainsFunc(d.Targets, func(t policy.Target) bool { return !isResourceTracker(tree, t.ID) })
}

// comesTooEarly reports whether d ends the resource tracker of a leak of which others are
// being ended, or will be as soon as the budget lets them: whichever rule names them.
func (c *Controller) comesTooEarly(d *policy.Decision, now uint64) bool {
	if !c.isLast(d) {
		return false
	}
	v := c.bind()
	return slices.ContainsFunc(c.others(d), func(id event.ID) bool {
		return c.killOf(id) != nil || c.engine.WillEnd(v, &c.host, id, now)
	})
}

// others are the living processes of the leak that d belongs to, without d's own and without
// resource trackers.
func (c *Controller) others(d *policy.Decision) (others []event.ID) {
	tree := c.tracer.TreeOnLoop()
	root, ok := tree.Get(d.Root)
	if !ok || root.Orphan == nil || root.Orphan.Leaker == nil {
		return nil
	}
	own := make(map[event.ID]bool)
	for _, root := range d.Roots() {
		own[root] = true
		for id := range tree.Descendants(root) {
			own[id] = true
		}
	}
	add := func(id event.ID) {
		if !own[id] && !isResourceTracker(tree, id) {
			own[id] = true
			others = append(others, id)
		}
	}
	for id, o := range tree.OrphanIDs() {
		if !isOfLeak(o, root.Orphan) {
			continue
		}
		add(id)
		for below := range tree.Descendants(id) {
			add(below)
		}
	}
	return others
}

// isOfLeak reports whether two orphans belong to one leak.
func isOfLeak(a, b *tracker.Orphan) bool {
	return a.Leak != "" && a.Leak == b.Leak || a.Leaker != nil && b.Leaker != nil && a.Leaker.ID == b.Leaker.ID
}

// Others implements enforce.Tree.
func (k *authorizer) Others(ctx context.Context, req *enforce.Request) ([]event.ID, error) {
	var others []event.ID
	err := k.onLoop(ctx, func(*tracker.Tree) {
		if a := k.killsInFlight[req.KillID]; a != nil && a.decision != nil {
			others = k.others(a.decision)
		}
	})
	return others, err
}
