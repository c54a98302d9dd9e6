// SPDX-License-Identifier: Apache-2.0

package history

import (
	"fmt"
	"reflect"
	"slices"
	"unsafe"

	"github.com/abot-trace/abot-trace/internal/event"
)

// A column holds one field of event.Event. Columns are known by their path in the
// struct ("Exit.PeakRSS"), never by their place: a segment lists those that it has, so
// that fields may come and go between versions. A field that a segment does not have is
// zero, and one that this program does not have is passed over.
type column struct {
	Name string `json:"name"`
	// Text says that values are strings, numbers otherwise.
	Text bool `json:"text,omitempty"`
	// Kinds are the kinds of events that have it; empty is all.
	Kinds []event.Kind `json:"kinds,omitempty"`

	offset uintptr
	kind   reflect.Kind // Array for event.Comm
}

// parts names the field of event.Event that holds what a kind of record says.
var parts = map[string][]event.Kind{
	"Fork":   {event.KindFork},
	"Exec":   {event.KindExec},
	"Exit":   {event.KindExit},
	"Signal": {event.KindSignal, event.KindCaught},
	"OOM":    {event.KindOOM},
	"Child":  {event.KindChild},
	"Move":   {event.KindMove},
}

// columns is every column of this version, in the order of the struct.
var columns = walk(reflect.TypeFor[event.Event](), "", 0, nil, nil)

// plans are the indexes of the columns that a kind has.
var plans = plan(columns)

// walk lists the columns below a type. It panics for a type of field that has no column:
// a test sees that before anyone else.
func walk(t reflect.Type, path string, at uintptr, kinds []event.Kind, list []column) []column {
	switch t.Kind() {
	case reflect.Struct:
		for i := range t.NumField() {
			f := t.Field(i)
			name, of := f.Name, kinds
			if path != "" {
				name = path + "." + f.Name
			} else if f.Name == "Kind" {
				continue // a list of its own
			} else {
				of = parts[f.Name]
			}
			list = walk(f.Type, name, at+f.Offset, of, list)
		}
		return list
	case reflect.Array:
		if t != reflect.TypeFor[event.Comm]() {
			for i := range t.Len() {
				list = walk(t.Elem(), fmt.Sprintf("%s[%d]", path, i), at+uintptr(i)*t.Elem().Size(), kinds, list)
			}
			return list
		}
	case reflect.Bool, reflect.Int, reflect.Int32, reflect.Int64, reflect.Uint8, reflect.Uint16, reflect.Uint32,
		reflect.Uint64, reflect.String:
	default:
		panic("history: no column for " + path + " of type " + t.String())
	}
	text := t.Kind() == reflect.String || t.Kind() == reflect.Array
	return append(list, column{Name: path, Text: text, Kinds: kinds, offset: at, kind: t.Kind()})
}

// plan lists for each kind the columns that it has.
func plan(columns []column) (plans [256][]int) {
	for kind := range plans {
		for i := range columns {
			if c := &columns[i]; len(c.Kinds) == 0 || slices.Contains(c.Kinds, event.Kind(kind)) {
				plans[kind] = append(plans[kind], i)
			}
		}
	}
	return plans
}

// number reads a field. The offsets come from the type itself, so that they are right as
// long as e is an event.Event; reading them by reflection takes ten times as long.
func (c *column) number(e *event.Event) uint64 {
	p := unsafe.Add(unsafe.Pointer(e), c.offset)
	switch c.kind {
	case reflect.Bool:
		if *(*bool)(p) {
			return 1
		}
		return 0
	case reflect.Uint8:
		return uint64(*(*uint8)(p))
	case reflect.Uint16:
		return uint64(*(*uint16)(p))
	case reflect.Int32:
		return uint64(int64(*(*int32)(p)))
	case reflect.Uint32:
		return uint64(*(*uint32)(p))
	case reflect.Int, reflect.Int64, reflect.Uint64:
		return *(*uint64)(p)
	}
	return 0
}

func (c *column) setNumber(e *event.Event, v uint64) {
	p := unsafe.Add(unsafe.Pointer(e), c.offset)
	switch c.kind {
	case reflect.Bool:
		*(*bool)(p) = v != 0
	case reflect.Uint8:
		*(*uint8)(p) = uint8(v)
	case reflect.Uint16:
		*(*uint16)(p) = uint16(v)
	case reflect.Int32, reflect.Uint32:
		*(*uint32)(p) = uint32(v)
	case reflect.Int, reflect.Int64, reflect.Uint64:
		*(*uint64)(p) = v
	}
}

func (c *column) text(e *event.Event) string {
	p := unsafe.Add(unsafe.Pointer(e), c.offset)
	if c.kind == reflect.String {
		return *(*string)(p)
	}
	return (*event.Comm)(p).String()
}

func (c *column) setText(e *event.Event, s string) {
	p := unsafe.Add(unsafe.Pointer(e), c.offset)
	if c.kind == reflect.String {
		*(*string)(p) = s
		return
	}
	*(*event.Comm)(p) = event.MakeComm(s)
}

// adopt gives the columns that a segment lists the places that their fields have in this
// program. A column that is not known here keeps no place.
func adopt(listed []column) []column {
	for i := range listed {
		listed[i].kind = reflect.Invalid
		for j := range columns {
			if c := &columns[j]; c.Name == listed[i].Name && c.Text == listed[i].Text {
				listed[i].offset, listed[i].kind = c.offset, c.kind
			}
		}
	}
	return listed
}
