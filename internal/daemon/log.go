// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"log/slog"
	"os"
	"time"

	"github.com/abot-trace/abot-trace/internal/notify"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// openJournal makes the journal the place of all records when systemd runs us, and
// returns what closes it.
func (d *daemon) openJournal() (closer func()) {
	if os.Getenv("INVOCATION_ID") == "" || os.Getenv("JOURNAL_STREAM") == "" {
		return func() {}
	}
	d.journal = notify.NewJournal("")
	d.Log = slog.New(notify.NewHandler(d.journal, nil))
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), flushTimeout)
		defer cancel()
		d.journal.Close(ctx)
	}
}

// logEvent tells a notable event in a line, with the vocabulary of the journal's
// fields.
func logEvent(log *slog.Logger, e *wire.Event) {
	level := slog.LevelInfo
	switch severity := notify.SeverityOf(e); {
	case severity >= notify.SeverityError:
		level = slog.LevelError
	case severity >= notify.SeverityWarning:
		level = slog.LevelWarn
	}
	log.Log(context.Background(), level, notify.Summary(e), "event", e.Type, "id", e.ID)
}

// noRecords takes the place of the journal where there is none: the lines of the log
// are told instead.
type noRecords struct{}

func (noRecords) Send(notify.Record) bool { return true }

// tellDigests counts every minute what nobody was told of, by user.
func (d *daemon) tellDigests(ctx context.Context) {
	tick := time.NewTicker(notify.DigestInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		for _, digest := range d.notices.Digest() {
			leftOut := float64(digest.LeftOut)
			d.alert(wire.Alert{Name: "notices:" + digest.User, State: wire.AlertWarning, Previous: wire.AlertOK,
				Since: time.Now().Add(-notify.DigestInterval), Value: &leftOut, Unit: "notices", Message: digest.Text})
		}
	}
}
