// SPDX-License-Identifier: Apache-2.0

package past

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/abot-trace/abot-trace/internal/history"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// Leaks returns the leaks that were told of until a time (zero is no bound), each as it was
// told last by then, and of one id alone unless that is empty; the oldest first. The second
// result is how many entries could not be read.
func Leaks(ctx context.Context, src Source, until time.Time, id string) ([]wire.Leak, uint64, error) {
	v := src.View(history.Notable)
	last := make(map[string]*wire.Leak)
	boot := ""
	for l := range toldIn(v, history.Range{To: until}) {
		if l.err == nil {
			l.err = ctx.Err()
		}
		if l.err != nil {
			return nil, v.Missed, l.err
		}
		if l.boot != boot {
			boot = l.boot
			for _, open := range last {
				EndUnseen(open, l.at) // no process outlives its boot
			}
		}
		if typeOf(l.JSON) != wire.TypeLeak {
			continue
		}
		var e wire.Event
		if err := json.Unmarshal(l.JSON, &e); err != nil {
			return nil, v.Missed, fmt.Errorf("notable event %d: %w", l.Seq, err)
		}
		if e.Leak != nil && (id == "" || e.Leak.ID == id) {
			last[e.Leak.ID] = e.Leak
		}
	}
	list := make([]wire.Leak, 0, len(last))
	for _, l := range last {
		// What the event told, and not the leak.
		l.Change, l.Previous, l.Threshold = "", "", ""
		if id == "" {
			l.Remedy = nil // that is told of one leak, as now
		}
		list = append(list, *l)
	}
	slices.SortFunc(list, func(a, b wire.Leak) int { return cmp.Or(a.OpenedAt.Compare(b.OpenedAt), cmp.Compare(a.ID, b.ID)) })
	return list, v.Missed, nil
}

// EndUnseen has a leak that is told to be open end at a time, by which it is known to be over.
func EndUnseen(l *wire.Leak, at time.Time) {
	if l.State == wire.LeakStateOpen {
		l.State, l.EndedAt, l.Processes.Now, l.RSSBytes, l.SwapBytes, l.Members = wire.LeakStateEnded, &at, 0, nil, nil, nil
	}
}

// Leaks returns the leaks as they were at the moment: as they were told by then, with the
// members that lived.
func (m *Moment) Leaks(ctx context.Context, src Source, id string) ([]wire.Leak, error) {
	list, missed, err := Leaks(ctx, src, m.Time, id)
	if err != nil {
		return nil, err
	}
	if missed > 0 {
		m.Notes = append(m.Notes, fmt.Sprintf("%d notable events could not be read", missed))
	}
	tree, err := m.Tree(ctx)
	if err != nil {
		return nil, err
	}
	members := membersIn(tree)
	for i := range list {
		if l := &list[i]; l.State == wire.LeakStateOpen {
			addMembers(l, members[l.ID])
		}
	}
	return list, nil
}

// membersIn finds the living members of each leak: its orphans, and what these forked since.
func membersIn(tree *wire.Tree) map[string][]*wire.Process {
	type key struct {
		pid   int32
		start uint64
	}
	of := make(map[key]string)
	members := make(map[string][]*wire.Process)
	for i := range tree.Processes { // the oldest first: a parent before its children
		p := &tree.Processes[i]
		leak := ""
		switch {
		case p.Orphan != nil:
			leak = p.Orphan.Leak
		case p.SpawnedBy != nil:
			leak = of[key{p.SpawnedBy.PID, p.SpawnedBy.StartNS}]
		}
		if leak == "" {
			continue
		}
		of[key{p.PID, p.StartNS}] = leak
		if p.State == wire.StateRunning {
			members[leak] = append(members[leak], p)
		}
	}
	return members
}

// addMembers says of an open leak who lived, and what they held.
func addMembers(l *wire.Leak, members []*wire.Process) {
	l.Processes.Now = len(members)
	l.Processes.Peak, l.Processes.Total = max(l.Processes.Peak, len(members)), max(l.Processes.Total, len(members))
	verdicts := make(map[int32]wire.LeakMember)
	for _, m := range l.Members {
		verdicts[m.PID] = m
	}
	l.Members, l.RSSBytes, l.SwapBytes = nil, nil, nil
	for _, p := range members {
		add(&l.RSSBytes, p.RSSBytes)
		add(&l.SwapBytes, p.SwapBytes)
		if len(l.Members) == wire.MaxLeakMembers {
			continue
		}
		m := wire.LeakMember{PID: p.PID, StartNS: p.StartNS, Comm: p.Comm, Cmdline: p.Cmdline, Verdict: l.Verdict}
		if known, ok := verdicts[p.PID]; ok && known.StartNS == p.StartNS {
			m.Verdict, m.Direct = known.Verdict, known.Direct
		}
		if p.Orphan != nil {
			m.Verdict, m.Direct = p.Orphan.Verdict, p.Orphan.Direct
		}
		l.Members = append(l.Members, m)
	}
}

func add(to **uint64, n *uint64) {
	if n == nil {
		return
	}
	sum := *n
	if *to != nil {
		sum += **to
	}
	*to = &sum
}
