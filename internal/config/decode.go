// SPDX-License-Identifier: Apache-2.0

package config

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"unicode/utf8"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
	"github.com/goccy/go-yaml/token"

	"github.com/abot-trace/abot-trace/internal/nearest"
)

// Limits of a file. The parser's cost grows faster than its input (with the square of
// the keys of one map), so they are checked before it sees any of it.
const (
	maxFile    = 1 << 20 // bytes
	maxLines   = 20000
	maxNesting = 64
)

// parseDocument turns text into the one YAML document that it holds, nil when it
// holds none, and reports what is wrong with it.
func parseDocument(src *source, data []byte, r *report) ast.Node {
	if err := guardText(data); err != nil {
		r.add(Pos{src: src}, "%v", err)
		return nil
	}
	// Duplicate keys are found by the decoder; the parser's own check is quadratic.
	file, err := parseSafely(data)
	if err != nil {
		at, message := syntaxError(src, err)
		r.add(at, "%s", message)
		return nil
	}
	var body ast.Node
	for i, doc := range file.Docs {
		if i > 0 {
			at := Pos{src: src}
			if doc.Start != nil {
				at = position(src, doc.Start)
			}
			r.add(at, "a second document: a file holds one")
			return nil
		}
		body = doc.Body
	}
	return body
}

func parseSafely(data []byte) (file *ast.File, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the parser gave up: %v", p)
		}
	}()
	return parser.ParseBytes(data, 0, parser.AllowDuplicateMapKey())
}

// guardText refuses what the parser should not be given. Nesting is counted roughly,
// brackets in strings and comments included: a parser's idea of a string is exactly
// what hostile text plays with.
func guardText(data []byte) error {
	if len(data) > maxFile {
		return errors.New("the file is larger than 1 MiB")
	}
	if bytes.Count(data, []byte("\n")) > maxLines {
		return fmt.Errorf("the file has more than %d lines", maxLines)
	}
	if !utf8.Valid(data) {
		return errors.New("the file is not UTF-8 text")
	}
	if i := bytes.IndexFunc(data, isControl); i >= 0 {
		return fmt.Errorf("the file holds a control character at byte %d", i)
	}
	depth := 0
	for line := range bytes.Lines(data) {
		indicators := 0
		for _, b := range line[:len(line)-len(bytes.TrimLeft(line, " -?:"))] {
			if b != ' ' {
				indicators++
			}
		}
		indent := len(line) - len(bytes.TrimLeft(line, " "))
		depth += bytes.Count(line, []byte("[")) + bytes.Count(line, []byte("{"))
		if depth > maxNesting || indicators > maxNesting || indent > 8*maxNesting {
			return fmt.Errorf("the file is nested deeper than %d levels", maxNesting)
		}
		depth = max(0, depth-bytes.Count(line, []byte("]"))-bytes.Count(line, []byte("}")))
	}
	return nil
}

func isControl(r rune) bool { return r < ' ' && r != '\n' && r != '\r' && r != '\t' || r == 0x7f }

func syntaxError(src *source, err error) (Pos, string) {
	var at yaml.Error
	if errors.As(err, &at) && at.GetToken() != nil {
		return position(src, at.GetToken()), at.GetMessage()
	}
	first, _, _ := strings.Cut(err.Error(), "\n")
	return Pos{src: src}, first
}

func position(src *source, t *token.Token) Pos {
	return Pos{src, max(t.Position.Line, 1), max(t.Position.Column, 1)}
}

// decoder fills Go values from YAML nodes. Structs take their keys from yaml tags;
// what stands in the value already stays unless the file sets it, and lists are
// appended to, so that decoding several files one after the other merges them.
type decoder struct {
	src *source
	*report
}

// decode fills v, which path names in messages.
func (d *decoder) decode(node ast.Node, v reflect.Value, path string) {
	if !d.plain(node) {
		return
	}
	if s, ok := v.Addr().Interface().(scalar); ok {
		d.scalar(node, s, path)
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		d.structure(node, v, path)
	case reflect.Slice:
		d.list(node, v, path)
	default:
		panic("config: no way to decode " + v.Type().String())
	}
}

// plain refuses what a configuration has no use for and hostile input has: anchors,
// aliases, merges, tags.
func (d *decoder) plain(node ast.Node) bool {
	var what string
	switch node.(type) {
	case *ast.AnchorNode:
		what = "anchors"
	case *ast.AliasNode:
		what = "aliases"
	case *ast.MergeKeyNode:
		what = "merge keys"
	case *ast.TagNode:
		what = "tags"
	default:
		return true
	}
	d.add(d.pos(node), "%s are not supported", what)
	return false
}

func (d *decoder) pos(node ast.Node) Pos {
	switch n := node.(type) {
	case *ast.MappingNode:
		if n.IsFlowStyle || len(n.Values) == 0 {
			return position(d.src, n.Start)
		}
		return position(d.src, n.Values[0].Key.GetToken())
	case *ast.MappingValueNode:
		return position(d.src, n.Key.GetToken())
	case *ast.LiteralNode:
		return position(d.src, n.Start)
	}
	return position(d.src, node.GetToken())
}

