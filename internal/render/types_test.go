// SPDX-License-Identifier: Apache-2.0

package render

import (
	"reflect"
	"strings"
	"testing"

	"github.com/abot-trace/abot-trace/internal/wire"
)

// TestEveryTypeIsTold wants a line to say more of an event with an own object than of one of
// a type that nobody knows.
func TestEveryTypeIsTold(t *testing.T) {
	for i := range wire.EventTypes {
		kind := &wire.EventTypes[i]
		e := &wire.Event{Type: kind.Name, Process: &wire.Process{PID: 7, Comm: "worker"}}
		v := reflect.ValueOf(e).Elem()
		for f := range v.Type().Fields() {
			if name, _, _ := strings.Cut(f.Tag.Get("json"), ","); name == kind.Name && f.Type.Kind() == reflect.Pointer {
				v.FieldByIndex(f.Index).Set(reflect.New(f.Type.Elem()))
			}
		}
		other := *e
		other.Type = "other"
		if kind.Object != "" && about(e, Style{}) == about(&other, Style{}) {
			t.Errorf("%s: nothing is told but %q", kind.Name, about(e, Style{}))
		}
	}
}
