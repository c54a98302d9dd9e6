// SPDX-License-Identifier: Apache-2.0

package tracker

import (
	"math"
	"slices"

	"github.com/abot-trace/abot-trace/internal/event"
)

// which selects one of a node's two links.
type which func(*node) *links

func bySpawner(n *node) *links { return &n.spawner }
func byKernel(n *node) *links  { return &n.kernel }

// older reports whether a started before b. Spawners and adopters always did, so links
// that obey it never form a circle, whatever a stream says. Processes of the boot's
// first instants share a time.
func (t *Tree) older(a, b ref) bool {
	x, y := t.at(a), t.at(b)
	return x.start < y.start || x.start == y.start && x.pid < y.pid
}

// attach makes child, which has no parent in that tree, the first child of parent.
func (t *Tree) attach(tree which, child, parent ref) {
	c := tree(t.at(child))
	p := tree(t.at(parent))
	c.parent, c.prev, c.next = parent, 0, p.first
	if p.first != 0 {
		tree(t.at(p.first)).prev = child
	}
	p.first = child
}

// detach takes child out of its parent's list.
func (t *Tree) detach(tree which, child ref) {
	c := tree(t.at(child))
	if c.parent == 0 {
		return
	}
	if c.prev != 0 {
		tree(t.at(c.prev)).next = c.next
	} else {
		tree(t.at(c.parent)).first = c.next
	}
	if c.next != 0 {
		tree(t.at(c.next)).prev = c.prev
	}
	c.parent, c.prev, c.next = 0, 0, 0
}

// setKernelParent notes who the kernel's parent of child is now; 0 is nobody known.
// The dead are nobody's parent for the kernel.
func (t *Tree) setKernelParent(child, parent ref) {
	if t.at(child).kernel.parent == parent {
		return
	}
	t.detach(byKernel, child)
	if t.living(parent) != 0 && t.older(parent, child) {
		t.attach(byKernel, child, parent)
	}
}

// setSpawner places child below parent in the lineage; 0 makes it a root.
func (t *Tree) setSpawner(child, parent ref) {
	if t.at(child).spawner.parent == parent {
		return
	}
	from := t.at(child).spawner.parent
	t.detach(bySpawner, child)
	lives := t.lives(child)
	if parent != 0 && t.older(parent, child) {
		t.attach(bySpawner, child, parent)
		if lives {
			t.addHeld(parent)
		}
	}
	if lives {
		t.dropHeld(from)
	}
}

// lives reports whether r lives or has living descendants.
func (t *Tree) lives(r ref) bool { return !t.at(r).is(flagDead) || t.at(r).held > 0 }

// addHeld notes that r has one child more that lives or has living descendants.
func (t *Tree) addHeld(r ref) {
	for r != 0 {
		n := t.at(r)
		n.held++
		if !n.is(flagDead) || n.held > 1 {
			return
		}
		r = n.spawner.parent
	}
}

// dropHeld notes that r has one such child less. The dead that nobody needs any more go
// into the history.
func (t *Tree) dropHeld(r ref) {
	for r != 0 {
		n := t.at(r)
		n.held--
		if !n.is(flagDead) || n.held > 0 {
			return
		}
		above := n.spawner.parent
		t.retire(r)
		r = above
	}
}

// retire takes a dead node that no living descendant needs into the history.
func (t *Tree) retire(r ref) {
	if t.at(r).is(flagHistory) {
		return
	}
	t.at(r).flags |= flagHistory
	t.history = append(t.history, r)
}

// settle brings the memory of the dead back within its bounds. It is for the beginning of
// a call: what the last one has reported must be there for whoever reads the report.
func (t *Tree) settle() {
	for _, r := range t.justDied {
		if n := t.at(r); n.is(flagDead) && n.held > 0 {
			t.shorten(r)
		}
	}
	t.justDied = t.justDied[:0]
	for len(t.history) > t.historyCap {
		oldest := t.history[0]
		t.history = t.history[1:]
		t.at(oldest).flags &^= flagHistory
		// It may have become an ancestor again: a fork's record can follow the death.
		if t.at(oldest).held == 0 {
			t.elide(oldest)
		}
	}
}

// Pin keeps the node of a process from being forgotten while it has living descendants,
// however long the line of the dead is that it stands in; Unpin ends that.
func (t *Tree) Pin(id event.ID) {
	t.input(InputPin, id, nil)
	t.setFlag(id, flagPinned, true)
}

// Unpin takes back [Tree.Pin].
func (t *Tree) Unpin(id event.ID) {
	t.input(InputUnpin, id, nil)
	t.setFlag(id, flagPinned, false)
}

func (t *Tree) setFlag(id event.ID, flag uint32, set bool) {
	if r := t.find(id); r != 0 {
		t.at(r).flags = t.at(r).flags&^flag | flagIf(flag, set)
	}
}

// elide forgets a dead node. Its children in the lineage go to its own spawner.
func (t *Tree) elide(r ref) {
	above := t.at(r).spawner.parent
	for child := t.at(r).spawner.first; child != 0; child = t.at(r).spawner.first {
		t.at(child).flags |= flagElided
		t.detach(bySpawner, child)
		if above != 0 {
			t.attach(bySpawner, child, above)
		}
	}
	if above != 0 && t.at(r).held > 0 {
		// Its needs become those of its spawner, which had counted it as one.
		t.at(above).held += t.at(r).held - 1
	}
	t.detach(bySpawner, r)
	t.freeNode(r)
}

// freeNode frees a dead node that is out of both trees.
func (t *Tree) freeNode(r ref) {
	n := t.at(r)
	delete(t.dead, n.id())
	t.told -= t.ends[r].told
	delete(t.ends, r)
	delete(t.callers, r)
	t.words.drop(n.words)
	t.origins.drop(n.origin)
	t.origins.drop(n.begun)
	t.cgroups.drop(n.cgroup)
	*n = node{}
	t.free = append(t.free, r)
}

// shorten keeps the lines of dead ancestors short after r has died, by forgetting
// the topmost that is not pinned. r may have joined a line above it to one below. The
// pinned do not count.
func (t *Tree) shorten(r ref) {
	line := 0
	for child := t.at(r).spawner.first; child != 0; child = t.at(child).spawner.next {
		if n := t.at(child); n.is(flagDead) && n.held > 0 {
			line = max(line, int(n.line))
		}
	}
	t.path = t.path[:0]
	for at := r; at != 0 && t.at(at).is(flagDead); at = t.at(at).spawner.parent {
		if !t.at(at).is(flagPinned) {
			line++
			t.path = append(t.path, at)
		}
		t.at(at).line = uint8(min(max(int(t.at(at).line), line), math.MaxUint8))
	}
	limit := maxDeadLine
	if len(t.dead) > crowd {
		limit = crowdedLine
	}
	for _, at := range slices.Backward(t.path) {
		if line <= limit {
			return
		}
		t.elide(at)
		line--
	}
}
