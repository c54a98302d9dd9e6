// SPDX-License-Identifier: Apache-2.0

package systemd

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	godbus "github.com/godbus/dbus/v5"

	"github.com/abot-trace/abot-trace/internal/evidence"
)

// The manager's names on the bus (org.freedesktop.systemd1(5)).
const (
	busName        = "org.freedesktop.systemd1"
	managerPath    = "/org/freedesktop/systemd1"
	unitPaths      = "/org/freedesktop/systemd1/unit"
	managerFace    = "org.freedesktop.systemd1.Manager"
	unitFace       = "org.freedesktop.systemd1.Unit"
	serviceFace    = "org.freedesktop.systemd1.Service"
	scopeFace      = "org.freedesktop.systemd1.Scope"
	propertiesFace = "org.freedesktop.DBus.Properties"
)

// How long Watch waits before it connects again.
const (
	watchPause    = time.Second
	maxWatchPause = time.Minute
)

// maxUnits bounds how many units are remembered: a full memory forgets those that are gone.
const maxUnits = 1 << 14

// units is what the manager has told. From any goroutine.
type units struct {
	mu     sync.RWMutex
	states map[string]evidence.UnitState
	gone   map[string]struct{} // of states: unloaded by the manager
}

func (u *units) get(name string) (evidence.UnitState, bool) {
	u.mu.RLock()
	defer u.mu.RUnlock()
	s, ok := u.states[name]
	if s.State == "inactive" || s.State == "failed" {
		s.MainPID, s.ControlPID = 0, 0
	}
	return s, ok
}

// set takes note of a unit's state, and reports whether it is news.
func (u *units) set(name string, s evidence.UnitState) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.states == nil {
		u.states, u.gone = make(map[string]evidence.UnitState), make(map[string]struct{})
	}
	old, known := u.states[name]
	if !known && len(u.states) >= maxUnits {
		for name := range u.gone {
			delete(u.states, name)
		}
		clear(u.gone)
	}
	delete(u.gone, name)
	u.states[name] = s
	return !known || old != s
}

// unload has a unit be down that the manager has forgotten: what it left is still asked for.
func (u *units) unload(name string) bool {
	s, ok := u.get(name)
	if !ok {
		return false
	}
	s.State, s.SubState = "inactive", "dead"
	news := u.set(name, s)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.gone[name] = struct{}{}
	return news
}

// names are those of all units that are remembered.
func (u *units) names() []string {
	u.mu.RLock()
	defer u.mu.RUnlock()
	return slices.Collect(maps.Keys(u.states))
}

func (u *units) forget() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.states, u.gone = nil, nil
}

// Told implements evidence.Owners.
func (m *manager) Told(unit string) (evidence.UnitState, bool) { return m.told.get(unit) }

// Watch implements evidence.Owners. While the bus cannot be had nothing is told.
func (m *manager) Watch(ctx context.Context, changed func(unit string)) {
	for pause := watchPause; ctx.Err() == nil; pause = min(2*pause, maxWatchPause) {
		began := time.Now()
		_ = m.watch(ctx, changed) // it is tried again: those who need an answer ask
		m.told.forget()
		if time.Since(began) > maxWatchPause {
			pause = watchPause
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
		}
	}
}

