// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"testing"

	"github.com/abot-trace/abot-trace/internal/wire"
)

// remembering is a daemon that remembers events, and tells a reader who follows some more.
type remembering struct {
	inspector
	past, coming []wire.Event
}

func (r *remembering) Events(_ context.Context, _ []string, since uint64, follow bool, fn func(*wire.Event) error) error {
	list := r.past
	if follow {
		list = append(list[:len(list):len(list)], r.coming...)
	}
	for i := range list {
		if list[i].TimeNS < since {
			continue
		}
		if err := fn(&list[i]); err != nil {
			return err
		}
	}
	return nil
}

// TestLastEvents wants the last of the past, then each new one once.
func TestLastEvents(t *testing.T) {
	r := &remembering{}
	for i := uint64(1); i <= 6; i++ {
		r.past = append(r.past, wire.Event{ID: fmt.Sprint(i), Seq: i, TimeNS: 100 + i/2, Type: wire.TypeExit})
	}
	r.coming = []wire.Event{{ID: "7", Seq: 7, TimeNS: 103, Type: wire.TypeExit}, {TimeNS: 104, Type: wire.TypeLost}, {ID: "8", Seq: 8, TimeNS: 104, Type: wire.TypeExit}}
	for _, test := range []struct {
		last   int
		follow bool
		want   string
	}{
		{2, false, "[5 6]"},
		{0, false, "[]"},
		{10, false, "[1 2 3 4 5 6]"},
		{2, true, "[5 6 7 0 8]"},
		{0, true, "[7 0 8]"},
		{-1, true, "[1 2 3 4 5 6 7 0 8]"},
	} {
		got := []uint64{}
		q := eventQuery{last: test.last, follow: test.follow, pick: &filter{}}
		if err := q.run(t.Context(), r, func(e *wire.Event) error { got = append(got, e.Seq); return nil }); err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(got) != test.want {
			t.Errorf("last %d, follow %v: got %v, want %s", test.last, test.follow, got, test.want)
		}
	}
}
