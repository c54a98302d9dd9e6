// SPDX-License-Identifier: Apache-2.0

package leak

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/abot-trace/abot-trace/internal/event"
)

// A Record is a leak as the state keeps it over a restart. Times are CLOCK_BOOTTIME, so
// it means nothing in another boot.
type Record struct {
	ID        string   `json:"id"`
	Leaker    Leaker   `json:"leaker"`
	OpenedAt  uint64   `json:"opened_at"`
	EndedAt   uint64   `json:"ended_at,omitempty"`
	EndedBy   Ending   `json:"ended_by,omitempty"`
	Verdict   Verdict  `json:"verdict"`
	Told      Verdict  `json:"told"`
	ToldAt    uint64   `json:"told_at,omitempty"`
	KillIDs   []string `json:"kill_ids,omitempty"`
	Rules     []string `json:"rules,omitempty"`
	Peak      int      `json:"peak"`
	Total     int      `json:"total"`
	PeakBytes uint64   `json:"peak_bytes,omitempty"`
	BytesNS   float64  `json:"bytes_ns,omitempty"`
	CPUNS     uint64   `json:"cpu_ns,omitempty"`
	Passed    uint8    `json:"passed,omitempty"`
	Remedy    string   `json:"remedy,omitempty"`
	// Opened says that somebody was told of it, Judged that a member's verdict was final.
	Opened  bool           `json:"opened,omitempty"`
	Judged  bool           `json:"judged,omitempty"`
	Members []MemberRecord `json:"members,omitempty"`
}

// A MemberRecord is a living member in a Record.
type MemberRecord struct {
	ID       event.ID `json:"id"`
	Root     event.ID `json:"root,omitzero"`
	Joined   uint64   `json:"joined"`
	Sampled  uint64   `json:"sampled,omitempty"`
	RSS      uint64   `json:"rss,omitempty"`
	Swap     uint64   `json:"swap,omitempty"`
	CPU      uint64   `json:"cpu,omitempty"`
	CPUFrom  uint64   `json:"cpu_from,omitempty"`
	Verdict  Verdict  `json:"verdict"`
	Pending  bool     `json:"pending,omitempty"` // its verdict is provisional
	Direct   bool     `json:"direct,omitempty"`
	CPUKnown bool     `json:"cpu_known,omitempty"`
}

// Export returns the leaks, open ones first, as records that share nothing with the set.
func (s *Set) Export() []Record {
	records := make([]Record, 0, len(s.open)+len(s.ended))
	for _, l := range s.open {
		records = append(records, l.record())
	}
	slices.SortFunc(records, func(a, b Record) int {
		return cmp.Or(cmp.Compare(a.OpenedAt, b.OpenedAt), cmp.Compare(a.ID, b.ID))
	})
	for _, l := range s.ended {
		records = append(records, l.record())
	}
	return records
}

func (l *Leak) record() Record {
	r := Record{ID: l.ID, Leaker: l.Leaker, OpenedAt: l.OpenedAt, EndedAt: l.EndedAt, EndedBy: l.EndedBy,
		Verdict: l.Verdict, Told: l.told, ToldAt: l.toldAt, KillIDs: slices.Clone(l.KillIDs), Rules: slices.Clone(l.Rules), Peak: l.Peak,
		Total: l.Total, PeakBytes: l.PeakBytes, BytesNS: l.bytesNS, CPUNS: l.cpuNS, Passed: uint8(l.passed), Remedy: l.Remedy,
		Opened: l.opened, Judged: l.judged}
	if l.describe != nil {
		r.Leaker = l.describe()
		r.Leaker.ID = l.Leaker.ID
	}
	for _, m := range l.members {
		root := event.ID{}
		if m.root != nil {
			root = m.root.id
		}
		r.Members = append(r.Members, MemberRecord{ID: m.id, Root: root, Joined: m.joined, Sampled: m.sampled,
			RSS: m.rss, Swap: m.swap, CPU: m.cpu, CPUFrom: m.cpuFrom, Verdict: m.verdict, Pending: m.pending, Direct: m.direct,
			CPUKnown: m.cpuKnown})
	}
	slices.SortFunc(r.Members, func(a, b MemberRecord) int {
		return cmp.Or(cmp.Compare(a.ID.Start, b.ID.Start), cmp.Compare(a.ID.PID, b.ID.PID))
	})
	return r
}

// EncodeRecords is the form in which a state keeps records.
func EncodeRecords(records []Record) ([]byte, error) { return json.Marshal(records) }

// DecodeRecords reads what EncodeRecords wrote; nothing holds no records.
func DecodeRecords(b []byte) (records []Record, err error) {
	if len(b) == 0 {
		return nil, nil
	}
	if err := json.Unmarshal(b, &records); err != nil {
		return nil, fmt.Errorf("leaks: %w", err)
	}
	return records, nil
}

// Import puts records of the same boot into an empty set. Members that are gone
// meanwhile are taken out by Retain.
func (s *Set) Import(records []Record) {
	for i := range records {
		r := &records[i]
		if r.ID != MakeID(s.boot, r.Leaker.ID) || s.byID[r.ID] != nil || s.open[r.Leaker.ID] != nil {
			continue // of another boot, or there twice
		}
		l := &Leak{ID: r.ID, Leaker: r.Leaker, OpenedAt: r.OpenedAt, EndedAt: r.EndedAt, EndedBy: r.EndedBy,
			Verdict: r.Verdict, KillIDs: r.KillIDs, Rules: r.Rules, PeakBytes: r.PeakBytes, Total: r.Total, Peak: r.Peak,
			bytesNS: r.BytesNS, cpuNS: r.CPUNS, opened: r.Opened, judged: r.Judged, told: r.Told, toldAt: r.ToldAt,
			passed: threshold(r.Passed), Remedy: r.Remedy}
		s.byID[l.ID] = l
		if !l.Open() {
			s.ended = append(s.ended, l)
			continue
		}
		s.restore(l, r)
	}
	if over := len(s.ended) - s.cap; over > 0 {
		for _, l := range s.ended[:over] {
			delete(s.byID, l.ID)
		}
		s.ended = slices.Delete(s.ended, 0, over)
	}
}

// restore gives an open leak its members back.
func (s *Set) restore(l *Leak, r *Record) {
	s.open[l.Leaker.ID] = l
	l.members = make(map[event.ID]*member, len(r.Members))
	for _, mr := range r.Members {
		if s.members[mr.ID] != nil {
			continue
		}
		m := s.join(l, mr.ID, nil, mr.Joined)
		m.sampled, m.rss, m.swap, m.cpu, m.cpuFrom = mr.Sampled, mr.RSS, mr.Swap, mr.CPU, mr.CPUFrom
		m.direct, m.cpuKnown = mr.Direct, mr.CPUKnown
		m.settle(mr.Verdict, mr.Pending)
		l.RSS, l.Swap = l.RSS+mr.RSS, l.Swap+mr.Swap
	}
	for _, mr := range r.Members {
		if m, root := l.members[mr.ID], l.members[mr.Root]; m != nil && root != nil && m != root {
			m.setRoot(root)
		}
	}
	l.Total, l.Peak, l.changed = r.Total, r.Peak, false
	// What it had cost before is not counted again.
	l.counted = spent{l.bytesNS / 1e9, l.CPUSeconds()}
	s.schedule(l)
}

// Retain takes out the members that alive does not know: they ended while nobody looked.
func (s *Set) Retain(alive func(event.ID) bool, now uint64) {
	for id := range s.members {
		if !alive(id) {
			s.Exit(Exit{ID: id, Time: now, Ending: Unseen})
		}
	}
}
