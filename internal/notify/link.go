// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"sync"
	"sync/atomic"
	"time"
)

// The daemon and its helper talk in lines of JSON: settings once, then notices; the
// helper answers with reports.

// Line is one line from the daemon to its helper. Exactly one part is set.
type Line struct {
	Settings *Settings `json:"settings,omitempty"`
	Notice   *Notice   `json:"notice,omitempty"`
}

// Notice is one event to deliver.
type Notice struct {
	Severity Severity `json:"severity"`
	Host     string   `json:"host"`
	Text     string   `json:"text"`
	Event    Event    `json:"event"`
}

// Report is one line from the helper: counts since it was given its settings.
type Report struct {
	// Handled counts notices that every target is done with, one way or another.
	Handled uint64            `json:"handled"`
	Targets map[string]Target `json:"targets"`
}

// Target counts deliveries to one webhook or command.
type Target struct {
	Delivered uint64 `json:"delivered"`
	Failed    uint64 `json:"failed"`
	Dropped   uint64 `json:"dropped"`
	Error     string `json:"error,omitempty"` // the last one
	// Unusable says why nothing can be delivered, as long as that is so.
	Unusable string `json:"unusable,omitempty"`
}

// MaxLine is the longest line of the protocol.
const MaxLine = 1 << 20

// DrainTimeout is how long a helper goes on delivering after its input has ended.
const DrainTimeout = 10 * time.Second

const (
	linkQueue    = 1024
	linkDeadline = 5 * time.Second
)

// A Link passes notices to the helper from a goroutine of its own, and connects
// again when the helper is gone. Its queue is bounded; what does not fit, and what
// a helper took to its grave, is counted as dropped.
type Link struct {
	dial    Dialer
	log     *slog.Logger
	queue   chan []byte
	dropped atomic.Uint64

	mu       sync.Mutex
	settings Settings
	report   Report // of the present helper
	past     Report // of those before it
	helpers  int    // how many there were

	changed chan struct{}
	cancel  context.CancelFunc
	closing chan struct{}
	done    chan struct{}
}

// NewLink starts a Link. It connects only while settings name something for the
// helper to do. The caller closes it.
func NewLink(dial Dialer, settings Settings, log *slog.Logger) *Link {
	ctx, cancel := context.WithCancel(context.Background())
	l := &Link{dial: dial, log: log, settings: settings, queue: make(chan []byte, linkQueue), cancel: cancel,
		changed: make(chan struct{}, 1), closing: make(chan struct{}), done: make(chan struct{})}
	go l.run(ctx)
	return l
}

// Configure hands over new settings; the helper is connected anew with them.
func (l *Link) Configure(settings Settings) {
	l.mu.Lock()
	l.settings = settings
	l.mu.Unlock()
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

// Send queues a notice and returns at once; false means that it was dropped.
func (l *Link) Send(n *Notice) bool {
	line, err := json.Marshal(Line{Notice: n})
	if err == nil && len(line) < MaxLine && !l.closed() {
		select {
		case l.queue <- append(line, '\n'):
			return true
		default:
		}
	}
	l.dropped.Add(1)
	return false
}

// Stats returns what all helpers so far have reported, and how many notices never
// got to one or were lost with it.
func (l *Link) Stats() (Report, uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.past.plus(l.report), l.dropped.Load()
}

// plus adds two reports up.
func (r Report) plus(other Report) Report {
	sum := Report{Handled: r.Handled + other.Handled, Targets: maps.Clone(r.Targets)}
	if sum.Targets == nil {
		sum.Targets = map[string]Target{}
	}
	for name, t := range other.Targets {
		s := sum.Targets[name]
		s.Delivered, s.Failed, s.Dropped = s.Delivered+t.Delivered, s.Failed+t.Failed, s.Dropped+t.Dropped
		if t.Error != "" {
			s.Error = t.Error
		}
		s.Unusable = t.Unusable
		sum.Targets[name] = s
	}
	return sum
}

// Close passes on what waits and lets the helper deliver it, until ctx ends.
func (l *Link) Close(ctx context.Context) {
	close(l.closing)
	stop := context.AfterFunc(ctx, l.cancel)
	defer stop()
	<-l.done
	l.cancel()
}

// wants reports whether the helper would tell anyone of the notice.
func (l *Link) wants(n *Notice) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.settings.helperWants(n.Severity, &n.Event)
}

