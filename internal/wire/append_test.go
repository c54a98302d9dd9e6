// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// fill gives every field below v a value or, where it may be absent, perhaps none. It
// knows every kind that the contract uses, and fails at a new one.
func fill(t *rapid.T, v reflect.Value) {
	if v.Type() == reflect.TypeFor[time.Time]() {
		// Often in one second, where the last one's text serves again; with zeros at the end.
		ns := rapid.OneOf(rapid.Int64(), rapid.Int64Range(17e17, 17e17+1e9),
			rapid.Map(rapid.Int64Range(17e10, 17e10+100), func(n int64) int64 { return n * 1e7 })).Draw(t, "ns")
		v.Set(reflect.ValueOf(time.Unix(0, ns).In(rapid.SampledFrom([]*time.Location{
			time.UTC, time.Local, time.FixedZone("east", 5*3600+1800)}).Draw(t, "zone"))))
		return
	}
	switch v.Kind() {
	case reflect.Map: // of figures
		v.Set(reflect.ValueOf(map[string]float64{"memory_percent": rapid.Float64Range(0, 100).Draw(t, "percent")}))
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i))
		}
	case reflect.Pointer:
		if rapid.Bool().Draw(t, "present") {
			v.Set(reflect.New(v.Type().Elem()))
			fill(t, v.Elem())
		}
	case reflect.Slice:
		if n := rapid.IntRange(-1, 3).Draw(t, "len"); n >= 0 {
			v.Set(reflect.MakeSlice(v.Type(), n, n))
			for i := range n {
				fill(t, v.Index(i))
			}
		}
	case reflect.String:
		v.SetString(rapid.OneOf(rapid.String(), rapid.StringMatching(`[a-z<>&"\\/ ]*`),
			rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) })).Draw(t, "text"))
	case reflect.Bool:
		v.SetBool(rapid.Bool().Draw(t, "bool"))
	case reflect.Int, reflect.Int32:
		v.SetInt(rapid.OneOf(rapid.Just(int64(0)), rapid.Map(rapid.Int32(), func(n int32) int64 { return int64(n) })).Draw(t, "int"))
	case reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(rapid.OneOf(rapid.Just(uint64(0)), rapid.Map(rapid.Uint32(), func(n uint32) uint64 { return uint64(n) })).Draw(t, "uint"))
	case reflect.Float64:
		v.SetFloat(rapid.OneOf(rapid.Float64(), rapid.Float64Range(0, 1000), rapid.Just(0.0)).Draw(t, "float"))
	default:
		t.Fatalf("a field of kind %s", v.Kind())
	}
}

// TestAppendEqualsMarshal: the hand-written encoder is the contract's, to the byte.
func TestAppendEqualsMarshal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var e Event
		fill(t, reflect.ValueOf(&e).Elem())
		want, err := json.Marshal(&e)
		if err != nil {
			t.Fatal(err)
		}
		if got := AppendEvent(nil, &e); string(got) != string(want)+"\n" {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	})
}

func TestAppendTreeEqualsMarshal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var tree Tree
		fill(t, reflect.ValueOf(&tree).Elem())
		want, err := json.Marshal(&tree)
		if err != nil {
			t.Fatal(err)
		}
		if got := AppendTree(nil, &tree); string(got) != string(want) {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	})
}

func BenchmarkAppendEvent(b *testing.B) {
	uid, rss, seconds, code, at := uint32(1000), uint64(4<<20), 0.0123, 0, time.Unix(1700000000, 123456789)
	e := &Event{Schema: Schema, ID: "12345678-12345678-1234567-42", Seq: 42, Time: at, TimeNS: 1234567890123, Type: TypeExit,
		Process: &Process{PID: 4242, StartNS: 1234567880123, PPID: 4241, Comm: "worker", Exe: "/usr/bin/worker",
			Cmdline: []string{"worker", "--queue", "mail"}, UID: &uid, User: "mail", Cgroup: "/system.slice/mail.service",
			Unit: "mail.service", State: StateDead, StartedAt: &at, ExitedAt: &at, Lineage: LineageObserved,
			SpawnedBy:  &Ref{PID: 4241, StartNS: 1234567870123, Comm: "master"},
			CPUSeconds: &seconds, PeakRSS: &rss, Exit: &Exit{Code: &code}}}
	b.Run("append", func(b *testing.B) {
		b.ReportAllocs()
		var buf []byte
		for b.Loop() {
			buf = AppendEvent(buf[:0], e)
		}
	})
	b.Run("encoding-json", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, _ = json.Marshal(e)
		}
	})
}
