// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/coreos/go-systemd/v22/activation"
	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/config"
	"github.com/abot-trace/abot-trace/internal/linequeue"
	"github.com/abot-trace/abot-trace/internal/notify"
	"github.com/abot-trace/abot-trace/internal/notify/deliver"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// notifyHelperCommand is the process that delivers webhooks and hooks. The daemon
// starts it, or systemd does.
func notifyHelperCommand() *cli.Command {
	return &cli.Command{
		Name:   "notify-helper",
		Usage:  "deliver notices, without any capability; started by the daemon or by systemd",
		Hidden: true,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "socket", Usage: "take connections on the unix `SOCKET` and not on standard input"},
		},
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			if err := deliver.Confine(); err != nil {
				return err
			}
			ctx, stop := interruptible(c)
			defer stop()
			lines := linequeue.New(os.Stderr)
			defer lines.Close(flushTimeout)
			log := slog.New(slog.NewTextHandler(lines, nil))
			listener, err := helperListener(c.String("socket"))
			if err != nil {
				return err
			}
			if listener == nil {
				return deliver.Serve(ctx, os.Stdin, c.App.Writer, log)
			}
			return serveHelper(ctx, listener, log)
		},
	}
}

// helperListener returns the socket that systemd or --socket gives; nil for neither.
// Who may connect says what is run: that is the socket's owner and group.
func helperListener(path string) (*net.UnixListener, error) {
	passed, err := activation.Listeners()
	if err != nil {
		return nil, err
	}
	if len(passed) > 0 && passed[0] != nil {
		if l, ok := passed[0].(*net.UnixListener); ok {
			return l, nil
		}
		return nil, errors.New("the socket from systemd is not a unix stream socket")
	}
	if path == "" {
		return nil, nil
	}
	addr := &net.UnixAddr{Name: path, Net: "unix"}
	// One that nobody listens on was left by a helper that was killed.
	if conn, err := net.DialUnix("unix", nil, addr); err == nil {
		conn.Close()
		return nil, fmt.Errorf("%s: another helper listens", path)
	} else if errors.Is(err, unix.ECONNREFUSED) {
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	old := unix.Umask(0o117)
	defer unix.Umask(old)
	return net.ListenUnix("unix", addr)
}

// serveHelper serves one daemon after the other.
func serveHelper(ctx context.Context, l *net.UnixListener, log *slog.Logger) error {
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	for {
		conn, err := l.AcceptUnix()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		stop := context.AfterFunc(ctx, func() { _ = conn.CloseRead() })
		if err := deliver.Serve(ctx, conn, conn, log); err != nil {
			log.Warn("connection", "error", err)
		}
		stop()
		conn.Close()
	}
}

func notifyTestCommand() *cli.Command {
	return &cli.Command{
		Name:  "notify-test",
		Usage: "send one notice of each kind to every target of the configuration",
		Description: `Writes one record of each kind to journald, and has each webhook and command of the
configuration told, by a helper of its own: the daemon need not run. Each notice says
that it is a test. Exits 1 where one did not arrive.

Examples:
   sudo abot-trace notify-test
   abot-trace notify-test --config ./config.yaml`,
		Flags: []cli.Flag{
			configFlag(), socketFlag(),
			&cli.StringFlag{Name: "journal-socket", Value: notify.JournalSocket, Hidden: true},
			&cli.DurationFlag{Name: "wait", Value: time.Minute, Usage: "how long to wait for `DURATION` until all have arrived"},
		},
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			return notifyTest(c)
		},
	}
}

func notifyTest(c *cli.Context) error {
	cfg, err := loadConfig(c, config.Options{})
	if err != nil {
		return err
	}
	settings, err := notify.FromConfig(cfg, c.String("socket"))
	if err != nil {
		return usageError("%w", err)
	}
	// One of each kind, whatever is told otherwise. The metrics' address is the daemon's.
	settings.Journald, settings.Metrics = notify.SeverityDebug, nil
	for i := range settings.Webhooks {
		settings.Webhooks[i].MinSeverity, settings.Webhooks[i].Events = notify.SeverityDebug, nil
		settings.Webhooks[i].OwnSecret = os.Geteuid() != 0 // who tries it for himself
	}
	for i := range settings.Exec {
		settings.Exec[i].MinSeverity, settings.Exec[i].Events = notify.SeverityDebug, nil
	}
	ctx, stop := interruptible(c)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, c.Duration("wait"))
	defer cancel()

	log := slog.New(slog.NewTextHandler(c.App.ErrWriter, nil))
	journal := notify.NewJournal(c.String("journal-socket"))
	helpers := testHelpers(settings, log)
	dispatcher := notify.NewDispatcher(journal, helpers, settings)
	events := testEvents(time.Now())
	for i := range events {
		dispatcher.Notify(&events[i])
	}
	closeErr := notify.Flush(ctx, helpers, journal)
	return told(c.App.Writer, settings, journal, helpers, uint64(len(events)), closeErr)
}