func (d *decoder) scalar(node ast.Node, s scalar, path string) {
	at := d.pos(node)
	var text string
	switch n := node.(type) {
	case *ast.StringNode:
		text = n.Value
	case *ast.LiteralNode:
		text = strings.TrimSuffix(n.Value.Value, "\n")
	case *ast.IntegerNode, *ast.FloatNode:
		text = node.GetToken().Value
	case *ast.BoolNode:
		if _, ok := s.(*Bool); !ok {
			d.add(at, "%s wants a single value, not %s", path, kindOf(node))
			return
		}
		text = node.GetToken().Value
	case *ast.NullNode:
		d.add(at, "%s has no value", path)
		return
	default:
		d.add(at, "%s wants a single value, not %s", path, kindOf(node))
		return
	}
	if err := s.parse(text); err != nil {
		d.add(at, "%s: %v", path, err)
		return
	}
	s.setPos(at)
}

// kindOf names a node's kind for people.
func kindOf(node ast.Node) string {
	switch node.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		return "a map"
	case *ast.SequenceNode:
		return "a list"
	case *ast.BoolNode:
		return "a truth value (quote it if it is text)"
	case *ast.NullNode:
		return "nothing"
	case *ast.InfinityNode, *ast.NanNode:
		return "a number that is not finite"
	default:
		return "a single value"
	}
}

// switchable is what the word off can stand for.
type switchable interface{ switchOff() }

func (d *decoder) structure(node ast.Node, v reflect.Value, path string) {
	if _, ok := node.(*ast.NullNode); ok {
		return // every key below it is commented out
	}
	var values []*ast.MappingValueNode
	switch n := node.(type) {
	case *ast.MappingNode:
		values = n.Values
	case *ast.MappingValueNode:
		values = []*ast.MappingValueNode{n}
	case *ast.StringNode:
		if s, ok := v.Addr().Interface().(switchable); ok && n.Value == "off" {
			s.switchOff()
			return
		}
		d.add(d.pos(node), "%s wants a map of keys and values, not %s", cmp.Or(path, "the file"), kindOf(node))
		return
	default:
		d.add(d.pos(node), "%s wants a map of keys and values, not %s", cmp.Or(path, "the file"), kindOf(node))
		return
	}
	if at := v.FieldByName("At"); at.IsValid() {
		at.Set(reflect.ValueOf(d.pos(node)))
	}
	fields, names := fieldsOf(v)
	seen := make(map[string]bool, len(names))
	for _, pair := range values {
		if !d.plain(pair.Key) {
			continue
		}
		key := pair.Key.GetToken().Value
		field, ok := fields[key]
		switch {
		case !ok:
			d.add(d.pos(pair), "%s", unknownKey(path, key, names))
		case seen[key]:
			d.add(d.pos(pair), "the key %q stands twice", key)
		default:
			d.decode(pair.Value, field(), join(path, key))
		}
		seen[key] = true
	}
}

func unknownKey(path, key string, names []string) string {
	where := ""
	if path != "" {
		where = " in " + path
	}
	if near := nearest.Hint(key, names...); near != "" {
		return fmt.Sprintf("unknown key %q%s%s", key, where, near)
	}
	return fmt.Sprintf("unknown key %q%s: there are %s", key, where, nearest.List(names))
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// fieldsOf maps the yaml names of v's fields to what returns them.
func fieldsOf(v reflect.Value) (fields map[string]func() reflect.Value, names []string) {
	fields = make(map[string]func() reflect.Value)
	add := func(name string, field func() reflect.Value) {
		fields[name] = field
		names = append(names, name)
	}
	for i := range v.NumField() {
		tag := v.Type().Field(i).Tag.Get("yaml")
		switch {
		case strings.HasPrefix(tag, inline):
			for _, f := range inlined(tag) {
				add(f.Name(), func() reflect.Value { return target(v.Field(i), f) })
			}
		case tag != "":
			add(tag, func() reflect.Value { return v.Field(i) })
		}
	}
	return fields, names
}

func (d *decoder) list(node ast.Node, v reflect.Value, path string) {
	item := reflect.New(v.Type().Elem()).Elem()
	_, ofScalars := item.Addr().Interface().(scalar)
	switch n := node.(type) {
	case *ast.NullNode:
	case *ast.SequenceNode:
		for i, value := range n.Values {
			item := reflect.New(v.Type().Elem()).Elem()
			d.decode(value, item, fmt.Sprintf("%s[%d]", path, i+1))
			v.Set(reflect.Append(v, item))
		}
	case *ast.MappingNode, *ast.MappingValueNode:
		d.add(d.pos(node), "%s wants a list, not a map: begin each item with a dash", path)
	default:
		if !ofScalars {
			d.add(d.pos(node), "%s wants a list, not %s", path, kindOf(node))
			return
		}
		// One word may stand for a list of one.
		d.decode(node, item, path)
		v.Set(reflect.Append(v, item))
	}
}
