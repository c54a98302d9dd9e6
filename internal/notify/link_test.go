// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/wire"
)

var hook = Settings{Exec: []Exec{{Command: []string{"/bin/true"}}}}

// listenHelper is a socket that a link can dial, without a helper behind it.
func listenHelper(t *testing.T) (string, *net.UnixListener) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return path, l
}

func closeLink(l *Link, within time.Duration) {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	l.Close(ctx)
}

func TestLinkSpeaksTheProtocol(t *testing.T) {
	path, listener := listenHelper(t)
	link := NewLink(DialSocket(path), hook, slog.New(slog.DiscardHandler))
	link.Send(&Notice{Text: "one", Event: Event{ID: "1", Type: wire.TypeLost}})
	conn, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	lines := bufio.NewScanner(conn)
	var first, second Line
	for _, line := range []*Line{&first, &second} {
		if !lines.Scan() {
			t.Fatal(lines.Err())
		}
		if err := json.Unmarshal(lines.Bytes(), line); err != nil {
			t.Fatal(err)
		}
	}
	if first.Settings == nil || len(first.Settings.Exec) != 1 || second.Notice == nil || second.Notice.Event.ID != "1" {
		t.Errorf("got %+v, then %+v", first, second)
	}
	if err := json.NewEncoder(conn).Encode(Report{Handled: 1, Targets: map[string]Target{"exec[0]": {Delivered: 1}}}); err != nil {
		t.Fatal(err)
	}
	// The helper ends the connection once its input has ended.
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		closeLink(link, time.Minute)
	}()
	if lines.Scan() {
		t.Errorf("more came: %s", lines.Text())
	}
	conn.Close()
	<-closed
	report, dropped := link.Stats()
	if report.Targets["exec[0]"].Delivered != 1 || dropped != 0 {
		t.Errorf("report %+v, dropped %d", report, dropped)
	}
}

// A helper that reads nothing holds up neither Send nor Close, and what it did not
// handle is counted.
func TestLinkToAStuckHelper(t *testing.T) {
	path, _ := listenHelper(t) // nobody accepts
	link := NewLink(DialSocket(path), hook, slog.New(slog.DiscardHandler))
	big := &Notice{Text: string(make([]byte, 10<<10))}
	sent := uint64(0)
	for sent < linkQueue+2000 {
		link.Send(big)
		sent++
	}
	closeLink(link, 10*time.Millisecond)
	if _, dropped := link.Stats(); dropped != sent {
		t.Errorf("%d of %d are accounted for", dropped, sent)
	}
}

func TestLinkWithoutHelper(t *testing.T) {
	refused := func(context.Context) (Conn, error) { return nil, errors.New("refused") }
	link := NewLink(refused, hook, slog.New(slog.DiscardHandler))
	link.Send(&Notice{})
	closeLink(link, time.Minute)
	if _, dropped := link.Stats(); dropped != 1 {
		t.Errorf("dropped %d, want 1", dropped)
	}
}

func TestLinkConnectsOnlyWhenNeeded(t *testing.T) {
	dialled := make(chan struct{}, 10)
	dial := func(context.Context) (Conn, error) {
		dialled <- struct{}{}
		return nil, errors.New("refused")
	}
	link := NewLink(dial, Settings{}, slog.New(slog.DiscardHandler))
	select {
	case <-dialled:
		t.Error("a helper was started with nothing to do")
	default:
	}
	link.Configure(hook)
	<-dialled
	closeLink(link, time.Minute)
}

func TestTooLongANoticeIsDropped(t *testing.T) {
	link := NewLink(nil, Settings{}, slog.New(slog.DiscardHandler))
	if link.Send(&Notice{Text: string(make([]byte, MaxLine))}) {
		t.Error("a line longer than the protocol allows was queued")
	}
	closeLink(link, time.Minute)
}
