// SPDX-License-Identifier: Apache-2.0

package control

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/abot-trace/abot-trace/internal/boottime"
	"github.com/abot-trace/abot-trace/internal/describe"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/holds"
	"github.com/abot-trace/abot-trace/internal/policy"
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
	users, err := c.usersOf(ctx, ids)
	if err != nil || len(users) == 0 {
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

// readHeld reads anew what rules look at of the processes, and has the view know it; of those
// that could not be read it knows nothing any more. It returns those that were read. Not on the
// loop.
func (c *Controller) readHeld(ctx context.Context, ids []event.ID) (read []event.ID, err error) {
	users, err := c.usersOf(ctx, ids)
	if err != nil {
		return nil, err
	}
	found := make(map[event.ID]*policy.Held, len(ids))
	for _, id := range ids {
		found[id] = nil
		uid, living := users[id]
		if !living {
			continue
		}
		at := boottime.Now()
		held, err := c.holds.Read(ctx, id, uid)
		if err != nil {
			continue
		}
		h := &policy.Held{At: at, GPU: len(held.GPUs) > 0}
		for _, p := range held.Ports {
			if strings.HasPrefix(p.Proto, "tcp") {
				h.Ports = append(h.Ports, p.Addr.Port())
			}
		}
		found[id] = h
		read = append(read, id)
	}
	return read, c.tracer.Do(ctx, func(*tracker.Tree) { c.view.noteHeld(found) })
}

// usersOf returns whose those of the processes are that live.
func (c *Controller) usersOf(ctx context.Context, ids []event.ID) (map[event.ID]uint32, error) {
	users := make(map[event.ID]uint32)
	err := c.tracer.Do(ctx, func(tree *tracker.Tree) {
		for _, id := range ids {
			if p, ok := tree.Get(id); ok && !p.Dead && !p.Kthread {
				users[id] = p.UID
			}
		}
	})
	return users, err
}

// noteHeld notes what processes hold, nil of those of which that is not known. What is old is
// forgotten. On the loop.
func (v *view) noteHeld(found map[event.ID]*policy.Held) {
	now := boottime.Now()
	for id, h := range v.held {
		if h.At+2*uint64(policy.HeldFor) < now {
			delete(v.held, id)
		}
	}
	for id, h := range found {
		if delete(v.held, id); h != nil {
			v.held[id] = h
		}
	}
}

// readAsked reads what rules have asked for, beside the loop, and lets the rules look again at
// those that were read. On the loop.
func (c *Controller) readAsked() {
	ids := c.view.takeAsked()
	if len(ids) == 0 || c.readingHeld {
		return
	}
	c.readingHeld = true
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), policy.HeldFor)
		defer cancel()
		read, _ := c.readHeld(ctx, ids) // whoever was not read is asked for with the next sample
		c.tracer.Post(func() {
			c.readingHeld = false
			c.decide(c.engine.EvaluateOrphans(c.bind(), &c.host, read, boottime.Now()))
		})
	}()
}

// takeAsked returns the processes that were asked for.
func (v *view) takeAsked() []event.ID {
	ids := slices.Collect(maps.Keys(v.asked))
	clear(v.asked)
	return ids
}

func wireHolds(h *holds.Held) *wire.Holds {
	w := &wire.Holds{DeletedBytes: h.DeletedBytes, SharedBytes: h.SharedBytes, Unread: h.Unread, Ports: describe.Ports(h.Ports)}
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
