// SPDX-License-Identifier: Apache-2.0

package render

import (
	"cmp"
	"slices"
)

// fold leaves one of several equal leaves of a process: it stands for all, with their
// memory. Equal are those of one user with the same command and the same note.
func (d *Drawing) fold(text string) {
	firsts := make(map[string]int32)
	for i := range d.nodes {
		if d.nodes[i].first == d.nodes[i].last {
			continue // one child or none
		}
		clear(firsts)
		for c := d.visible(d.nodes[i].first); c != nobody; c = d.visible(d.nodes[c].next) {
			if d.visible(d.nodes[c].first) != nobody || d.nodes[c].kthread || d.nodes[c].id.pid == d.opt.Root {
				continue
			}
			r := &d.rows[c]
			key := r.user + "\x00" + text[r.at+r.left:][:r.command+r.note]
			first, found := firsts[key]
			if !found {
				firsts[key] = c
				continue
			}
			all := &d.rows[first]
			all.equal = max(all.equal, 1) + 1
			all.memory, all.sized = all.memory+r.memory, all.sized || r.sized
			d.nodes[c].shown = false
		}
	}
}

// limit leaves the lines that are worth most: leaked orphans first, then other orphans,
// then what holds much memory, each with what spawned it.
func (d *Drawing) limit(rows int) {
	var order []int32
	for i := range d.nodes {
		n := &d.nodes[i]
		if n.shown && (!n.kthread || d.opt.Threads) {
			order = append(order, int32(i))
		}
		n.shown = n.shown && n.kthread && !d.opt.Threads // still counted
	}
	slices.SortStableFunc(order, func(a, b int32) int {
		return cmp.Or(cmp.Compare(d.worth(b), d.worth(a)), cmp.Compare(d.rows[b].memory, d.rows[a].memory))
	})
	for _, i := range order {
		path := d.missing(i, rows)
		if len(path) > rows {
			continue
		}
		for _, at := range path {
			d.nodes[at].shown = true
		}
		rows -= len(path)
	}
	for _, i := range order {
		if !d.nodes[i].shown {
			d.cutOff += max(d.rows[i].equal, 1)
		}
	}
}

func (d *Drawing) worth(i int32) int {
	switch n := &d.nodes[i]; {
	case d.opt.Root != 0 && n.id.pid == d.opt.Root:
		return 3
	case n.leaked && n.running:
		return 2
	case n.orphan && n.running:
		return 1
	}
	return 0
}

// missing lists i and its ancestors that are not shown yet, up to one more than most.
func (d *Drawing) missing(i int32, most int) (path []int32) {
	for ; i != nobody && !d.nodes[i].shown && len(path) <= most; i = d.nodes[i].parent {
		path = append(path, i)
	}
	return path
}
