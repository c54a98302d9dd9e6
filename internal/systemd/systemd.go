// SPDX-License-Identifier: Apache-2.0

// Package systemd asks the service manager about units, over D-Bus. Where systemd
// does not run there is nothing to ask, and that is fine.
package systemd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
	"github.com/coreos/go-systemd/v22/util"
	godbus "github.com/godbus/dbus/v5"

	"github.com/abot-trace/abot-trace/internal/trace"
)

// cacheFor is how long an answer about a unit serves: a burst of orphans of one
// service asks once.
const cacheFor = time.Second

// Owners returns the service manager, nil where systemd is not the init of this host
// or cannot be asked.
func Owners() trace.Owners {
	if !util.IsRunningSystemd() || os.Getenv("ABOT_TRACE_NO_SYSTEMD") == "1" {
		return nil
	}
	return &manager{cache: make(map[string]answer)}
}

type manager struct {
	mu    sync.Mutex
	conn  *dbus.Conn
	cache map[string]answer
}

type answer struct {
	state trace.UnitState
	at    time.Time
}

// Unit implements trace.Owners. A process that is in no unit has the zero state.
func (m *manager) Unit(ctx context.Context, pid int32) (trace.UnitState, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	conn, err := m.connect(ctx)
	if err != nil {
		return trace.UnitState{}, fmt.Errorf("systemd: %w", err)
	}
	name, err := conn.GetUnitNameByPID(ctx, uint32(pid))
	if err != nil {
		if isNoUnit(err) {
			return trace.UnitState{}, nil
		}
		m.drop()
		return trace.UnitState{}, fmt.Errorf("systemd: unit of pid %d: %w", pid, err)
	}
	if a, ok := m.cache[name]; ok && time.Since(a.at) < cacheFor {
		return a.state, nil
	}
	state, err := m.ask(ctx, name)
	if err != nil {
		m.drop()
		return trace.UnitState{}, fmt.Errorf("systemd: unit %s: %w", name, err)
	}
	if len(m.cache) > 4096 {
		clear(m.cache)
	}
	m.cache[name] = answer{state, time.Now()}
	return state, nil
}

// errNoUnit is what the manager answers for a process in no unit.
const errNoUnit = "org.freedesktop.systemd1.NoUnitForPID"

func isNoUnit(err error) bool {
	var named godbus.Error
	return errors.As(err, &named) && named.Name == errNoUnit
}

func (m *manager) ask(ctx context.Context, name string) (trace.UnitState, error) {
	unit, err := m.conn.GetUnitPropertiesContext(ctx, name)
	if err != nil {
		return trace.UnitState{}, err
	}
	var s trace.UnitState
	active, _ := unit["ActiveState"].(string)
	s.Starting = active == "activating" || active == "reloading"
	if active == "inactive" || active == "failed" {
		return s, nil
	}
	// Scopes and slices have no main process.
	service, err := m.conn.GetUnitTypePropertiesContext(ctx, name, "Service")
	if err != nil {
		return s, nil
	}
	if pid, ok := service["MainPID"].(uint32); ok {
		s.MainPID = int32(pid)
	}
	s.KillMode, _ = service["KillMode"].(string)
	return s, nil
}

func (m *manager) connect(ctx context.Context) (*dbus.Conn, error) {
	if m.conn != nil && m.conn.Connected() {
		return m.conn, nil
	}
	conn, err := dbus.NewSystemdConnectionContext(ctx)
	if err != nil {
		// The manager's private socket is root's; the bus serves everyone.
		if conn, err = dbus.NewSystemConnectionContext(ctx); err != nil {
			return nil, err
		}
	}
	m.conn = conn
	return conn, nil
}

func (m *manager) drop() {
	if m.conn != nil {
		m.conn.Close()
		m.conn = nil
	}
}
