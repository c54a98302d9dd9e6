// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"slices"

	"github.com/abot-trace/abot-trace/internal/api"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// keepPlaced leaves the leaks of which a living member is where the filter asks for.
func (f *filter) keepPlaced(ctx context.Context, doc *wire.Leaks) error {
	if len(f.cwds)+len(f.ports) == 0 {
		return nil
	}
	tree, err := api.NewClient(f.command.String("socket")).Tree(ctx, wire.FactCwd, wire.FactPorts)
	if err != nil {
		return explained(err)
	}
	placed := make(map[string]bool) // leaks
	for i := range tree.Processes {
		if p := &tree.Processes[i]; p.Orphan != nil && f.place(p) {
			placed[p.Orphan.Leak] = true
		}
	}
	doc.Leaks = slices.DeleteFunc(doc.Leaks, func(l wire.Leak) bool { return !placed[l.ID] })
	return nil
}
