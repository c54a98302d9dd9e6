// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"time"

	"github.com/abot-trace/abot-trace/internal/boottime"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/verdict"
)

// lookAt is how long after a death its orphans are looked at again, whatever happens. By the
// first one the kernel has closed what the dead one held; the last one is when a verdict
// is final with what is known; those after it find who detached late.
var lookAt = [...]time.Duration{5 * time.Millisecond, 50 * time.Millisecond, verdict.Settles, 10 * time.Second, time.Minute}

// settleLook is the place of verdict.Settles in lookAt.
const settleLook = 2

// A dueLook is an orphan to be looked at.
type dueLook struct {
	at     uint64 // CLOCK_BOOTTIME ns
	orphan *openCase
}

// schedule has an orphan looked at at each of the times to come.
func (g *Gatherer) schedule(c *openCase) {
	now := boottime.Now()
	for i, after := range lookAt {
		if i == 0 && c.noEnds() {
			continue
		}
		at := max(c.since, now-min(now, uint64(lookAt[settleLook]))) + uint64(after)
		queue := g.due[i]
		// Deaths are told in their order; after a restart nearly so.
		if n := len(queue); n > 0 && queue[n-1].at > at {
			at = queue[n-1].at
		}
		g.due[i] = append(queue, dueLook{at, c})
	}
}

// NextLook is when LookAgain has something to do, CLOCK_BOOTTIME ns; 0 is never.
func (g *Gatherer) NextLook() (next uint64) {
	for _, queue := range g.due {
		if len(queue) > 0 && (next == 0 || queue[0].at < next) {
			next = queue[0].at
		}
	}
	return next
}

// maxLooks bounds how many orphans are looked at between two looks at the ring.
const maxLooks = 256

// LookAgain looks at the orphans whose time has come.
func (g *Gatherer) LookAgain() {
	now := boottime.Now()
	for i := range g.due {
		for n := 0; len(g.due[i]) > 0 && g.due[i][0].at <= now && n < maxLooks; n++ {
			c := g.due[i][0].orphan
			g.due[i][0] = dueLook{}
			g.due[i] = g.due[i][1:]
			if g.cases[c.id] != c {
				continue
			}
			g.lookOnTime(c, i)
		}
	}
}

func (g *Gatherer) lookOnTime(c *openCase, i int) {
	if i == settleLook {
		c.settled = true
	}
	// The other ends are asked again: what is held may be let go of.
	if !c.noEnds() && c.asked.ends != waiting {
		if p, ok := g.tree.Get(c.id); ok && !p.Dead {
			g.askEnds(c, &p)
		}
	}
	if i > 0 {
		g.look(c, "a second look, "+lookAt[i].String()+" after the death")
	}
}

// Execed looks at an orphan that has executed a program.
func (g *Gatherer) Execed(id event.ID) { g.happened(id, "its exec") }

// Moved looks at an orphan that was moved to another control group.
func (g *Gatherer) Moved(id event.ID) { g.happened(id, "its move to another control group") }

// happened looks at an orphan to which something happened.
func (g *Gatherer) happened(id event.ID, what string) {
	if c := g.cases[id]; c != nil && c.told {
		c.asked.listens, c.listens = unasked, verdict.NotAsked
		g.look(c, what)
	}
}

// KillMode is what the manager does with a unit's processes when it ends the unit, as far as it
// has told.
func (g *Gatherer) KillMode(unit string) string {
	if g.owners == nil {
		return ""
	}
	state, _ := g.owners.Told(unit)
	return state.KillMode
}

// UnitChanged looks at the orphans in a unit whose state has changed.
func (g *Gatherer) UnitChanged(unit string) {
	for _, c := range g.cases {
		if c.unitName == unit {
			g.look(c, "another state of its unit "+unit)
		}
	}
}
