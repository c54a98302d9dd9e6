// SPDX-License-Identifier: Apache-2.0

// Package daemon joins the parts into the service: probe, tracer, socket.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"

	"github.com/abot-trace/abot-trace/internal/api"
	"github.com/abot-trace/abot-trace/internal/probe"
	"github.com/abot-trace/abot-trace/internal/trace"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// Settings of the daemon.
type Settings struct {
	Socket string
	Group  string // who may ask beside root; empty is nobody
	Log    *slog.Logger
}

// Run traces and serves until ctx ends. It returns nil then. While it runs, two of
// its kind on one socket are impossible.
func Run(ctx context.Context, s Settings) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	listener, err := listen(s.Socket)
	if err != nil {
		return err
	}
	defer listener.Close()

	status("attaching")
	p, err := probe.Open(probe.Options{})
	if err != nil {
		return err
	}
	defer p.Close()
	if err := p.ArgsError(); err != nil {
		s.Log.Warn("file names and arguments are not traced", "err", err)
	}
	d := &daemon{Settings: s}
	d.tracer = trace.New(p, trace.Options{Log: s.Log, OnEvent: d.log})
	server, err := api.NewServer(d.tracer, s.Group, s.Log)
	if err != nil {
		return err
	}
	done := make(chan error, 2)
	go func() { done <- d.tracer.Run(ctx) }()
	go func() { done <- server.Serve(ctx, listener) }()
	go d.report(ctx)

	for range 2 {
		if err := <-done; err != nil {
			cancel(err)
		} else if ctx.Err() == nil {
			cancel(errors.New("a part of the daemon ended by itself"))
		}
	}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	s.Log.Info("stopped")
	return nil
}

func listen(socket string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(socket), 0o755); err != nil {
		return nil, fmt.Errorf("socket directory: %w", err)
	}
	return api.Listen(socket)
}

type daemon struct {
	Settings
	tracer *trace.Tracer
}

// log tells a notable event. It runs on the tracer's loop.
func (d *daemon) log(e *wire.Event) {
	level := slog.LevelInfo
	if e.Type == wire.TypeLost || e.Type == wire.TypeOOM {
		level = slog.LevelWarn
	}
	attrs := []any{"event", e.Type, "id", e.ID}
	if p := e.Process; p != nil {
		attrs = append(attrs, "pid", p.PID, "start", p.StartNS, "comm", p.Comm)
		if o := p.Orphan; o != nil {
			attrs = append(attrs, "verdict", o.Verdict, "direct", o.Direct)
			if o.Leaker != nil {
				attrs = append(attrs, "leaker_pid", o.Leaker.PID, "leaker_comm", o.Leaker.Comm)
			}
		}
	}
	switch {
	case e.Lost != nil:
		attrs = append(attrs, "records", e.Lost.Records)
	case e.Resync != nil:
		attrs = append(attrs, "reason", e.Resync.Reason, "found", e.Resync.Found, "vanished", e.Resync.Vanished)
	}
	d.Log.Log(context.Background(), level, "trace", attrs...)
}

// report tells the service manager how things stand: ready after the first snapshot,
// then live figures, and the watchdog as long as the canary is seen.
func (d *daemon) report(ctx context.Context) {
	select {
	case <-d.tracer.Ready():
	case <-ctx.Done():
		return
	}
	d.Log.Info("ready", "socket", d.Socket, "processes", d.tracer.Stats().Living)
	_, _ = sd.SdNotify(false, sd.SdNotifyReady)
	interval, err := sd.SdWatchdogEnabled(false)
	if err != nil || interval == 0 {
		interval = 20 * time.Second
	}
	tick := time.NewTicker(interval / 2)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			_, _ = sd.SdNotify(false, sd.SdNotifyStopping)
			return
		case <-tick.C:
		}
		s := d.tracer.Stats()
		status(fmt.Sprintf("%d processes, %d orphans, %d records lost", s.Living, s.Orphans, s.Refused))
		if time.Since(s.CanarySeen) < canaryPatience {
			_, _ = sd.SdNotify(false, sd.SdNotifyWatchdog)
		} else {
			d.Log.Error("the stream is silent: the tracer does not see its own canary", "last_seen", s.CanarySeen)
		}
	}
}

// canaryPatience is how long the canary may stay unseen: three of its intervals.
const canaryPatience = 30 * time.Second

func status(text string) { _, _ = sd.SdNotify(false, "STATUS="+text) }