// testHelpers deliver as the daemon's would when root asks. Anyone else runs his commands
// himself.
func testHelpers(settings notify.Settings, log *slog.Logger) *notify.Helpers {
	const helper = "notify-helper"
	if os.Geteuid() == 0 {
		return notify.SpawnedHelpers(settings, log, helper)
	}
	return notify.OneHelper(notify.Spawn(nil, helper), settings, log)
}

// told prints what became of the notices, and returns an error unless all arrived.
func told(w io.Writer, s notify.Settings, journal *notify.Journal, helpers *notify.Helpers, sent uint64, closeErr error) error {
	missing := sent - min(sent, journal.Sent())
	fmt.Fprintf(w, "journald: %d of %d delivered\n", journal.Sent(), sent)
	report, _ := helpers.Stats()
	line := func(name string) {
		t := report.Targets[name]
		missing += sent - min(sent, t.Delivered)
		fmt.Fprintf(w, "%s: %d of %d delivered", name, t.Delivered, sent)
		if t.Error != "" {
			fmt.Fprintf(w, "; %s", t.Error)
		}
		fmt.Fprintln(w)
	}
	for i := range s.Webhooks {
		line(fmt.Sprintf("webhook[%d]", i))
	}
	for i := range s.Exec {
		line(fmt.Sprintf("exec[%d]", i))
	}
	for _, refused := range helpers.Refused() {
		fmt.Fprintln(w, refused)
	}
	if missing > 0 {
		return errors.Join(fmt.Errorf("%d notices did not arrive", missing), closeErr)
	}
	return closeErr
}

// testEvents returns one event of each kind, about this process and plainly a test.
func testEvents(now time.Time) []wire.Event {
	code := 0
	pid := int32(os.Getpid())
	process := wire.Process{PID: pid, Comm: "abot-trace-test", Cmdline: []string{"abot-trace", "notify-test"}, State: wire.StateRunning,
		Lineage: wire.LineageObserved}
	out := make([]wire.Event, 0, len(wire.Types))
	for i, kind := range wire.Types {
		p := process
		e := wire.Event{Schema: wire.Schema, ID: fmt.Sprintf("test-%d-%d-%d", now.UnixNano(), pid, i), Time: now, Type: kind, Process: &p}
		switch kind {
		case wire.TypeExit:
			p.Exit = &wire.Exit{Code: &code}
		case wire.TypeCaught:
			e.Caught = &wire.Signal{Signal: "SIGTERM", Effect: "caught", Sender: &wire.Sender{PID: pid, Comm: "test"}}
		case wire.TypeVerdict:
			p.Orphan = &wire.Orphan{Since: &now, Direct: true, Verdict: wire.VerdictUnknown, Evidence: []string{"this is a test of the notices"}}
			e.Verdict = &wire.VerdictChange{Previous: wire.VerdictUnknown, Reason: "this is a test of the notices"}
		case wire.TypeLeak:
			e.Process = nil
			e.Leak = &wire.Leak{ID: "L000000000000", Change: wire.LeakOpened, State: wire.LeakStateOpen, Fingerprint: "F000000000000",
				Name: "abot-trace notify-test", Verdict: wire.VerdictUnknown, Evidence: []string{"this is a test of the notices"},
				Leaker: wire.LeakLeaker{PID: pid, Comm: "test", Exit: &wire.Exit{Code: &code}}, OpenedAt: now,
				Processes: wire.LeakCount{Now: 1, Peak: 1, Total: 1}}
		case wire.TypeTrust:
			e.Process = nil
			e.Trust = &wire.Trust{Action: wire.TrustAck, Kind: wire.TrustAck, Fingerprint: "F000000000000", Name: "abot-trace notify-test",
				Reason: "this is a test of the notices", Since: now, Until: &now}
		case wire.TypeOrphan:
			p.Orphan = &wire.Orphan{Since: &now, Direct: true, Verdict: wire.VerdictUnknown, Evidence: []string{"this is a test of the notices"},
				Leaker: &wire.Leaker{PID: pid, Comm: "test", Exit: &wire.Exit{Code: &code}}, Adopter: &wire.Adopter{PID: 1, Comm: "test", Kind: "init"}}
		case wire.TypeOOM:
			e.OOM = &wire.OOM{}
		case wire.TypeSignal:
			e.Signal = &wire.Signal{Signal: "SIGTERM", Sender: &wire.Sender{PID: pid, Comm: "test"}}
		case wire.TypeKill:
			e.Kill = &wire.Kill{KillID: "test", Rule: "test", Mode: "observe", Scope: "tree", Verdict: wire.VerdictUnknown,
				Outcome: wire.KillObserved, Processes: []wire.Killed{{PID: pid, Comm: "abot-trace-test", Outcome: wire.OutcomeWouldKill}}}
		case wire.TypeAlert:
			e.Process = nil
			e.Alert = &wire.Alert{Name: "test", State: wire.AlertWarning, Previous: wire.AlertOK, Since: now, Message: "this is a test of the notices"}
		case wire.TypeLost:
			e.Process, e.Lost = nil, &wire.Lost{}
		case wire.TypeResync:
			e.Process, e.Resync = nil, &wire.Resync{Reason: "test"}
		}
		out = append(out, e)
	}
	return out
}
