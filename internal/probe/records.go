// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"reflect"
	"unsafe"

	"github.com/abot-trace/abot-trace/bpf"
	"github.com/abot-trace/abot-trace/internal/event"
)

// A recordKind is all there is to one kind of record. Decode finds it by its number, and
// recordLayout takes its layout from here.
type recordKind struct {
	layout reflect.Type // the struct of bpf/event.h
	// decode decodes the record into the kind's part of the event. It keeps no reference.
	decode func(record []byte, e *event.Event) error
	// key, unless nil, adapts the key by which two attachments' records of one happening are
	// known for the same.
	key func(k *overlapKey, e *event.Event)
}

// records are the kinds of records, by their numbers in bpf/event.h.
var records = [bpf.CoreEventKindEVENT_KINDS]recordKind{
	event.KindFork:   kind(decodeFork, func(e *event.Event) *event.Fork { return &e.Fork }, nil),
	event.KindExec:   kind(decodeExec, func(e *event.Event) *event.Exec { return &e.Exec }, nil),
	event.KindExit:   kind(decodeExit, func(e *event.Event) *event.Exit { return &e.Exit }, nil),
	event.KindSignal: kind(decodeSignal, signalOf, keySignal),
	event.KindOOM:    kind(decodeOOM, func(e *event.Event) *event.OOM { return &e.OOM }, nil),
	event.KindChild: kind(decodeChild, func(e *event.Event) *event.Child { return &e.Child },
		func(k *overlapKey, e *event.Event) { k.parent = e.Child.Parent }),
	event.KindMove: kind(decodeMove, func(e *event.Event) *event.Move { return &e.Move },
		func(k *overlapKey, _ *event.Event) { k.key.Ordinal = 0 }), // the instant of its writing
	event.KindCaught: kind(decodeSignal, signalOf, keySignal),
}

// kind returns the kind whose records are an R, followed by what decode is given as rest,
// and which is told in the part P of an event.
func kind[R, P any](decode func(r *R, rest []byte, part *P) error, part func(*event.Event) *P,
	key func(*overlapKey, *event.Event)) recordKind {
	return recordKind{
		layout: reflect.TypeFor[R](),
		decode: func(record []byte, e *event.Event) error {
			r, err := view[R](record)
			if err != nil {
				return err
			}
			return decode(r, record[unsafe.Sizeof(*r):], part(e))
		},
		key: key,
	}
}

func signalOf(e *event.Event) *event.Signal { return &e.Signal }

func keySignal(k *overlapKey, e *event.Event) {
	k.key.Ordinal = 0 // the instant of its writing
	k.signal = e.Signal
	k.signal.Suppressed = 0 // each attachment has a limit of its own
}

// recordMeaning is raised when a field changes its meaning, but not its place.
const recordMeaning = 1

// recordLayout names the layout of the ring's records, of the iterators' lines and of the
// counters, as the generated types have it: who reads another one's misreads them.
func recordLayout() string {
	h := sha256.New()
	fmt.Fprintln(h, recordMeaning)
	seen := make(map[reflect.Type]bool)
	for _, r := range records {
		if r.layout != nil {
			writeLayout(h, r.layout, seen)
		}
	}
	for _, t := range []reflect.Type{
		reflect.TypeFor[bpf.CoreTaskRecord](), reflect.TypeFor[bpf.CoreUsageRecord](), reflect.TypeFor[bpf.CoreThreadRecord](),
		reflect.TypeFor[bpf.CoreRingCounters](),
	} {
		writeLayout(h, t, seen)
	}
	return hex.EncodeToString(h.Sum(nil)[:4])
}

// writeLayout writes the layout of a struct, and of those within it, once.
func writeLayout(w io.Writer, t reflect.Type, seen map[reflect.Type]bool) {
	for t.Kind() == reflect.Array {
		t = t.Elem()
	}
	if t.Kind() != reflect.Struct || seen[t] {
		return
	}
	seen[t] = true
	fmt.Fprintln(w, t.Name(), t.Size())
	for f := range t.Fields() {
		fmt.Fprintln(w, f.Name, f.Type, f.Offset)
		writeLayout(w, f.Type, seen)
	}
}
