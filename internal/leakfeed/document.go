// SPDX-License-Identifier: Apache-2.0

package leakfeed

import (
	"cmp"
	"slices"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/leak"
	"github.com/abot-trace/abot-trace/internal/safetext"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// leak is a leak for people and programs.
func (f *Feed) leak(l *leak.Leak, now uint64) *wire.Leak {
	w := f.figures(l, now)
	f.addMembers(w, l)
	return w
}

// figures is all but its members and what speaks for the verdict on them.
func (f *Feed) figures(l *leak.Leak, now uint64) *wire.Leak {
	conv, state, uid := f.opt.Conv, wire.LeakStateOpen, l.Leaker.UID
	w := &wire.Leak{ID: l.ID, Fingerprint: l.Leaker.Fingerprint.ID, Name: l.Leaker.Fingerprint.Name,
		Program: l.Leaker.Fingerprint.Program, Verdict: l.Verdict.String(), OpenedAt: conv.Wall(l.OpenedAt), OpenedNS: l.OpenedAt,
		KillIDs:   slices.Clone(l.KillIDs),
		Rules:     slices.Clone(l.Rules),
		Processes: wire.LeakCount{Now: l.Now, Peak: l.Peak, Total: l.Total},
		Leaker: wire.LeakLeaker{PID: l.Leaker.ID.PID, StartNS: l.Leaker.ID.Start, Comm: l.Leaker.Comm, Cmdline: l.Leaker.Cmdline,
			Exe: l.Leaker.Exe, UID: &uid, User: l.Leaker.User, Unit: l.Leaker.Unit, Container: l.Leaker.Container,
			ContainerName: l.Leaker.ContainerName, ContainerImage: l.Leaker.ContainerImage, Pod: l.Leaker.Pod, Exit: l.Leaker.Exit}}
	if !l.Open() {
		state, now = wire.LeakStateEnded, l.EndedAt
		at := conv.Wall(l.EndedAt)
		w.EndedAt, w.EndedNS, w.EndedBy = &at, l.EndedAt, l.EndedBy.String()
	}
	w.State = state
	if l.PeakBytes > 0 {
		rss, swap, peak, held := l.RSS, l.Swap, l.PeakBytes, l.ByteSeconds(now)
		w.PeakBytes, w.ByteSeconds = &peak, &held
		if l.Open() {
			w.RSSBytes, w.SwapBytes = &rss, &swap
		}
	}
	cpu := l.CPUSeconds()
	w.CPUSeconds = &cpu
	return w
}

// addMembers lists the largest members, and takes the evidence of the weightiest.
func (f *Feed) addMembers(w *wire.Leak, l *leak.Leak) {
	members := l.Members()
	slices.SortFunc(members, func(a, b leak.Member) int {
		return cmp.Or(-cmp.Compare(a.Verdict, b.Verdict), -cmp.Compare(a.Bytes, b.Bytes), cmp.Compare(a.ID.Start, b.ID.Start),
			cmp.Compare(a.ID.PID, b.ID.PID))
	})
	for _, m := range members[:min(len(members), wire.MaxLeakMembers)] {
		member := wire.LeakMember{PID: m.ID.PID, StartNS: m.ID.Start, Verdict: m.Verdict.String(), Direct: m.Direct}
		if p, ok := f.opt.Tree.Get(m.ID); ok {
			member.Comm, member.Cmdline = p.Comm.String(), safetext.Redact(event.SplitCmdline(p.Cmdline))
			if w.Evidence == nil && p.Orphan != nil {
				w.Evidence = slices.Clone(p.Orphan.Evidence)
			}
		}
		w.Members = append(w.Members, member)
	}
}
