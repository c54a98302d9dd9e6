// SPDX-License-Identifier: Apache-2.0

// Package systemd asks the service manager about units, over D-Bus. Where systemd
// does not run there is nothing to ask, and that is fine.
package systemd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
	"github.com/coreos/go-systemd/v22/util"
	godbus "github.com/godbus/dbus/v5"

	"github.com/abot-trace/abot-trace/internal/boottime"
	"github.com/abot-trace/abot-trace/internal/evidence"
)

// cacheFor is how long an answer about a unit serves: a burst of orphans of one
// service asks once.
const cacheFor = 100 * time.Millisecond

// Owners returns the service manager, nil where systemd is not the init of this host
// or cannot be asked.
func Owners() evidence.Owners {
	if !util.IsRunningSystemd() || os.Getenv("ABOT_TRACE_NO_SYSTEMD") == "1" {
		return nil
	}
	return newManager(dial, dialBus)
}

func newManager(dial func(context.Context) (*dbus.Conn, error), dialBus func(context.Context) (*godbus.Conn, error)) *manager {
	return &manager{dial: dial, dialBus: dialBus, turn: make(chan struct{}, 1), cache: make(map[string]answer)}
}

// A manager asks one question at a time: whoever holds the turn owns what is below it. What
// it is told without being asked comes over a connection of Watch's own.
type manager struct {
	told    units
	dialBus func(context.Context) (*godbus.Conn, error)

	dial  func(context.Context) (*dbus.Conn, error) // the connection ends with the context
	turn  chan struct{}
	conn  *dbus.Conn
	end   context.CancelFunc // of conn
	cache map[string]answer
}

type answer struct {
	state evidence.UnitState
	at    time.Time
}

// Unit implements evidence.Owners. A process that is in no unit has the zero state.
func (m *manager) Unit(ctx context.Context, pid int32) (evidence.UnitState, error) {
	select {
	case m.turn <- struct{}{}:
		defer func() { <-m.turn }()
	case <-ctx.Done():
		return evidence.UnitState{}, fmt.Errorf("systemd: %w", ctx.Err())
	}
	state, err := m.unit(ctx, pid)
	var answered godbus.Error
	if err != nil && !errors.As(err, &answered) {
		m.drop() // it is the connection that failed
	}
	if err != nil {
		return evidence.UnitState{}, fmt.Errorf("systemd: unit of pid %d: %w", pid, err)
	}
	return state, nil
}

func (m *manager) unit(ctx context.Context, pid int32) (evidence.UnitState, error) {
	conn, err := m.connect(ctx)
	if err != nil {
		return evidence.UnitState{}, err
	}
	name, err := conn.GetUnitNameByPID(ctx, uint32(pid))
	if isNoUnit(err) {
		return evidence.UnitState{}, nil
	}
	if err != nil {
		return evidence.UnitState{}, err
	}
	if a, ok := m.cache[name]; ok && time.Since(a.at) < cacheFor {
		return a.state, nil
	}
	state, err := ask(ctx, conn, name)
	if err != nil {
		return evidence.UnitState{}, fmt.Errorf("%s: %w", name, err)
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

// ask reads the state of a unit. Whatever is missing from it is an error: without it
// the main process of a service would look like anybody's.
func ask(ctx context.Context, conn *dbus.Conn, name string) (evidence.UnitState, error) {
	unit, err := conn.GetUnitPropertiesContext(ctx, name)
	if err != nil {
		return evidence.UnitState{}, err
	}
	active, ok := unit["ActiveState"].(string)
	if !ok {
		return evidence.UnitState{}, errors.New("it has no ActiveState")
	}
	s := evidence.UnitState{State: active, StartedAt: startedAt(unit["InactiveExitTimestampMonotonic"])}
	s.SubState, _ = unit["SubState"].(string)
	if strings.HasSuffix(name, ".scope") { // it has no main process
		scope, err := conn.GetUnitTypePropertiesContext(ctx, name, "Scope")
		if err != nil {
			return evidence.UnitState{}, err
		}
		err = askKill(&s, scope)
		return s, err
	}
	if !strings.HasSuffix(name, ".service") {
		return s, nil
	}
	service, err := conn.GetUnitTypePropertiesContext(ctx, name, "Service")
	if err != nil {
		return evidence.UnitState{}, err
	}
	main, ok := service["MainPID"].(uint32)
	if !ok {
		return evidence.UnitState{}, errors.New("it has no MainPID")
	}
	control, _ := service["ControlPID"].(uint32)
	// A unit that is down has no main process, but may have left others behind.
	if active != "inactive" && active != "failed" {
		s.MainPID, s.ControlPID = int32(main), int32(control)
	}
	s.Type, _ = service["Type"].(string)
	err = askKill(&s, service)
	return s, err
}

// askKill takes how a service or scope is stopped.
func askKill(s *evidence.UnitState, properties map[string]any) error {
	var ok bool
	if s.KillMode, ok = properties["KillMode"].(string); !ok {
		return errors.New("it has no KillMode")
	}
	kills, ok := properties["SendSIGKILL"].(bool)
	s.NoFinalKill = ok && !kills
	return nil
}

// startedAt converts a time stamp of the manager's, microseconds of CLOCK_MONOTONIC, to
// nanoseconds of CLOCK_BOOTTIME; they differ by the time that the host was suspended.
func startedAt(stamp any) uint64 {
	us, _ := stamp.(uint64)
	if us == 0 {
		return 0
	}
	return us*1000 + boottime.Suspended()
}

// connect returns the connection, made within ctx where there is none. It outlives ctx,
// which is one question's: the library closes a connection with the context that it
// was made with.
func (m *manager) connect(ctx context.Context) (*dbus.Conn, error) {
	if m.conn != nil && m.conn.Connected() {
		return m.conn, nil
	}
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	inTime := context.AfterFunc(ctx, end)
	conn, err := m.dial(life)
	if !inTime() {
		if err == nil {
			conn.Close()
		}
		err = ctx.Err() // and not what our closing made of it
	}
	if err != nil {
		end()
		return nil, err
	}
	m.drop() // what is left of the one before
	m.conn, m.end = conn, end
	return conn, nil
}

func dial(ctx context.Context) (*dbus.Conn, error) {
	conn, err := dbus.NewSystemdConnectionContext(ctx)
	if err != nil {
		// The manager's private socket is root's; the bus serves everyone.
		return dbus.NewSystemConnectionContext(ctx)
	}
	return conn, nil
}

// dialBus connects to the system's bus, for signals: they must come in their order.
func dialBus(ctx context.Context) (*godbus.Conn, error) {
	return godbus.ConnectSystemBus(godbus.WithContext(ctx), godbus.WithSignalHandler(godbus.NewSequentialSignalHandler()))
}

// answeredElse is nil for an error that is an answer: of a unit that is gone, say.
func answeredElse(err error) error {
	var answered godbus.Error
	if errors.As(err, &answered) {
		return nil
	}
	return err
}

// pathOf is the path of a unit's object.
func pathOf(unit string) godbus.ObjectPath {
	return godbus.ObjectPath(unitPaths + "/" + dbus.PathBusEscape(unit))
}

func (m *manager) drop() {
	if m.conn != nil {
		m.conn.Close()
		m.end()
		m.conn = nil
	}
}
