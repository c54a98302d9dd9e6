// SPDX-License-Identifier: Apache-2.0

package history

import (
	"cmp"
	"time"
)

// Stats says how a store is.
type Stats struct {
	Written        uint64 // bytes, since it was opened
	Entries        uint64 // of the stream, since it was opened
	Dropped        uint64 // entries of the stream that were never written
	NewlyDropped   uint64 // those since TakeDropped
	NotableDropped uint64
	Damaged        uint64 // entries in blocks that could not be read again
	Expired        uint64 // segments that were unlinked
	SetAside       uint64 // segments that could not be used
	Error          string // of the last write; empty when it went well

	Bytes        map[Class]int64
	Segments     map[Class]int
	Oldest       map[Class]time.Time
	Newest       map[Class]time.Time
	FirstNotable uint64
	Limits       Limits
}

// Stats returns the figures as they are now.
func (s *Store) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.stats
	st.Limits, st.Error = s.limits, cmp.Or(s.failing[Stream], s.failing[Notable])
	st.Bytes, st.Segments = make(map[Class]int64), make(map[Class]int)
	st.Oldest, st.Newest = make(map[Class]time.Time), make(map[Class]time.Time)
	for class, list := range s.segments {
		for _, seg := range list {
			st.Bytes[class] += seg.size
			st.Segments[class]++
		}
		if len(list) > 0 {
			last := list[len(list)-1]
			st.Oldest[class], st.Newest[class] = list[0].head.Opened, last.head.Wall(last.last())
		}
	}
	if list := s.segments[Notable]; len(list) > 0 {
		st.FirstNotable = list[0].head.FirstSeq
	}
	return st
}

// Failing reports whether the last entry of the stream could not be written.
func (s *Store) Failing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failing[Stream] != ""
}

// TakeDropped returns how many entries of the stream were dropped since it was called
// last: they are told as lost.
func (s *Store) TakeDropped() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.stats.NewlyDropped
	s.stats.NewlyDropped = 0
	return n
}
