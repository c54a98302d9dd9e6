// SPDX-License-Identifier: Apache-2.0

package replay

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/wire"
)

// leakEvent is an event of the boot, at that second of it.
func leakEvent(boot, second int, id, state string, held float64) *wire.Event {
	at := time.Date(2026, 11, 29, boot, 0, second, 0, time.UTC)
	l := &wire.Leak{ID: id, Change: wire.LeakMembers, State: state, OpenedAt: at.Add(-time.Duration(held) * time.Second), ByteSeconds: &held,
		Processes: wire.LeakCount{Now: 1}}
	if state == wire.LeakStateEnded {
		l.EndedAt, l.Processes.Now = &at, 0
	}
	return &wire.Event{Schema: wire.Schema, ID: fmt.Sprintf("%d-%d-%s", boot, second, id), Type: wire.TypeLeak, Time: at, TimeNS: uint64(second+200) * 1e9, Leak: l}
}

func TestReadLeaks(t *testing.T) {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	add := func(e *wire.Event) {
		if err := enc.Encode(e); err != nil {
			t.Fatal(err)
		}
	}
	add(leakEvent(1, 100, "L1", wire.LeakStateOpen, 1))
	add(leakEvent(1, 101, "L2", wire.LeakStateOpen, 5))
	add(leakEvent(1, 100, "L1", wire.LeakStateOpen, 1)) // again
	text.WriteString("{\"schema\": 1}\nno event\n")
	add(leakEvent(1, 110, "L1", wire.LeakStateOpen, 11))
	add(leakEvent(1, 120, "L1", wire.LeakStateEnded, 21))
	add(&wire.Event{Schema: wire.Schema, Type: wire.TypeLeak}) // of none
	add(&wire.Event{Schema: wire.Schema, Type: wire.TypeResync, Time: time.Date(2026, 11, 29, 1, 5, 0, 0, time.UTC), TimeNS: 500e9})
	add(leakEvent(2, 3, "L3", wire.LeakStateOpen, 1)) // of the next boot
	l, err := ReadLeaks(&text)
	if err != nil {
		t.Fatal(err)
	}
	if l.Unreadable != 2 || !l.Last.Equal(time.Date(2026, 11, 29, 2, 0, 3, 0, time.UTC)) {
		t.Errorf("%d unreadable, the last at %v", l.Unreadable, l.Last)
	}
	var got []string
	for _, w := range l.List() {
		ended := "-"
		if w.EndedAt != nil {
			ended = w.EndedAt.Format("15:04:05")
		}
		got = append(got, fmt.Sprintf("%s %s %s %v of %d, %s%d", w.ID, w.State, ended, *w.ByteSeconds, len(l.Courses[w.ID]), w.Change, w.Processes.Now))
	}
	want := "L2 ended 01:05:00 5 of 1, 0|L1 ended 01:02:00 21 of 3, 0|L3 open - 1 of 1, 1"
	if s := strings.Join(got, "|"); s != want {
		t.Errorf("got\n%s\nwant\n%s", s, want)
	}
}
