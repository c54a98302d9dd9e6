// SPDX-License-Identifier: Apache-2.0

package render

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/abot-trace/abot-trace/internal/quantity"
)

// A unitSum is what the processes of one unit hold that are drawn.
type unitSum struct {
	processes int
	memory    uint64 // bytes
}

// drawUnits appends the trees of each unit below its name.
func (d *Drawing) drawUnits(b []byte, text string) []byte {
	sums := make(map[string]*unitSum)
	for i := range d.nodes {
		n := &d.nodes[i]
		if !n.shown || n.kthread && !d.opt.Threads {
			continue
		}
		if sums[n.unit] == nil {
			sums[n.unit] = new(unitSum)
		}
		if n.running {
			sums[n.unit].processes += max(d.rows[i].equal, 1)
		}
		sums[n.unit].memory += d.rows[i].memory
	}
	slices.SortStableFunc(d.roots, func(a, b int32) int { return cmp.Compare(d.nodes[a].unit, d.nodes[b].unit) })
	for n, r := range d.roots {
		unit := d.nodes[r].unit
		if sum := sums[unit]; sum != nil && (n == 0 || d.nodes[d.roots[n-1]].unit != unit) {
			heading := fmt.Sprintf("%s: %s, %s", cmp.Or(unit, "in no unit"), quantity.Count(sum.processes, "process"), Bytes(sum.memory))
			b = append(b, d.opt.paint(bold, cutDisplay(heading, max(d.opt.Width, minText)+unlimited(d.opt.Style)))+"\n"...)
		}
		b = d.draw(b, text, r, "", "")
	}
	return b
}
