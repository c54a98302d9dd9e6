// SPDX-License-Identifier: Apache-2.0

package api

import (
	"encoding/json"
	"sync/atomic"
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/wire"
)

// TestNewsBeforeThePast has the stream go on before the past is written: neither waits
// for the other.
func TestNewsBeforeThePast(t *testing.T) {
	f := &follower{more: make(chan struct{}, 1), past: new(atomic.Int64)}
	f.mu.Lock()
	f.news()
	begun := make(chan struct{})
	go func() {
		defer close(begun)
		f.begin(nil)
	}()
	select {
	case <-begun:
	case <-time.After(patience):
		t.Fatal("the reader waits for itself")
	}
	<-f.more
}

// TestPastIsBounded has readers take no past: as much of it waits as may, and who comes
// later is told how much it missed. Where one leaves there is room again.
func TestPastIsBounded(t *testing.T) {
	var waiting atomic.Int64
	one := &wire.Event{Type: wire.TypeLost, TimeNS: 7, ID: string(make([]byte, maxPast/400))}
	past := make([]*wire.Event, 40)
	for i := range past {
		past[i] = one
	}
	reader := func() *follower {
		f := &follower{past: &waiting}
		f.rest = f.tell(past)
		return f
	}
	first := reader()
	if first.held == 0 || int64(len(first.rest)) != first.held || waiting.Load() != first.held {
		t.Fatalf("%d bytes for the first, %d are counted", len(first.rest), waiting.Load())
	}
	second := reader()
	if len(second.rest) > 1000 || second.held != 0 || waiting.Load() > maxPast {
		t.Errorf("%d bytes for one for whom there is no room, %d wait", len(second.rest), waiting.Load())
	}
	var e wire.Event
	if err := json.Unmarshal(second.rest, &e); err != nil || e.Lost == nil || e.Lost.Records != uint64(len(past)) || e.Lost.SinceNS != 7 {
		t.Errorf("it is told %s, %v", second.rest, err)
	}
	first.releasePast()
	if waiting.Load() != 0 || first.rest != nil {
		t.Errorf("%d wait for nobody", waiting.Load())
	}
	if third := reader(); third.held == 0 {
		t.Error("there is no room again")
	}
}
