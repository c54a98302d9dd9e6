// SPDX-License-Identifier: Apache-2.0

package history

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/abot-trace/abot-trace/internal/event"
)

// fillValue sets every field below v to something drawn.
func fillValue(t *rapid.T, v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fillValue(t, v.Field(i))
		}
	case reflect.Array:
		if c, ok := v.Addr().Interface().(*event.Comm); ok {
			*c = event.MakeComm(rapid.StringMatching(`[ -~]{0,15}`).Draw(t, "comm"))
			return
		}
		for i := range v.Len() {
			fillValue(t, v.Index(i))
		}
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, "bool"))
	case reflect.String:
		v.SetString(rapid.String().Draw(t, "string"))
	case reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(rapid.Uint64().Draw(t, "uint") >> (64 - v.Type().Bits()))
	default:
		v.SetInt(rapid.Int64().Draw(t, "int") >> (64 - v.Type().Bits()))
	}
}

// draw returns an event of a kind with all its fields set, and no others.
func draw(t *rapid.T, kind event.Kind) event.Event {
	var e event.Event
	v := reflect.ValueOf(&e).Elem()
	for i := range v.NumField() {
		name := v.Type().Field(i).Name
		if kinds, isPart := parts[name]; isPart && !contains(kinds, kind) {
			continue
		}
		fillValue(t, v.Field(i))
	}
	e.Kind = kind
	return e
}

func contains(kinds []event.Kind, kind event.Kind) bool {
	for _, k := range kinds {
		if k == kind {
			return true
		}
	}
	return false
}

func kinds() (list []event.Kind) {
	for k := event.Kind(1); k < firstNote; k++ {
		if !strings.HasPrefix(k.String(), "kind(") {
			list = append(list, k)
		}
	}
	return list
}

// A kind of record that has no columns of its own would be stored without what it says.
func TestEveryPartHasItsKinds(t *testing.T) {
	of := make(map[event.Kind]bool)
	for _, list := range parts {
		for _, k := range list {
			of[k] = true
		}
	}
	for _, k := range kinds() {
		if !of[k] {
			t.Errorf("no part of event.Event is named for %v", k)
		}
	}
	typ := reflect.TypeFor[event.Event]()
	for i := range typ.NumField() {
		if f := typ.Field(i); f.Type.Kind() == reflect.Struct && f.Name != "Subject" && parts[f.Name] == nil {
			t.Errorf("event.Event.%s is in every record's columns: name its kinds in parts", f.Name)
		}
	}
}

func decodeAll(t interface{ Fatal(...any) }, body []byte, listed []column) (events []event.Event, notes []Note) {
	plans := plan(listed)
	err := decodeRows(body, 1, listed, &plans, func(e Entry) bool {
		if e.Event != nil {
			events = append(events, *e.Event)
		} else {
			n := *e.Note
			n.Data = bytes.Clone(n.Data)
			notes = append(notes, n)
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return events, notes
}

func TestRowsComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := newRows()
		var events []event.Event
		var notes []Note
		for range rapid.IntRange(1, 20).Draw(t, "n") {
			if rapid.IntRange(0, 4).Draw(t, "note") == 0 {
				n := Note{Type: NoteType(rapid.IntRange(0, 127).Draw(t, "type")), Time: rapid.Uint64().Draw(t, "time"),
					ID:   event.ID{PID: rapid.Int32().Draw(t, "pid"), Start: rapid.Uint64().Draw(t, "start")},
					Data: rapid.SliceOf(rapid.Byte()).Draw(t, "data")}
				r.appendNote(&n)
				notes = append(notes, n)
				continue
			}
			e := draw(t, rapid.SampledFrom(kinds()).Draw(t, "kind"))
			r.appendEvent(&e)
			events = append(events, e)
		}
		body := r.encode(nil)
		gotEvents, gotNotes := decodeAll(t, body, columns)
		if diff := cmp.Diff(events, gotEvents); diff != "" {
			t.Fatalf("events:\n%s", diff)
		}
		if diff := cmp.Diff(notes, gotNotes, cmp.Comparer(func(a, b []byte) bool { return bytes.Equal(a, b) })); diff != "" {
			t.Fatalf("notes:\n%s", diff)
		}
		r.reset()
		r.appendEvent(&event.Event{Kind: event.KindExit, Time: 3})
		if again, _ := decodeAll(t, r.encode(nil), columns); len(again) != 1 || again[0] != (event.Event{Kind: event.KindExit, Time: 3}) {
			t.Fatalf("rows that were used before: %+v", again)
		}
	})
}

