// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"context"
	"log/slog"
	"slices"
	"strings"
)

// A Sink takes records without making its caller wait; false means that one was
// dropped. [Journal] is a sink.
type Sink interface {
	Send(Record) bool
}

// Handler is a slog.Handler whose records go to a sink: attribute key is field
// ABOT_KEY, groups join with an underscore. Values are made printable.
type Handler struct {
	sink   Sink
	level  slog.Leveler
	prefix string
	fields []Field
}

// NewHandler returns a Handler for records from level on; nil is slog.LevelInfo.
func NewHandler(sink Sink, level slog.Leveler) *Handler {
	if level == nil {
		level = slog.LevelInfo
	}
	return &Handler{sink: sink, level: level, prefix: "ABOT_"}
}

// Enabled implements [slog.Handler].
func (h *Handler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level.Level() }

// Handle implements [slog.Handler]. It never fails and never waits.
func (h *Handler) Handle(_ context.Context, r slog.Record) error {
	fields := slices.Clone(h.fields)
	r.Attrs(func(a slog.Attr) bool {
		fields = appendAttr(fields, h.prefix, a)
		return true
	})
	h.sink.Send(Record{Severity: severityOf(r.Level), Message: printable(r.Message), Fields: fields})
	return nil
}

// WithAttrs implements [slog.Handler].
func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	next := *h
	next.fields = slices.Clone(h.fields)
	for _, a := range attrs {
		next.fields = appendAttr(next.fields, h.prefix, a)
	}
	return &next
}

// WithGroup implements [slog.Handler].
func (h *Handler) WithGroup(name string) slog.Handler {
	next := *h
	if name != "" {
		next.prefix += fieldName(name) + "_"
	}
	return &next
}

func appendAttr(fields []Field, prefix string, a slog.Attr) []Field {
	value := a.Value.Resolve()
	if value.Kind() == slog.KindGroup {
		if a.Key != "" {
			prefix += fieldName(a.Key) + "_"
		}
		for _, inner := range value.Group() {
			fields = appendAttr(fields, prefix, inner)
		}
		return fields
	}
	if a.Key == "" {
		return fields
	}
	name := prefix + fieldName(a.Key)
	return append(fields, Field{name[:min(len(name), maxName)], printable(value.String())})
}

// maxName is the longest name that journald takes for a field.
const maxName = 64

// fieldName turns a key into what journald allows: A-Z, 0-9 and _.
func fieldName(key string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z':
			return r - 'a' + 'A'
		case 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
			return r
		default:
			return '_'
		}
	}, key)
}