// watch follows one connection to its end.
func (m *manager) watch(ctx context.Context, changed func(unit string)) error {
	conn, err := m.dialBus(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	signals := make(chan *godbus.Signal, 64)
	conn.Signal(signals)
	for _, match := range [][]godbus.MatchOption{
		{godbus.WithMatchSender(busName), godbus.WithMatchInterface(propertiesFace), godbus.WithMatchPathNamespace(unitPaths)},
		{godbus.WithMatchSender(busName), godbus.WithMatchInterface(managerFace), godbus.WithMatchObjectPath(managerPath)},
	} {
		if err := conn.AddMatchSignalContext(ctx, match...); err != nil {
			return fmt.Errorf("match signals: %w", err)
		}
	}
	w := &watcher{conn: conn, told: &m.told, changed: changed}
	if err := w.call(ctx, managerPath, managerFace+".Subscribe").Err; err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	if err := w.list(ctx); err != nil {
		return err
	}
	for {
		select {
		case s, open := <-signals:
			if !open {
				return errClosed
			}
			if err := w.take(ctx, s); err != nil {
				return err
			}
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

var errClosed = fmt.Errorf("the bus has closed the connection")

// A watcher follows one connection.
type watcher struct {
	conn    *godbus.Conn
	told    *units
	changed func(unit string)
	// reloading says that the manager reads its units anew. It says of each that it is
	// removed, and means none: which are gone is known when it is done.
	reloading bool
}

// callTimeout bounds one question of a watcher: a manager that is stuck is left.
const callTimeout = 30 * time.Second

func (w *watcher) call(ctx context.Context, path godbus.ObjectPath, method string, args ...any) *godbus.Call {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	return w.conn.Object(busName, path).CallWithContext(ctx, method, 0, args...)
}

// list asks for every unit that can have processes and is not down.
func (w *watcher) list(ctx context.Context) error {
	var list []struct {
		Name, Description, Load, Active, Sub, Following string
		Path                                            godbus.ObjectPath
		JobID                                           uint32
		JobType                                         string
		JobPath                                         godbus.ObjectPath
	}
	if err := w.call(ctx, managerPath, managerFace+".ListUnits").Store(&list); err != nil {
		return fmt.Errorf("list units: %w", err)
	}
	up := make(map[string]bool, len(list))
	for _, u := range list {
		if hasProcesses(u.Name) && u.Active != "inactive" {
			up[u.Name] = true
			if err := w.fetch(ctx, u.Name, u.Path); err != nil {
				return err
			}
		}
	}
	for _, name := range w.told.names() {
		if !up[name] && w.told.unload(name) {
			w.changed(name)
		}
	}
	return nil
}

// hasProcesses reports whether a unit of that name can have processes of its own.
func hasProcesses(unit string) bool {
	return strings.HasSuffix(unit, ".service") || strings.HasSuffix(unit, ".scope")
}

// fetch asks for the state of a unit. One that is gone meanwhile is told to be so, or was.
func (w *watcher) fetch(ctx context.Context, name string, path godbus.ObjectPath) error {
	var unit, own map[string]godbus.Variant
	err := w.call(ctx, path, propertiesFace+".GetAll", unitFace).Store(&unit)
	if err == nil {
		face := serviceFace
		if strings.HasSuffix(name, ".scope") {
			face = scopeFace
		}
		err = w.call(ctx, path, propertiesFace+".GetAll", face).Store(&own)
	}
	if err != nil {
		return answeredElse(err)
	}
	var s evidence.UnitState
	merge(&s, unit)
	merge(&s, own)
	if w.told.set(name, s) {
		w.changed(name)
	}
	return nil
}

// take applies one signal.
func (w *watcher) take(ctx context.Context, s *godbus.Signal) error {
	switch s.Name {
	case propertiesFace + ".PropertiesChanged":
		return w.propertiesChanged(ctx, s)
	case managerFace + ".JobRemoved":
		// (id, job, unit, result): whoever has a result has a state.
		if len(s.Body) == 4 {
			if name, ok := s.Body[2].(string); ok {
				return w.fetchNew(ctx, name)
			}
		}
	case managerFace + ".UnitRemoved":
		if len(s.Body) == 2 {
			if name, ok := s.Body[0].(string); ok && !w.reloading && w.told.unload(name) {
				w.changed(name)
			}
		}
	case managerFace + ".Reloading":
		// The units' files are read again: what is constant otherwise may be another.
		if len(s.Body) == 1 {
			w.reloading = s.Body[0] == true
			if !w.reloading {
				return w.list(ctx)
			}
		}
	}
	return nil
}

func (w *watcher) fetchNew(ctx context.Context, name string) error {
	if _, known := w.told.get(name); known || !hasProcesses(name) {
		return nil
	}
	return w.fetch(ctx, name, pathOf(name))
}

// propertiesChanged takes (interface, changed, invalidated).
func (w *watcher) propertiesChanged(ctx context.Context, s *godbus.Signal) error {
	name, ok := unitOf(s.Path)
	if !ok || !hasProcesses(name) || len(s.Body) < 2 {
		return nil
	}
	changed, ok := s.Body[1].(map[string]godbus.Variant)
	if !ok {
		return nil
	}
	w.told.mu.RLock()
	state, known := w.told.states[name]
	w.told.mu.RUnlock()
	if !known {
		return w.fetch(ctx, name, s.Path)
	}
	merge(&state, changed)
	if w.told.set(name, state) {
		w.changed(name)
	}
	return nil
}

// merge takes the properties that are known of a unit or a service.
func merge(s *evidence.UnitState, properties map[string]godbus.Variant) {
	text := func(name string, to *string) {
		if v, ok := properties[name].Value().(string); ok {
			*to = v
		}
	}
	pid := func(name string, to *int32) {
		if v, ok := properties[name].Value().(uint32); ok {
			*to = int32(v)
		}
	}
	text("ActiveState", &s.State)
	text("SubState", &s.SubState)
	text("Type", &s.Type)
	text("KillMode", &s.KillMode)
	pid("MainPID", &s.MainPID)
	pid("ControlPID", &s.ControlPID)
	if v, ok := properties["SendSIGKILL"].Value().(bool); ok {
		s.NoFinalKill = !v
	}
	if v, ok := properties["InactiveExitTimestampMonotonic"]; ok {
		s.StartedAt = startedAt(v.Value())
	}
}

// unitOf is the name of the unit that an object's path stands for: each byte that is no
// letter or digit is written as _ and two hexadecimal digits.
func unitOf(path godbus.ObjectPath) (string, bool) {
	escaped, ok := strings.CutPrefix(string(path), unitPaths+"/")
	if !ok {
		return "", false
	}
	var name strings.Builder
	for i := 0; i < len(escaped); i++ {
		if escaped[i] != '_' {
			name.WriteByte(escaped[i])
			continue
		}
		if i+2 >= len(escaped) {
			return "", false
		}
		b, err := strconv.ParseUint(escaped[i+1:i+3], 16, 8)
		if err != nil {
			return "", false
		}
		name.WriteByte(byte(b))
		i += 2
	}
	return name.String(), true
}
