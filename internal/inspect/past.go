// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"context"
	"time"

	"github.com/abot-trace/abot-trace/internal/describe"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/tracker"
)

// A Past is a tree as it was once, which nobody changes any more.
type Past struct {
	Tree  *tracker.Tree
	Names *describe.Names // of then
	Host  string
	Time  time.Time // when it was so
	// Offset is the wall clock at boot, as it stood then, ns.
	Offset int64
	// Usage is what processes used by then; it says false of whom it does not know.
	Usage func(event.ID) (describe.Use, bool)
}

// NewPast returns an inspector of a tree of the past, which is its own from now on.
func NewPast(p Past) *Inspector {
	return &Inspector{
		loop:     &still{tree: p.Tree},
		usage:    func() (func(event.ID) (describe.Use, bool), error) { return p.Usage, nil },
		now:      func() time.Time { return p.Time },
		host:     p.Host,
		past:     true,
		values:   converter{Converter: describe.NewConverter(p.Names).At(p.Offset)},
		drawings: converter{Converter: describe.NewDrawing(p.Names).At(p.Offset)},
	}
}

// still lends a tree that nothing happens to.
type still struct{ tree *tracker.Tree }

func (s *still) Do(ctx context.Context, fn func(*tracker.Tree)) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	fn(s.tree)
	return nil
}

func (s *still) Living() int { return s.tree.Living() }