func (l *Link) wanted() (Settings, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.settings
	return s, len(s.Webhooks) > 0 || len(s.Exec) > 0 || s.Metrics != nil
}

func (l *Link) run(ctx context.Context) {
	defer close(l.done)
	defer func() { l.dropped.Add(uint64(len(l.queue))) }()
	wait := time.Duration(0)
	for {
		settings, wanted := l.wanted()
		if !wanted {
			select {
			case <-l.changed:
				continue
			case <-l.closing:
				return
			}
		}
		began := time.Now()
		err := l.serve(ctx, settings)
		if err == nil || ctx.Err() != nil {
			if l.over(ctx) {
				return
			}
			continue
		}
		// A helper that lived for a while is given the short wait again.
		if time.Since(began) > time.Minute {
			wait = 0
		}
		wait = min(max(2*wait, 100*time.Millisecond), 30*time.Second)
		l.log.Warn("notify helper", "error", err, "retry_in", wait)
		if !l.pause(ctx, wait) {
			return
		}
	}
}

// over reports whether the Link is closed and has passed everything on.
func (l *Link) over(ctx context.Context) bool { return l.closed() || ctx.Err() != nil }

func (l *Link) closed() bool {
	select {
	case <-l.closing:
		return true
	default:
		return false
	}
}

func (l *Link) pause(ctx context.Context, wait time.Duration) bool {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-l.closing:
	case <-ctx.Done():
	}
	return false
}

// serve feeds one helper. It returns nil when the settings have changed or the Link
// is closed.
func (l *Link) serve(ctx context.Context, settings Settings) error {
	conn, err := l.dial(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetWriteDeadline(time.Now()) })()
	l.mu.Lock()
	helper := l.helpers
	l.mu.Unlock()
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		l.read(conn, helper)
	}()
	passed, replaced := uint64(0), false
	defer func() { l.settle(passed, replaced) }()
	first, err := json.Marshal(Line{Settings: &settings})
	if err != nil {
		return fmt.Errorf("settings: %w", err)
	}
	if err := write(ctx, conn, append(first, '\n')); err != nil {
		return err
	}
	for {
		select {
		case line := <-l.queue:
			passed++
			if err := write(ctx, conn, line); err != nil {
				return err
			}
		case <-gone:
			return fmt.Errorf("it ended")
		case <-l.changed:
			replaced = true
			return nil
		case <-ctx.Done():
			return nil
		case <-l.closing:
			return l.drain(ctx, conn, gone, &passed)
		}
	}
}

// drain passes on what waits, and waits for the helper to deliver it.
func (l *Link) drain(ctx context.Context, conn Conn, gone <-chan struct{}, passed *uint64) error {
	for len(l.queue) > 0 {
		*passed++
		if err := write(ctx, conn, <-l.queue); err != nil {
			return err
		}
	}
	if err := conn.CloseWrite(); err != nil {
		return err
	}
	select {
	case <-gone:
	case <-ctx.Done():
		if c, ours := conn.(*child); ours {
			c.kill()
		}
	}
	return nil
}

func write(ctx context.Context, conn Conn, line []byte) error {
	if err := conn.SetWriteDeadline(time.Now().Add(linkDeadline)); err != nil {
		return err
	}
	// After the deadline was set: serve shortens it when ctx ends.
	if err := ctx.Err(); err != nil {
		return err
	}
	_, err := conn.Write(line)
	return err
}

// read keeps the reports of one helper until it is gone, or another one serves.
func (l *Link) read(conn io.Reader, helper int) {
	lines := bufio.NewScanner(conn)
	lines.Buffer(nil, MaxLine)
	for lines.Scan() {
		var r Report
		if json.Unmarshal(lines.Bytes(), &r) == nil {
			l.mu.Lock()
			if l.helpers == helper {
				l.report = r
			}
			l.mu.Unlock()
		}
	}
}

// settle counts what a helper was given and never reported as handled. One that
// ends on purpose has reported all; one that was replaced still drains, and what it
// does then is its own account.
func (l *Link) settle(passed uint64, replaced bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if passed > l.report.Handled && !replaced {
		l.dropped.Add(passed - l.report.Handled)
	}
	l.past, l.report = l.past.plus(l.report), Report{}
	l.helpers++
}
