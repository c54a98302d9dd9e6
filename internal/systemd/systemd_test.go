// SPDX-License-Identifier: Apache-2.0

package systemd

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"

	"github.com/abot-trace/abot-trace/internal/evidence"
)

// patience bounds every wait for a fact. It is no measure of speed.
const patience = 30 * time.Second

// A bus is a service manager on a unix socket of the test's: it answers as systemd's
// private socket does, or not at all.
type bus struct {
	t        *testing.T
	path     string
	mu       sync.Mutex                // of unit and list, where they change while it serves
	unit     map[string]godbus.Variant // nil: no unit has any process
	service  map[string]godbus.Variant
	name     string        // of the unit's object
	mute     chan struct{} // until it is closed nothing is answered; nil: at once
	list     []listed      // what ListUnits tells
	accepted atomic.Int32
	asked    atomic.Int32 // for the properties of a service
	conns    chan net.Conn
}

// A listed unit is one of ListUnits' answer.
type listed struct {
	Name, Description, Load, Active, Sub, Following string
	Path                                            godbus.ObjectPath
	JobID                                           uint32
	JobType                                         string
	JobPath                                         godbus.ObjectPath
}

// emit sends a signal of the manager's.
func emit(t *testing.T, c net.Conn, path godbus.ObjectPath, face, member string, body ...any) {
	t.Helper()
	m := &godbus.Message{Type: godbus.TypeSignal, Headers: map[godbus.HeaderField]godbus.Variant{
		godbus.FieldPath:      godbus.MakeVariant(path),
		godbus.FieldInterface: godbus.MakeVariant(face),
		godbus.FieldMember:    godbus.MakeVariant(member),
		godbus.FieldSender:    godbus.MakeVariant(":1.0"),
		godbus.FieldSignature: godbus.MakeVariant(godbus.SignatureOf(body...)),
	}, Body: body}
	if err := send(c, 1<<20, m); err != nil {
		t.Error(err)
	}
}

func newBus(t *testing.T) *bus {
	t.Helper()
	return &bus{t: t, path: filepath.Join(t.TempDir(), "private"), name: "web.service", conns: make(chan net.Conn, 16),
		unit: properties("ActiveState", "active", "SubState", "running"), service: properties("MainPID", uint32(7), "KillMode", "mixed")}
}

func properties(pairs ...any) map[string]godbus.Variant {
	m := make(map[string]godbus.Variant)
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i].(string)] = godbus.MakeVariant(pairs[i+1])
	}
	return m
}

// serve answers until the test ends.
func (b *bus) serve() {
	b.t.Helper()
	l, err := net.Listen("unix", b.path)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			b.accepted.Add(1)
			b.conns <- c
			go b.talk(c)
		}
	}()
}

// talk has the client pass the authentication, and answers its calls.
func (b *bus) talk(c net.Conn) {
	defer c.Close()
	if !authenticate(c) {
		return
	}
	for serial := uint32(1); ; serial++ {
		call, err := godbus.DecodeMessage(c)
		if err != nil {
			return
		}
		if b.mute != nil {
			<-b.mute
		}
		if err := send(c, serial, b.answer(call)); err != nil {
			return
		}
	}
}

// send writes a message. The library keeps the serial number to itself; it stands behind
// the fixed part of the header and the length of the body.
func send(c net.Conn, serial uint32, m *godbus.Message) error {
	var text bytes.Buffer
	if err := m.EncodeTo(&text, binary.LittleEndian); err != nil {
		return err
	}
	binary.LittleEndian.PutUint32(text.Bytes()[8:], serial)
	_, err := c.Write(text.Bytes())
	return err
}

// authenticate lets everyone in, without descriptors. It reads no further than it must.
func authenticate(c net.Conn) bool {
	var line []byte
	for b := make([]byte, 1); ; {
		if _, err := c.Read(b); err != nil {
			return false
		}
		if line = append(line, b[0]); b[0] != '\n' {
			continue
		}
		answer := "ERROR\r\n"
		switch text := strings.Trim(string(line), "\x00\r\n"); {
		case text == "BEGIN":
			return true
		case text == "AUTH":
			answer = "REJECTED EXTERNAL\r\n"
		case strings.HasPrefix(text, "AUTH EXTERNAL"):
			answer = "OK 0123456789abcdef0123456789abcdef\r\n"
		}
		if _, err := c.Write([]byte(answer)); err != nil {
			return false
		}
		line = line[:0]
	}
}

// change changes what is answered from now on.
func (b *bus) change(unit map[string]godbus.Variant, list []listed) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.unit, b.list = unit, list
}

