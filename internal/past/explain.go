// SPDX-License-Identifier: Apache-2.0

package past

import (
	"context"
	"slices"

	"github.com/abot-trace/abot-trace/internal/describe"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// BootNS is the time of the moment in CLOCK_BOOTTIME ns of its boot.
func (m *Moment) BootNS() uint64 { return uint64(m.Time.UnixNano() - m.player.offset()) }

// Explain says of the process with that pid what spoke for which verdict, and of a dead one
// which kill had reached it. What rules make of it is not the tree's to say.
func (m *Moment) Explain(ctx context.Context, src Source, pid int32) (*wire.Explain, error) {
	p, err := m.Process(ctx, pid)
	if err != nil {
		return nil, err
	}
	out := &wire.Explain{Process: *p, Evidence: []string{}, Rules: []wire.ExplainRule{}}
	if p.Orphan != nil {
		out.Evidence = p.Orphan.Evidence
	}
	if q, ok := m.player.Tree.Get(event.ID{PID: p.PID, Start: p.StartNS}); ok && q.LeftLineage {
		out.Evidence = append(slices.Clone(out.Evidence), describe.LeftLineage) // the tree's own
	}
	if p.State != wire.StateDead || p.StartedAt == nil {
		return out, nil
	}
	_, err = Events(ctx, src, Query{From: *p.StartedAt, To: m.Time, Types: []string{wire.TypeKill}, PID: pid}, func(e *wire.Event) error {
		for _, k := range e.Kill.Processes {
			if k.PID == p.PID && k.StartNS == p.StartNS && k.Outcome != wire.OutcomeWouldKill {
				out.EndedBy = e.Kill
			}
		}
		return nil
	})
	return out, err
}
