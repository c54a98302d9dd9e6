// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
)

// Helpers are the processes that deliver notices: one for webhooks and metrics, and one
// for the commands of each user, which run nothing as the daemon's own. A helper that is
// a service of its own does all of it. Its methods may be called from any goroutine; only
// Close waits.
type Helpers struct {
	dial func(user string) (Dialer, error)
	all  bool // one does everything
	log  *slog.Logger

	mu      sync.Mutex
	links   map[string]*Link // by user; the empty one's has webhooks and metrics
	refused map[string]error // by user: why no command runs as such
}

// HelperSocket is where the helper listens when it runs as a unit of its own.
const HelperSocket = "/run/abot-trace-notify/deliver.sock"

// noUser stands for who runs no command: webhooks and metrics.
const noUser = ""

// DefaultUser is who runs commands that name no user.
const DefaultUser = "nobody"

// OneHelper returns Helpers with a single helper, which is somebody else's process.
func OneHelper(dial Dialer, settings Settings, log *slog.Logger) *Helpers {
	return newHelpers(func(string) (Dialer, error) { return dial, nil }, true, settings, log)
}

// SpawnedHelpers returns Helpers that are children of this process, with args. Commands
// of users whom it cannot run anything as are refused: see Refused.
func SpawnedHelpers(settings Settings, log *slog.Logger, args ...string) *Helpers {
	return newHelpers(func(user string) (Dialer, error) {
		if user == noUser {
			return Spawn(nil, args...), nil
		}
		as, err := credential(user)
		if err != nil {
			return nil, err
		}
		return Spawn(as, args...), nil
	}, false, settings, log)
}

func newHelpers(dial func(string) (Dialer, error), all bool, settings Settings, log *slog.Logger) *Helpers {
	h := &Helpers{dial: dial, all: all, log: log, links: make(map[string]*Link)}
	h.Configure(settings)
	return h
}

// Configure hands over new settings; helpers are connected anew with them.
func (h *Helpers) Configure(settings Settings) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refused = make(map[string]error)
	parts := h.split(settings)
	for user, link := range h.links {
		if _, wanted := parts[user]; !wanted {
			link.Configure(Settings{}) // its helper ends, its counts stay
		}
	}
	for user, part := range parts {
		if link := h.links[user]; link != nil {
			link.Configure(part)
			continue
		}
		dial, err := h.dial(user)
		if err != nil {
			h.refused[user] = err
			h.log.Warn("commands are refused", "user", user, "err", err)
			continue
		}
		h.links[user] = NewLink(dial, part, h.log)
	}
}

// split divides settings by who delivers.
func (h *Helpers) split(settings Settings) map[string]Settings {
	if h.all {
		return map[string]Settings{noUser: settings}
	}
	first := settings
	first.Exec = nil
	parts := map[string]Settings{noUser: first}
	for _, e := range settings.Exec {
		user := e.User
		if user == "" {
			user = DefaultUser
		}
		part := parts[user]
		part.Exec = append(part.Exec, e)
		parts[user] = part
	}
	return parts
}

// Send queues a notice for all who want it, and returns at once; false means that one of
// them will not get it.
func (h *Helpers) Send(n *Notice) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	sent := true
	for _, link := range h.links {
		if link.wants(n) && !link.Send(n) {
			sent = false
		}
	}
	return sent
}

// Refused says for which commands there is no helper, one sentence each.
func (h *Helpers) Refused() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var out []string
	for _, user := range slices.Sorted(maps.Keys(h.refused)) {
		out = append(out, "notify.exec is refused: "+h.refused[user].Error())
	}
	return out
}

// Stats returns what all helpers so far have reported, and how many notices never got to
// one or were lost with it.
func (h *Helpers) Stats() (sum Report, dropped uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, link := range h.links {
		report, n := link.Stats()
		sum, dropped = sum.plus(report), dropped+n
	}
	return sum, dropped
}

// Close passes on what waits and lets the helpers deliver it, until ctx ends.
func (h *Helpers) Close(ctx context.Context) {
	h.mu.Lock()
	links := slices.Collect(maps.Values(h.links))
	h.mu.Unlock()
	var all sync.WaitGroup
	for _, link := range links {
		all.Go(func() { link.Close(ctx) })
	}
	all.Wait()
}
