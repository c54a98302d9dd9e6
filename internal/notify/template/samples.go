// SPDX-License-Identifier: Apache-2.0

package template

import (
	"reflect"

	"github.com/abot-trace/abot-trace/internal/wire"
)

// maxDepth is deeper than any event is.
const maxDepth = 12

// fullNotice has every name that the contract knows.
func fullNotice() *Notice {
	n := &Notice{}
	fill(reflect.ValueOf(n).Elem(), maxDepth)
	return n
}

// bareNotices have one event of each kind, with its own object and otherwise with as
// little as an event can have, once with a process and once without.
func bareNotices() []*Notice {
	var out []*Notice
	for _, kind := range wire.Types {
		for _, process := range []*wire.Process{nil, {}} {
			e := &wire.Event{Schema: wire.Schema, Type: kind, Process: process}
			v := reflect.ValueOf(e).Elem()
			for f := range fieldsOf(v.Type()) {
				if jsonName(f) == kind && f.Type.Kind() == reflect.Pointer {
					v.FieldByIndex(f.Index).Set(reflect.New(f.Type.Elem()))
				}
			}
			out = append(out, &Notice{Severity: "info", Host: "host", Text: "text", Event: e})
		}
	}
	return out
}
