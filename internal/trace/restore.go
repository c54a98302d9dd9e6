// SPDX-License-Identifier: Apache-2.0

package trace

import (
	"github.com/abot-trace/abot-trace/internal/boottime"
	"github.com/abot-trace/abot-trace/internal/leak"
	"github.com/abot-trace/abot-trace/internal/lease"
	"github.com/abot-trace/abot-trace/internal/tracker"
)

// Sections of a saved state.
const (
	SectionTree   = "tree"
	SectionLeases = "leases"
	SectionLeaks  = "leaks"
)

// Save adds to sections what a successor needs to go on: the tree with its orphans and
// their verdicts, and the leases. buf is room for the tree, to be used again once the
// sections are written. On the loop, or when Run has returned.
func (t *Tracer) Save(sections map[string][]byte, buf []byte) error {
	tree, err := t.tree.Export(buf[:0])
	if err != nil {
		return err
	}
	leases, err := t.leases.Save()
	if err != nil {
		return err
	}
	leaks, err := t.leaks.Export()
	if err != nil {
		return err
	}
	sections[SectionTree], sections[SectionLeases], sections[SectionLeaks] = tree, leases, leaks
	return nil
}

// RestoreLeases takes over leases alone, of a table that was saved without a tree. Before Run.
func (t *Tracer) RestoreLeases(b []byte) error {
	leases, err := lease.Decode(b)
	if err == nil {
		t.leases.Restore(leases)
	}
	return err
}

// Restore goes on from what Save wrote; history is that of New's options. Before Run.
// On an error nothing is changed.
func (t *Tracer) Restore(sections map[string][]byte, history int) error {
	tree, err := tracker.Import(sections[SectionTree], history)
	if err != nil {
		return err
	}
	leases, err := lease.Decode(sections[SectionLeases])
	if err != nil {
		return err
	}
	leaks, err := leak.DecodeRecords(sections[SectionLeaks])
	if err != nil {
		return err
	}
	t.tree.Replace(tree)
	t.leases.Restore(leases)
	t.leaks.Import(leaks)
	t.stats.note(t)
	t.evidence.Resume()
	return nil
}

// NoteLost tells that records were lost before this tracer began. Before Run.
func (t *Tracer) NoteLost(records uint64) {
	if records > 0 {
		t.lost(records, boottime.Now())
	}
}
