// SPDX-License-Identifier: Apache-2.0

package template

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// absent stands for what a notice does not have, with all that could be below it.
type absent map[string]absent

// String implements fmt.Stringer: nothing.
func (absent) String() string { return "" }

// MarshalJSON implements json.Marshaler.
func (absent) MarshalJSON() ([]byte, error) { return []byte("null"), nil }

// dataOf returns a notice by the names of its JSON, those that it lacks as absent.
func dataOf(n *Notice) (map[string]any, error) {
	text, err := json.Marshal(n)
	if err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber() // an integer stays one
	var values map[string]any
	if err := dec.Decode(&values); err != nil {
		return nil, err
	}
	data, ok := complete(values, reflect.TypeFor[Notice]()).(map[string]any)
	if !ok {
		return nil, fmt.Errorf("notice of type %T", values)
	}
	data["Severity"], data["Host"], data["Text"] = n.Severity, n.Host, n.Text
	return data, nil
}

// complete gives a value of the JSON of type t the names that t has and it lacks, and
// numbers that can be compared.
func complete(v any, t reflect.Type) any {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch v := v.(type) {
	case nil:
		return absent(nil)
	case json.Number:
		return number(v)
	case []any:
		for i := range v {
			v[i] = complete(v[i], elem(t))
		}
	case map[string]any:
		if t.Kind() != reflect.Struct {
			for name := range v {
				v[name] = complete(v[name], elem(t))
			}
			break
		}
		for name, field := range fields(t) {
			v[name] = complete(v[name], field)
		}
	}
	return v
}

// elem is the type of a list's or map's elements; for others it does not matter.
func elem(t reflect.Type) reflect.Type {
	switch t.Kind() {
	case reflect.Slice, reflect.Array, reflect.Map:
		return t.Elem()
	default:
		return t
	}
}

func number(n json.Number) any {
	if i, err := n.Int64(); err == nil {
		return i
	}
	if u, err := strconv.ParseUint(n.String(), 10, 64); err == nil {
		return u
	}
	f, _ := n.Float64()
	return f
}

// fields returns the types of a struct's fields by their names in JSON.
func fields(t reflect.Type) map[string]reflect.Type {
	out := make(map[string]reflect.Type, t.NumField())
	for f := range fieldsOf(t) {
		if f.Anonymous && f.Tag.Get("json") == "" {
			for name, inner := range fields(f.Type) {
				out[name] = inner
			}
			continue
		}
		if name := jsonName(f); name != "" {
			out[name] = f.Type
		}
	}
	return out
}

func fieldsOf(t reflect.Type) func(func(reflect.StructField) bool) {
	return func(yield func(reflect.StructField) bool) {
		for i := range t.NumField() {
			if f := t.Field(i); f.IsExported() && !yield(f) {
				return
			}
		}
	}
}

// jsonName is the field's name in JSON; empty where it has none.
func jsonName(f reflect.StructField) string {
	name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
	switch name {
	case "-":
		return ""
	case "":
		return f.Name
	}
	return name
}

var timeType = reflect.TypeFor[time.Time]()

// fill sets a value and all below it to something that its JSON shows.
func fill(v reflect.Value, depth int) {
	if v.Type() == timeType {
		v.Set(reflect.ValueOf(time.Unix(1, 0).UTC()))
		return
	}
	if depth == 0 { // a type that holds itself
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), depth-1)
	case reflect.Struct:
		for f := range fieldsOf(v.Type()) {
			fill(v.FieldByIndex(f.Index), depth-1)
		}
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 1, 1))
		fill(v.Index(0), depth-1)
	case reflect.Map:
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key, depth-1)
		fill(value, depth-1)
		v.Set(reflect.MakeMap(v.Type()))
		v.SetMapIndex(key, value)
	case reflect.String:
		v.SetString("x")
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Float32, reflect.Float64:
		v.SetFloat(1)
	default:
		switch {
		case v.CanInt():
			v.SetInt(1)
		case v.CanUint():
			v.SetUint(1)
		}
	}
}