// A segment of another version: it has columns that are not known here, lacks some, and
// has them in another order.
func TestOtherColumns(t *testing.T) {
	r := newRows()
	e := event.Event{Kind: event.KindExit, Subject: event.ID{PID: 7, Start: 8}, Time: 9, Comm: event.MakeComm("x"), Exit: event.Exit{PeakRSS: 5}}
	r.appendEvent(&e)
	body := r.encode(nil)
	listed := append([]column(nil), columns...)
	for i := range listed {
		switch listed[i].Name {
		case "Exit.PeakRSS":
			listed[i].Name = "Exit.Renamed"
		case "Comm":
			listed[i].Name = "Title"
		}
	}
	b, err := json.Marshal(listed)
	if err != nil {
		t.Fatal(err)
	}
	var stored []column
	if err := json.Unmarshal(b, &stored); err != nil {
		t.Fatal(err)
	}
	got, _ := decodeAll(t, body, adopt(stored))
	want := e
	want.Exit.PeakRSS, want.Comm = 0, event.Comm{}
	if len(got) != 1 || got[0] != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

func FuzzDecodeRows(f *testing.F) {
	r := newRows()
	r.appendEvent(&event.Event{Kind: event.KindExec, Time: 1, Exec: event.Exec{Filename: "/bin/x", Cmdline: "x\x00y\x00"}})
	r.appendNote(&Note{Type: 3, Time: 4, Data: []byte("{}")})
	f.Add(r.encode(nil))
	f.Fuzz(func(t *testing.T, body []byte) {
		plans := plan(columns)
		n := 0
		_ = decodeRows(body, 0, columns, &plans, func(e Entry) bool {
			n++
			return e.Event != nil || e.Note != nil
		})
		if n > len(body) {
			t.Fatalf("%d entries from %d bytes", n, len(body))
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	r := newRows()
	events, random := storm(1000), rand.New(rand.NewPCG(1, 2))
	b.ReportAllocs()
	i, entries, bytes := 0, 0, 0
	for b.Loop() {
		e := &events[i%len(events)]
		// As far from regular as a real machine.
		noise := random.Uint64() >> 50
		e.Subject.PID, e.Subject.Start, e.Time = int32(i/3), uint64(i)*1000+noise, uint64(i)*1500+noise
		r.appendEvent(e)
		if i++; r.bytes >= blockBytes {
			block := appendBlock(nil, &blockHead{kind: blockRows, codec: codecS2}, r.encode(nil), nil)
			entries, bytes = entries+r.len(), bytes+len(block)
			r.reset()
		}
	}
	if entries > 0 {
		b.ReportMetric(float64(bytes)/float64(entries), "bytes/event")
	}
}

// storm is the records of short-lived processes: fork, exec, exit.
func storm(n int) (events []event.Event) {
	for i := range n {
		id := event.ID{PID: int32(1000 + i), Start: uint64(1e9 + i*1000)}
		base := event.Event{Subject: id, HostPID: id.PID, Time: id.Start, Comm: event.MakeComm("sh"), UID: 1000}
		fork, exec, exit := base, base, base
		fork.Kind, fork.Fork = event.KindFork, event.Fork{Spawner: event.ID{PID: 99, Start: 5}, Caller: event.ID{PID: 99, Start: 5}, Cgroup: 77}
		fork.Fork.Origin = event.Origin{Session: 99, StdioKnown: true, Stdio: event.Stdio{{Dev: 5, Ino: 9, Mode: 0o10000}, {Dev: 5, Ino: 9, Mode: 0o10000}}}
		exec.Kind, exec.Exec = event.KindExec, event.Exec{Cgroup: 77, Filename: "/usr/bin/true", Cmdline: "true\x00", MarksKnown: true}
		exit.Kind, exit.Exit = event.KindExit, event.Exit{PeakRSS: uint64(2000+i%7) << 12, CPUTime: uint64(700000 + i*3)}
		events = append(events, fork, exec, exit)
	}
	return events
}