func (b *bus) answer(call *godbus.Message) *godbus.Message {
	b.mu.Lock()
	defer b.mu.Unlock()
	m := &godbus.Message{Type: godbus.TypeMethodReply, Headers: map[godbus.HeaderField]godbus.Variant{
		godbus.FieldReplySerial: godbus.MakeVariant(call.Serial())}}
	switch member := call.Headers[godbus.FieldMember].Value().(string); {
	case member == "GetUnitByPID" && b.unit == nil:
		m.Type = godbus.TypeError
		m.Headers[godbus.FieldErrorName] = godbus.MakeVariant(errNoUnit)
	case member == "GetUnitByPID":
		m.Body = []any{godbus.ObjectPath("/org/freedesktop/systemd1/unit/" + dbus.PathBusEscape(b.name))}
	case member == "GetAll" && (call.Body[0] == serviceFace || call.Body[0] == scopeFace):
		b.asked.Add(1)
		m.Body = []any{b.service}
	case member == "GetAll":
		m.Body = []any{b.unit}
	case member == "ListUnits":
		m.Body = []any{b.list}
	}
	if len(m.Body) > 0 {
		m.Headers[godbus.FieldSignature] = godbus.MakeVariant(godbus.SignatureOf(m.Body...))
	}
	return m
}

// manager asks the bus as Owners asks systemd.
func (b *bus) manager() *manager {
	m := newManager(func(ctx context.Context) (*dbus.Conn, error) {
		return dbus.NewConnection(func() (*godbus.Conn, error) {
			c, err := godbus.Dial("unix:path="+b.path, godbus.WithContext(ctx))
			if err != nil {
				return nil, err
			}
			if err := c.Auth([]godbus.Auth{godbus.AuthExternal("0")}); err != nil {
				c.Close()
				return nil, err
			}
			return c, nil
		})
	}, func(ctx context.Context) (*godbus.Conn, error) {
		c, err := godbus.Dial("unix:path="+b.path, godbus.WithContext(ctx), godbus.WithSignalHandler(godbus.NewSequentialSignalHandler()))
		if err != nil {
			return nil, err
		}
		if err := c.Auth([]godbus.Auth{godbus.AuthExternal("0")}); err != nil {
			c.Close()
			return nil, err
		}
		return c, nil
	})
	b.t.Cleanup(m.drop)
	return m
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

func TestUnit(t *testing.T) {
	active := properties("ActiveState", "active", "SubState", "running")
	service := properties("MainPID", uint32(7), "KillMode", "mixed")
	running := evidence.UnitState{State: "active", SubState: "running", MainPID: 7, KillMode: "mixed"}
	for _, c := range []struct {
		name          string
		unit, service map[string]godbus.Variant
		unitName      string
		want          evidence.UnitState
		err           string // what the error says; empty where there is none
	}{
		{name: "service", unit: active, service: service, want: running},
		{name: "no unit"},
		{name: "scope", unit: active, unitName: "session-1.scope", service: properties("KillMode", "none"), want: evidence.UnitState{State: "active", SubState: "running", KillMode: "none"}},
		{name: "scope without KillMode", unit: active, unitName: "session-1.scope", service: properties(), err: "it has no KillMode"},
		{name: "SendSIGKILL=no", unit: active, service: properties("MainPID", uint32(7), "KillMode", "mixed", "SendSIGKILL", false),
			want: evidence.UnitState{State: "active", SubState: "running", MainPID: 7, KillMode: "mixed", NoFinalKill: true}},
		{name: "SendSIGKILL=yes", unit: active, service: properties("MainPID", uint32(7), "KillMode", "mixed", "SendSIGKILL", true), want: running},
		{name: "starting", unit: properties("ActiveState", "activating", "SubState", "start"), service: service,
			want: evidence.UnitState{State: "activating", SubState: "start", MainPID: 7, KillMode: "mixed"}},
		{name: "reloading", unit: properties("ActiveState", "reloading", "SubState", "reload"), service: service,
			want: evidence.UnitState{State: "reloading", SubState: "reload", MainPID: 7, KillMode: "mixed"}},
		{name: "waiting for its restart", unit: properties("ActiveState", "activating", "SubState", "auto-restart"), service: service,
			want: evidence.UnitState{State: "activating", SubState: "auto-restart", MainPID: 7, KillMode: "mixed"}},
		{name: "failed", unit: properties("ActiveState", "failed", "SubState", "failed"), service: service,
			want: evidence.UnitState{State: "failed", SubState: "failed", KillMode: "mixed"}},
		{name: "a control process", unit: active, service: properties("MainPID", uint32(7), "ControlPID", uint32(8), "KillMode", "mixed", "Type", "forking"),
			want: evidence.UnitState{State: "active", SubState: "running", Type: "forking", MainPID: 7, ControlPID: 8, KillMode: "mixed"}},
		{name: "no main process", unit: active, service: properties("MainPID", uint32(0), "KillMode", "none"),
			want: evidence.UnitState{State: "active", SubState: "running", KillMode: "none"}},
		{name: "no ActiveState", unit: properties("SubState", "running"), service: service, err: "it has no ActiveState"},
		{name: "no MainPID", unit: active, service: properties("KillMode", "mixed"), err: "it has no MainPID"},
		{name: "no KillMode", unit: active, service: properties("MainPID", uint32(7)), err: "it has no KillMode"},
		{name: "MainPID of another type", unit: active, service: properties("MainPID", "7", "KillMode", "mixed"), err: "it has no MainPID"},
		{name: "ActiveState of another type", unit: properties("ActiveState", int32(1)), service: service, err: "it has no ActiveState"},
		{name: "hostile name", unit: active, service: service, unitName: "a\n\x1b[31m/../%s.service",
			want: running},
		{name: "hostile value", unit: active, service: properties("MainPID", uint32(7), "KillMode", "process\nnone"),
			want: evidence.UnitState{State: "active", SubState: "running", MainPID: 7, KillMode: "process\nnone"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBus(t)
			b.unit, b.service = c.unit, c.service
			if c.unitName != "" {
				b.name = c.unitName
			}
			b.serve()
			got, err := b.manager().Unit(within(t), 7)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("got %+v, %v, want an error with %q", got, err, c.err)
				}
				return
			}
			if err != nil || got != c.want {
				t.Errorf("got %+v, %v, want %+v", got, err, c.want)
			}
		})
	}
}

