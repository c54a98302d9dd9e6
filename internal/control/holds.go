// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/holds"
	"github.com/abot-trace/abot-trace/internal/procfs"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// holdsTimeout bounds the reading of several processes; who is not read by then is counted.
const holdsTimeout = 4 * time.Second

// Holds reads what living processes keep from others, nil where none of them lives. What could
// not be read is said in it. Not on the loop.
func (c *Controller) Holds(ctx context.Context, ids []event.ID) *wire.Holds {
	ctx, cancel := context.WithTimeout(ctx, holdsTimeout)
	defer cancel()
	users := make(map[event.ID]uint32)
	if err := c.tracer.Do(ctx, func(tree *tracker.Tree) {
		for _, id := range ids {
			if p, ok := tree.Get(id); ok && !p.Dead && !p.Kthread {
				users[id] = p.UID
			}
		}
	}); err != nil || len(users) == 0 {
		return nil
	}
	var all holds.Held
	unread := 0
	for id, uid := range users {
		held, err := c.holds.Read(ctx, id, uid)
		switch {
		case err == nil:
			all.Add(&held)
		case !errors.Is(err, procfs.ErrGone):
			unread++
		}
	}
	if unread > 0 {
		all.Unread = append(all.Unread, fmt.Sprintf("%d of %d processes", unread, len(users)))
	}
	return wireHolds(&all)
}

func wireHolds(h *holds.Held) *wire.Holds {
	w := &wire.Holds{DeletedBytes: h.DeletedBytes, SharedBytes: h.SharedBytes, Unread: h.Unread}
	for _, p := range h.Ports {
		w.Ports = append(w.Ports, wire.Port{Proto: p.Proto, Addr: p.Addr.Addr().String(), Port: p.Addr.Port()})
	}
	for i := range h.GPUs {
		gpu := wire.GPU{Device: h.GPUs[i].Device}
		if h.GPUs[i].Known {
			gpu.Bytes = &h.GPUs[i].Bytes
		}
		w.GPUs = append(w.GPUs, gpu)
	}
	for _, l := range h.Locks {
		w.Locks = append(w.Locks, wire.FileLock{Type: l.Type, Mode: l.Mode, Path: l.Path})
	}
	return w
}
