// SPDX-License-Identifier: Apache-2.0

package past

import (
	"encoding/binary"
	"encoding/json"
	"math"
	"time"

	"github.com/abot-trace/abot-trace/internal/describe"
	"github.com/abot-trace/abot-trace/internal/event"
)

// A Sample is what was measured at one time: of the host, and of the processes that are of
// interest. In a note those that use what they did before are left out.
type Sample struct {
	Time uint64 // CLOCK_BOOTTIME ns; 0 is none
	// Host has what is known of it, by the names that expressions of rules use.
	Host map[string]float64
	Uses map[event.ID]describe.Use
}

// encode appends the sample without those who use the same in before.
func (s *Sample) encode(b []byte, before map[event.ID]describe.Use) ([]byte, error) {
	host, err := json.Marshal(s.Host)
	if err != nil {
		return b, err
	}
	b = binary.AppendUvarint(b, s.Time)
	b = append(binary.AppendUvarint(b, uint64(len(host))), host...)
	for id, use := range s.Uses {
		if was, ok := before[id]; ok && was == use {
			continue
		}
		b = appendNumbers(b, uint64(uint32(id.PID)), id.Start, use.RSS, use.Swap, uint64(use.CPU), uint64(use.Threads))
	}
	for id := range before {
		if _, ok := s.Uses[id]; !ok {
			b = appendNumbers(b, uint64(uint32(id.PID)), id.Start, unmeasured, 0, 0, 0)
		}
	}
	return b, nil
}

// unmeasured stands for the memory of who was measured before, and is not any more.
const unmeasured = math.MaxUint64

func appendNumbers(b []byte, numbers ...uint64) []byte {
	for _, n := range numbers {
		b = binary.AppendUvarint(b, n)
	}
	return b
}

// decode takes what encode wrote over the sample before, and returns what that was. It
// reports whether it made sense.
func (s *Sample) decode(b []byte) (*Sample, bool) {
	bad := false
	next := func() uint64 {
		v, n := binary.Uvarint(b)
		if n <= 0 {
			bad, b = true, nil
			return 0
		}
		b = b[n:]
		return v
	}
	at, size := next(), next()
	if bad || size > uint64(len(b)) {
		return nil, false
	}
	var host map[string]float64
	if json.Unmarshal(b[:size], &host) != nil {
		return nil, false
	}
	b = b[size:]
	uses := make(map[event.ID]describe.Use)
	for len(b) > 0 {
		pid, start := next(), next()
		use := describe.Use{RSS: next(), Swap: next(), CPU: time.Duration(next()), Threads: int(next())}
		if bad || pid > math.MaxInt32 {
			return nil, false
		}
		uses[event.ID{PID: int32(pid), Start: start}] = use
	}
	s.Time, s.Host = at, host
	if s.Uses == nil {
		s.Uses = make(map[event.ID]describe.Use, len(uses))
	}
	for id, use := range uses {
		if use.RSS == unmeasured {
			delete(s.Uses, id)
		} else {
			s.Uses[id] = use
		}
	}
	return &Sample{Time: at, Host: host, Uses: uses}, true
}

// Use is what a process used at the sample; false where that was not measured.
func (s *Sample) Use(id event.ID) (describe.Use, bool) {
	use, ok := s.Uses[id]
	return use, ok
}

// Sample keeps what was measured. The sample is the recorder's from then on. CPUPercent is
// not kept.
func (r *Recorder) Sample(s *Sample) {
	data, err := s.encode(r.data[:0], r.sampled.Uses)
	if err != nil {
		return // figures that are no numbers
	}
	r.data, r.sampled = data, *s
	r.note(noteSample, event.ID{}, data)
}