// TestAbsent wants an error where nobody listens, and an answer as soon as somebody does.
func TestAbsent(t *testing.T) {
	b := newBus(t)
	m := b.manager()
	if got, err := m.Unit(within(t), 7); err == nil {
		t.Fatalf("got %+v from nobody", got)
	}
	b.serve()
	if got, err := m.Unit(within(t), 7); err != nil || got.MainPID != 7 {
		t.Errorf("got %+v, %v", got, err)
	}
}

// TestSlow wants a question to end with its context where the manager does not answer,
// also that of whoever waits for his turn behind it.
func TestSlow(t *testing.T) {
	b := newBus(t)
	b.mute = make(chan struct{})
	b.serve()
	t.Cleanup(func() { close(b.mute) })
	m := b.manager()
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	errs := make(chan error, 2)
	for range 2 {
		go func() {
			_, err := m.Unit(ctx, 7)
			errs <- err
		}()
	}
	for range 2 {
		select {
		case err := <-errs:
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("got %v, want %v", err, context.DeadlineExceeded)
			}
		case <-time.After(patience):
			t.Fatal("a question does not end with its context")
		}
	}
}

// TestReconnect wants a lost connection made anew, and one kept that is good.
func TestReconnect(t *testing.T) {
	b := newBus(t)
	b.serve()
	m := b.manager()
	ask := func() {
		t.Helper()
		// A connection is found to be lost by whoever asks over it: that one fails.
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for ctx := within(t); ; <-tick.C {
			got, err := m.Unit(ctx, 7)
			if err == nil && got.MainPID == 7 {
				return
			}
			if ctx.Err() != nil {
				t.Fatalf("got %+v, %v", got, err)
			}
		}
	}
	ask()
	before := b.accepted.Load()
	ask()
	if got := b.accepted.Load(); got != before {
		t.Errorf("%d connections, want %d kept", got, before)
	}
	for range before {
		(<-b.conns).Close()
	}
	ask()
	if got := b.accepted.Load(); got == before {
		t.Error("no new connection")
	}
}

// TestBurst wants many questions about one unit to ask for its state about once.
func TestBurst(t *testing.T) {
	b := newBus(t)
	b.serve()
	m := b.manager()
	for pid := range int32(5) {
		if _, err := m.Unit(within(t), pid+1); err != nil {
			t.Fatal(err)
		}
		a := m.cache[b.name]
		a.at = time.Now().Add(time.Hour) // however slow this machine is
		m.cache[b.name] = a
	}
	if got := b.asked.Load(); got != 1 {
		t.Errorf("asked %d times, want 1", got)
	}
}
