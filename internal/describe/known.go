// SPDX-License-Identifier: Apache-2.0

package describe

import (
	"maps"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/tracker"
)

// A KnownGroup is what was found out of one control group.
type KnownGroup struct {
	// Cgroup is its id in the unified hierarchy; where there is none, ID is the process that
	// stood in it, as of the CLOCK_BOOTTIME instant Known.
	Cgroup uint64   `json:"cgroup,omitempty"`
	ID     event.ID `json:"id,omitzero"`
	Known  uint64   `json:"known,omitempty"`
	Path   string   `json:"path"`
}

// Known is all that names have found out, for those who ask later, elsewhere.
type Known struct {
	Unified bool              `json:"unified,omitempty"`
	Since   uint64            `json:"since"`
	Groups  []KnownGroup      `json:"groups,omitempty"`
	Users   map[uint32]string `json:"users,omitempty"`
}

// Keep has kept called with each group that is found out from now on. It must keep nothing
// of it.
func (r *Names) Keep(kept func(*KnownGroup)) { r.kept = kept }

func (r *Names) keep(g *KnownGroup) {
	if r.kept != nil {
		r.kept(g)
	}
}

// Known returns what was found out so far.
func (r *Names) Known() *Known {
	k := &Known{Unified: r.unified, Since: r.since, Users: *r.users.names.Load()}
	for id, g := range r.byID {
		k.Groups = append(k.Groups, KnownGroup{Cgroup: id, Path: g.Path})
	}
	for id, p := range r.byProc {
		if p.known != 0 {
			k.Groups = append(k.Groups, KnownGroup{ID: id, Path: p.Path, Known: p.known})
		}
	}
	return k
}

// NewPastNames returns names for a tree of the past: of what is known, and of what Learn is
// told. Nobody is asked.
func NewPastNames(tree *tracker.Tree, k *Known) *Names {
	r := &Names{unified: k.Unified, byID: make(map[uint64]Group), byProc: make(map[event.ID]place), users: new(users),
		tree: tree, since: k.Since, past: true}
	names := maps.Clone(k.Users)
	r.users.names.Store(&names)
	for i := range k.Groups {
		r.Learn(&k.Groups[i])
	}
	return r
}

// Learn takes what was found out of a group.
func (r *Names) Learn(g *KnownGroup) {
	group := groupAt(g.Path)
	if g.Cgroup != 0 {
		r.byID[g.Cgroup] = group
		return
	}
	r.byProc[g.ID] = place{group, g.Known}
}
