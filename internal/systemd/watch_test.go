// SPDX-License-Identifier: Apache-2.0

package systemd

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"

	"github.com/abot-trace/abot-trace/internal/evidence"
)

// watching has a manager follow the bus, and returns the server's side of its connection and
// the names of the units that changed.
func watching(t *testing.T, b *bus) (*manager, net.Conn, <-chan string) {
	t.Helper()
	b.serve()
	m := b.manager()
	ctx, cancel := context.WithCancel(t.Context())
	changed, ended := make(chan string, 16), make(chan struct{})
	go func() {
		defer close(ended)
		m.Watch(ctx, func(unit string) { changed <- unit })
	}()
	t.Cleanup(func() { cancel(); <-ended })
	select {
	case c := <-b.conns:
		return m, c, changed
	case <-time.After(patience):
		t.Fatal("it does not connect")
	}
	return nil, nil, nil
}

func wait(t *testing.T, changed <-chan string, want string) {
	t.Helper()
	select {
	case got := <-changed:
		if got != want {
			t.Fatalf("%q has changed, want %q", got, want)
		}
	case <-time.After(patience):
		t.Fatalf("%q has not changed", want)
	}
}

func objectPath(unit string) godbus.ObjectPath {
	return godbus.ObjectPath(unitPaths + "/" + dbus.PathBusEscape(unit))
}

// TestWatch wants the state of units told by the manager's signals, without a question.
func TestWatch(t *testing.T) {
	b := newBus(t)
	b.list = []listed{
		{Name: "web.service", Active: "active", Path: objectPath("web.service"), JobPath: "/"},
		{Name: "old.service", Active: "inactive", Path: objectPath("old.service"), JobPath: "/"},
		{Name: "dev-sda.device", Active: "active", Path: objectPath("dev-sda.device"), JobPath: "/"},
	}
	b.service["Type"] = godbus.MakeVariant("forking")
	m, c, changed := watching(t, b)
	wait(t, changed, "web.service")
	check := func(unit string, want evidence.UnitState, known bool) {
		t.Helper()
		if got, ok := m.Told(unit); ok != known || got != want {
			t.Errorf("%s: %+v, known %v, want %+v, %v", unit, got, ok, want, known)
		}
	}
	running := evidence.UnitState{State: "active", SubState: "running", Type: "forking", MainPID: 7, KillMode: "mixed"}
	check("web.service", running, true)
	check("old.service", evidence.UnitState{}, false)

	emit(t, c, objectPath("web.service"), propertiesFace, "PropertiesChanged", unitFace,
		properties("ActiveState", "deactivating", "SubState", "stop-sigterm"), []string{})
	wait(t, changed, "web.service")
	emit(t, c, objectPath("web.service"), propertiesFace, "PropertiesChanged", serviceFace, properties("MainPID", uint32(0), "ControlPID", uint32(9)), []string{})
	wait(t, changed, "web.service")
	stopping := running
	stopping.State, stopping.SubState, stopping.MainPID, stopping.ControlPID = "deactivating", "stop-sigterm", 0, 9
	check("web.service", stopping, true)

	// What says nothing new is none.
	emit(t, c, objectPath("web.service"), propertiesFace, "PropertiesChanged", unitFace, properties("ActiveState", "deactivating"), []string{})
	// A unit that was never heard of is asked for once.
	emit(t, c, managerPath, managerFace, "JobRemoved", uint32(1), godbus.ObjectPath("/org/freedesktop/systemd1/job/1"), "job@1.service", "done")
	wait(t, changed, "job@1.service")
	check("job@1.service", running, true)
	emit(t, c, managerPath, managerFace, "UnitRemoved", "job@1.service", objectPath("job@1.service"))
	wait(t, changed, "job@1.service")
	gone := running
	gone.State, gone.SubState, gone.MainPID = "inactive", "dead", 0
	check("job@1.service", gone, true)
}

// TestWatchReload has the manager read its units anew: it then says of each that it is
// removed, and none is but the one that is gone afterwards.
func TestWatchReload(t *testing.T) {
	b := newBus(t)
	b.list = []listed{
		{Name: "web.service", Active: "active", Path: objectPath("web.service"), JobPath: "/"},
		{Name: "x.service", Active: "active", Path: objectPath("x.service"), JobPath: "/"},
	}
	m, c, changed := watching(t, b)
	wait(t, changed, "web.service")
	wait(t, changed, "x.service")
	emit(t, c, objectPath("web.service"), propertiesFace, "PropertiesChanged", unitFace, properties("ActiveState", "deactivating"), []string{})
	wait(t, changed, "web.service")

	b.change(properties("ActiveState", "deactivating", "SubState", "stop-sigterm"), b.list[:1])
	emit(t, c, managerPath, managerFace, "Reloading", true)
	emit(t, c, managerPath, managerFace, "UnitRemoved", "web.service", objectPath("web.service"))
	emit(t, c, managerPath, managerFace, "UnitRemoved", "x.service", objectPath("x.service"))
	emit(t, c, managerPath, managerFace, "Reloading", false)
	wait(t, changed, "web.service") // by its other substate: it was never down
	if got, _ := m.Told("web.service"); got.State != "deactivating" {
		t.Errorf("a unit that is being stopped is told to be %s", got.State)
	}
	wait(t, changed, "x.service")
	if got, _ := m.Told("x.service"); got.State != "inactive" {
		t.Errorf("a unit that is gone is told to be %s", got.State)
	}
}

// TestWatchAgain wants nothing told of what an ended connection said, and all of it again.
func TestWatchAgain(t *testing.T) {
	b := newBus(t)
	b.list = []listed{{Name: "web.service", Active: "active", Path: objectPath("web.service"), JobPath: "/"}}
	m, c, changed := watching(t, b)
	wait(t, changed, "web.service")
	c.Close()
	wait(t, changed, "web.service")
	if _, ok := m.Told("web.service"); !ok {
		t.Error("not told after a new connection")
	}
}

func TestUnitOf(t *testing.T) {
	for _, name := range []string{"web.service", "a-b@1.service", "run-r0_f.scope", `x\\x2dy.service`, "1.service"} {
		if got, ok := unitOf(objectPath(name)); !ok || got != name {
			t.Errorf("%q: %q, %v", name, got, ok)
		}
	}
	for _, path := range []godbus.ObjectPath{"/", "/org/freedesktop/systemd1/job/1", unitPaths + "/a_2", unitPaths + "/a_zz"} {
		if got, ok := unitOf(path); ok {
			t.Errorf("%q: %q", path, got)
		}
	}
}
