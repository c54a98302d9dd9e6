// SPDX-License-Identifier: Apache-2.0

package tracker

import "github.com/abot-trace/abot-trace/internal/event"

// Errorf is what check needs of a test.
type complainer interface {
	Helper()
	Errorf(format string, args ...any)
}

// refs returns every node in use.
func (t *Tree) refs() []ref {
	var all []ref
	for _, r := range t.live {
		all = append(all, r)
	}
	for _, r := range t.behind {
		all = append(all, r)
	}
	for _, r := range t.dead {
		all = append(all, r)
	}
	return all
}

func (t *Tree) children(r ref) []ref {
	var all []ref
	for child := t.at(r).spawner.first; child != 0; child = t.at(child).spawner.next {
		all = append(all, child)
	}
	return all
}

// check looks for whatever must never be wrong in a tree, at the beginning of a call.
func check(c complainer, t *Tree) {
	c.Helper()
	t.settle()
	checkCount(c, t)
	for _, r := range t.refs() {
		checkLinks(c, t, r, "spawner", bySpawner)
		checkLinks(c, t, r, "kernel", byKernel)
		checkNode(c, t, r)
	}
	checkTables(c, t)
	checkAll(c, t)
}

// checkAll compares both ways to get at all processes.
func checkAll(c complainer, t *Tree) {
	c.Helper()
	kept := []Process{{HostPID: 1}}
	appended := t.AppendAll(kept)[1:]
	at := make(map[event.ID]Process)
	for _, p := range appended {
		at[p.ID] = p
	}
	n := 0
	for p := range t.All(false) {
		if n++; at[p.ID] != p {
			c.Errorf("appended %+v, want %+v", at[p.ID], p)
		}
	}
	if n != len(appended) || len(at) != n {
		c.Errorf("%d appended, %d of them different, want %d", len(appended), len(at), n)
	}
}

// checkCount accounts for every node and every entry beside them.
func checkCount(c complainer, t *Tree) {
	c.Helper()
	used := len(t.live) + len(t.behind) + len(t.dead)
	if used+len(t.free)+1 != int(t.count) {
		c.Errorf("%d nodes, of which %d in use and %d free", int(t.count)-1, used, len(t.free))
	}
	if len(t.ends) != len(t.dead) {
		c.Errorf("%d ends of %d dead", len(t.ends), len(t.dead))
	}
	if !t.merging && len(t.behind) != 0 {
		c.Errorf("%d behind, and nothing to merge", len(t.behind))
	}
	if len(t.history) > t.historyCap {
		c.Errorf("history of %d, want at most %d", len(t.history), t.historyCap)
	}
	needed := 0
	for _, r := range t.dead {
		if t.at(r).held > 0 {
			needed++
		} else if !t.at(r).is(flagHistory) {
			c.Errorf("%v is dead, needed by nobody, and not in the history", t.at(r).id())
		}
	}
	if len(t.dead) > needed+t.historyCap {
		c.Errorf("%d dead: %d needed, history %d", len(t.dead), needed, t.historyCap)
	}
	for name, m := range map[string]map[ref]struct{}{
		"orphans": keys(t.orphans), "signals": keys(t.signals), "victims": keys(t.victims),
	} {
		for r := range m {
			if t.at(r).start == 0 && t.at(r).pid == 0 || t.at(r).is(flagDead) {
				c.Errorf("%s holds %v, which does not live", name, t.at(r).id())
			}
		}
	}
	for id := range t.atDeath {
		if t.living(t.find(id)) == 0 {
			c.Errorf("children's state of %v, which does not live", id)
		}
	}
}

func keys[V any](m map[ref]V) map[ref]struct{} {
	set := make(map[ref]struct{}, len(m))
	for r := range m {
		set[r] = struct{}{}
	}
	return set
}

// checkLinks looks at the place of r in one of the two trees.
func checkLinks(c complainer, t *Tree, r ref, name string, tree which) {
	c.Helper()
	id := t.at(r).id()
	prev := ref(0)
	for child := tree(t.at(r)).first; child != 0; child = tree(t.at(child)).next {
		if l := tree(t.at(child)); l.parent != r || l.prev != prev {
			c.Errorf("%s: child %v of %v is linked to %d after %d", name, t.at(child).id(), id, l.parent, l.prev)
			return
		}
		if !t.older(r, child) {
			c.Errorf("%s: %v is above %v, which is older", name, id, t.at(child).id())
		}
		prev = child
	}
	parent := tree(t.at(r)).parent
	if parent == 0 {
		return
	}
	found := false
	for child := tree(t.at(parent)).first; child != 0; child = tree(t.at(child)).next {
		found = found || child == r
	}
	if !found {
		c.Errorf("%s: %v is not among the children of its parent %v", name, id, t.at(parent).id())
	}
}

// checkNode looks at what r says of itself.
func checkNode(c complainer, t *Tree, r ref) {
	c.Helper()
	n := t.at(r)
	held := int32(0)
	for _, child := range t.children(r) {
		if t.lives(child) {
			held++
		}
	}
	if n.held != held {
		c.Errorf("%v is held by %d, counts %d", n.id(), held, n.held)
	}
	if n.is(flagDead) != (t.dead[n.id()] == r) {
		c.Errorf("%v: dead %v, but not so indexed", n.id(), n.is(flagDead))
	}
	if n.is(flagDead) && (n.kernel.parent != 0 || n.kernel.first != 0) {
		c.Errorf("%v is dead and in the kernel's tree", n.id())
	}
	line := 0
	for at := n.spawner.parent; at != 0 && t.at(at).is(flagDead) && t.at(at).held > 0; at = t.at(at).spawner.parent {
		if !t.at(at).is(flagPinned) {
			line++
		}
	}
	if line > maxDeadLine {
		c.Errorf("%v has a line of %d dead above it", n.id(), line)
	}
	if o := t.orphans[r]; o != nil && (o.Direct != (o.Root == n.id())) {
		c.Errorf("%v: direct %v, root %v", n.id(), o.Direct, o.Root)
	}
}

// checkTables counts the users of what nodes share.
func checkTables(c complainer, t *Tree) {
	c.Helper()
	words, origins, cgroups := map[interned]uint32{}, map[interned]uint32{}, map[interned]uint32{}
	for _, r := range t.refs() {
		words[t.at(r).words]++
		origins[t.at(r).origin]++
		cgroups[t.at(r).cgroup]++
	}
	checkTable(c, "words", &t.words, words)
	checkTable(c, "origins", &t.origins, origins)
	checkTable(c, "cgroups", &t.cgroups, cgroups)
}

func checkTable[T comparable](c complainer, name string, tab *table[T], users map[interned]uint32) {
	c.Helper()
	delete(users, 0)
	if len(tab.ids) != len(users) || len(tab.values) != len(users)+len(tab.free)+1 {
		c.Errorf("%s: %d names, %d values, %d free, for %d in use", name, len(tab.ids), len(tab.values)-1, len(tab.free), len(users))
	}
	for i, n := range users {
		if tab.users[i] != n {
			c.Errorf("%s %d: %d users, counts %d", name, i, n, tab.users[i])
		}
	}
}
