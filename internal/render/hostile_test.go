// SPDX-License-Identifier: Apache-2.0

package render

import (
	"bytes"
	"io"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/replay"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// forged is a document with hostile in every text, and something in every list and behind
// every pointer: what whoever runs as the daemon's user can answer.
func forged[T any]() *T {
	v := new(T)
	forge(reflect.ValueOf(v).Elem(), 0)
	return v
}

// forgedDepth is how deep documents are filled that hold their own kind.
const forgedDepth = 8

func forge(v reflect.Value, depth int) {
	if depth > forgedDepth {
		return
	}
	switch v.Kind() {
	case reflect.String:
		v.SetString(hostile)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(1)
	case reflect.Uint, reflect.Uint32, reflect.Uint64:
		v.SetUint(1)
	case reflect.Float64:
		v.SetFloat(1)
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		forge(v.Elem(), depth+1)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		forge(v.Index(0), depth+1)
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		forge(key, depth+1)
		forge(value, depth+1)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.Struct:
		for i := range v.NumField() {
			if f := v.Field(i); f.CanSet() {
				forge(f, depth+1)
			}
		}
	}
}

// documents print what the daemon can answer: all that make returns.
func documents(event *wire.Event, process *wire.Process, leak *wire.Leak, kill *wire.Kill, plan *wire.KillPlan, x *wire.Explain,
	status *wire.Status, monitor *wire.Monitor, rule *wire.RuleStatus, group *wire.LeakGroup) map[string]func(io.Writer) error {
	now, plain := time.Now(), Style{}
	all := map[string]func(io.Writer) error{
		"orphans": func(w io.Writer) error { return Orphans(w, []wire.Process{*process}, now, Style{Wide: true}) },
		"units": func(w io.Writer) error {
			return Tree(w, &wire.Tree{Processes: []wire.Process{*process}}, TreeOptions{ByUnit: true, Fold: true, Style: Style{Width: 80}})
		},
		"tree": func(w io.Writer) error {
			return Tree(w, &wire.Tree{Processes: []wire.Process{*process}}, TreeOptions{})
		},
		"leaks":   func(w io.Writer) error { return Leaks(w, []wire.Leak{*leak}, now, Style{Wide: true}) },
		"leak":    func(w io.Writer) error { return Leak(w, leak, now, plain) },
		"groups":  func(w io.Writer) error { return LeakGroups(w, "user", []wire.LeakGroup{*group}, now, plain) },
		"kills":   func(w io.Writer) error { return Kills(w, []wire.Kill{*kill}, plain) },
		"plan":    func(w io.Writer) error { return KillPlan(w, plan, plain) },
		"explain": func(w io.Writer) error { return Explain(w, x, now, plain) },
		"status":  func(w io.Writer) error { return Status(w, status, now, plain) },
		"monitor": func(w io.Writer) error { return Monitor(w, monitor, plain) },
		"armed":   func(w io.Writer) error { return Armed(w, []wire.RuleStatus{*rule}, now, plain) },
		"trial": func(w io.Writer) error {
			return Trial(w, "rule", []replay.Tried{{Leak: leak.ID, Name: leak.Name, Fate: replay.FateOpen}}, &replay.Summary{Events: 1}, now, plain)
		},
	}
	for _, kind := range append([]string{event.Type}, wire.Types...) {
		e := *event
		e.Type = kind
		all["event "+kind] = func(w io.Writer) error { return Event(w, &e, plain) }
	}
	return all
}

// TestForgedDocuments: no answer has a terminal obey, whichever of its texts is hostile. That
// a line is forged is another matter: who answers can say what he likes.
func TestForgedDocuments(t *testing.T) {
	for name, print := range documents(forged[wire.Event](), forged[wire.Process](), forged[wire.Leak](), forged[wire.Kill](), forged[wire.KillPlan](),
		forged[wire.Explain](), forged[wire.Status](), forged[wire.Monitor](), forged[wire.RuleStatus](), forged[wire.LeakGroup]()) {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			if err := print(&out); err != nil {
				t.Fatal(err)
			}
			if strings.ContainsAny(out.String(), "\x1b\u202e") {
				t.Errorf("%q", out.String())
			}
		})
	}
}

// TestEmptyDocuments: nor does one with nothing in it make a command crash.
func TestEmptyDocuments(t *testing.T) {
	for name, print := range documents(&wire.Event{}, &wire.Process{Orphan: &wire.Orphan{}}, &wire.Leak{}, &wire.Kill{}, &wire.KillPlan{}, &wire.Explain{}, &wire.Status{},
		&wire.Monitor{}, &wire.RuleStatus{}, &wire.LeakGroup{}) {
		t.Run(name, func(t *testing.T) {
			if err := print(io.Discard); err != nil {
				t.Fatal(err)
			}
		})
	}
}
