// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"cmp"
	"context"
	"os"
	"slices"
	"sync/atomic"

	"github.com/abot-trace/abot-trace/internal/safetext"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// A Dispatcher hands each event to whoever wants it. Its methods may be called from
// any goroutine and never wait.
type Dispatcher struct {
	records  Sink
	helpers  *Helpers
	host     string
	settings atomic.Pointer[Settings]
	quota    quota
}

// NewDispatcher returns a Dispatcher to a sink for records and, unless nil, the
// helpers. It owns neither.
func NewDispatcher(records Sink, helpers *Helpers, settings Settings) *Dispatcher {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	d := &Dispatcher{records: records, helpers: helpers, host: host}
	d.settings.Store(&settings)
	return d
}

// Configure changes the settings.
func (d *Dispatcher) Configure(settings Settings) {
	d.settings.Store(&settings)
	if d.helpers != nil {
		d.helpers.Configure(settings)
	}
}

// wants reports whether an event of that severity is told to anyone.
func (d *Dispatcher) wants(s Severity, e *Event) bool {
	settings := d.settings.Load()
	return s >= settings.Journald || settings.helperWants(s, e)
}

// Notify tells an event, and reports whether it did: of one user's processes no more are
// told than the user has a share for, and the rest is counted for Digest. It keeps no
// reference to it.
func (d *Dispatcher) Notify(e *Event) bool {
	settings, severity := d.settings.Load(), SeverityOf(e)
	if !d.wants(severity, e) {
		return true
	}
	if !d.quota.admit(e, cmp.Or(settings.PerUser, DefaultPerUser)) {
		return false
	}
	if severity >= settings.Journald {
		d.records.Send(RecordOf(e))
	}
	if d.helpers != nil && settings.helperWants(severity, e) {
		d.helpers.Send(&Notice{Severity: severity, Host: d.host, Text: Summary(e), Event: Redacted(e)})
	}
	return true
}

// DigestInterval is how often Digest is to be called: shares are for so long.
const DigestInterval = quotaPeriod

// Digest returns what was left out since the last call, by user, the most first, and gives
// every user a new share.
func (d *Dispatcher) Digest() []Digest { return d.quota.digest() }

func (s *Settings) helperWants(severity Severity, e *Event) bool {
	return slices.ContainsFunc(s.Webhooks, func(w Webhook) bool { return w.Wants(severity, e) }) ||
		slices.ContainsFunc(s.Exec, func(x Exec) bool { return x.Wants(severity, e) })
}

// Redacted returns a copy of an event whose command lines are without likely
// secrets.
func Redacted(e *Event) Event {
	out := *e
	if e.Process != nil {
		p := RedactedProcess(*e.Process)
		out.Process = &p
	}
	return out
}

// RedactedProcess returns a copy of a process without likely secrets, for whatever
// leaves the daemon.
func RedactedProcess(p wire.Process) wire.Process {
	args, cut := clip(p.Cmdline)
	p.Cmdline, p.Truncated = safetext.Redact(args), p.Truncated || cut
	if p.Orphan != nil && p.Orphan.Leaker != nil {
		orphan, leaker := *p.Orphan, *p.Orphan.Leaker
		args, _ := clip(leaker.Cmdline)
		leaker.Cmdline = safetext.Redact(args)
		orphan.Leaker = &leaker
		p.Orphan = &orphan
	}
	return p
}

// Flush closes what a Dispatcher was made of, within ctx: first the helper, whose
// losses the journal may still be told.
func Flush(ctx context.Context, helpers *Helpers, journal *Journal) error {
	if helpers != nil {
		helpers.Close(ctx)
	}
	if journal != nil {
		return journal.Close(ctx)
	}
	return nil
}
