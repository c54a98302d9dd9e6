// SPDX-License-Identifier: Apache-2.0

// Package daemon joins the parts into the service: probe, tracer, rules, alerts,
// notices, metrics, socket. It is the only package that knows them all.
package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/abot-trace/abot-trace/internal/api"
	"github.com/abot-trace/abot-trace/internal/boottime"
	"github.com/abot-trace/abot-trace/internal/config"
	"github.com/abot-trace/abot-trace/internal/control"
	"github.com/abot-trace/abot-trace/internal/dirlock"
	"github.com/abot-trace/abot-trace/internal/enforce"
	"github.com/abot-trace/abot-trace/internal/evidence"
	"github.com/abot-trace/abot-trace/internal/notify"
	"github.com/abot-trace/abot-trace/internal/probe"
	"github.com/abot-trace/abot-trace/internal/state"
	"github.com/abot-trace/abot-trace/internal/systemd"
	"github.com/abot-trace/abot-trace/internal/trace"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// Settings of the daemon.
type Settings struct {
	// Config is the path of the configuration; empty is the default one, which may be
	// missing.
	Config  string
	Socket  string
	Group   string // who may ask beside root; empty is the configuration's
	Version string
	// Log is where the daemon's own lines go when it does not run under systemd.
	Log *slog.Logger
	// State is the directory of the saved state; empty saves nothing. Pins is where
	// the programs are pinned when there is no service manager; empty pins nothing.
	State, Pins string
	// Reload asks for another look at the configuration.
	Reload <-chan os.Signal
}

// Run traces, judges, enforces, alerts and serves until ctx ends. It returns nil then.
// Two of its kind on one socket are impossible.
func Run(ctx context.Context, s Settings) error {
	cfg, err := ownConfig(s.Config)
	if err != nil {
		return err
	}
	listener, err := api.Listen(s.Socket)
	if err != nil {
		return err
	}
	defer listener.Close()
	d := &daemon{Settings: s, cfg: cfg, startedAt: time.Now(), hostConditions: ownHostConditions()}
	for _, condition := range d.hostConditions {
		d.Log.Warn("not all can be done here", "condition", condition)
	}
	defer d.openJournal()()
	d.limitMemory()
	if err := raisePriority(); err != nil {
		d.Log.Warn("a storm of processes may outrun this daemon", "err", err)
	}
	reserveThreads(spareThreads)
	go func() { // it waits for the other processors
		if err := reserveDescriptors(spareDescriptors); err != nil {
			d.Log.Debug("kills may be slower", "err", err)
		}
	}()

	if d.stateSaver, err = openStateSaver(d.Settings); err != nil {
		return err
	}
	defer d.stateSaver.close()
	d.recordCrash()
	if d.stateSaver.dir != nil {
		if d.history, err = openHistory(d.State, &d.cfg.History, d.Log); err != nil {
			d.historyFailed = err
			d.Log.Warn("what happens is forgotten soon", "err", err)
		}
		d.stateSaver.history = d.history
		defer d.history.close()
	}
	err = d.trace(ctx, listener)
	d.endedInOrder()
	return err
}

// trace attaches the programs, builds what works on their records, and lets it.
func (d *daemon) trace(ctx context.Context, listener net.Listener) error {
	status("attaching")
	p, err := probe.Open(d.stateSaver.options())
	if err != nil {
		return err
	}
	defer p.Close()
	if err := dropCapabilities(); err != nil {
		d.Log.Debug("a capability is kept that is of no use any more", "err", err)
	}
	if err := p.ArgsError(); err != nil {
		d.Log.Warn("file names and arguments are not traced", "err", err)
	}
	defer d.closeStopped()
	if err := d.build(p); err != nil {
		return err
	}
	d.stateSaver.alert, d.stateSaver.flushNotices = d.alert, d.noticeQueue.deliver
	d.stateSaver.restore(p, d.tracer)
	if dir := d.stateSaver.dir; dir != nil {
		d.leaseFile = newLeaseFile(d.tracer, dir.SaveLeases)
	}
	return d.run(ctx, listener)
}

type daemon struct {
	Settings
	// hostConditions are what cannot be done because of where this runs, found at the
	// start.
	hostConditions []string
	cfg            *config.Config
	stateSaver     *stateSaver
	history        *historyKeeper  // nil where none is kept
	questions      *questioner     // nil likewise
	historyFailed  error           // why none is kept, where one was to be
	leaseFile      *leaseFile      // nil where nothing is saved
	crashed        *state.Crash    // how the daemon before ended; nil where that was in order
	stopped        *dirlock.Lock   // of the notes on who is stopped; nil where there are none
	journal        *notify.Journal // nil when not under systemd
	helpers        *notify.Helpers
	notices        *notify.Dispatcher
	probe          *probe.Probe
	tracer         *trace.Tracer
	owners         evidence.Owners // nil where there is no service manager
	noticeQueue    noticeQueue
	control        *control.Controller
	trust          *trustKeeper
	reloading      sync.Mutex // one reload at a time
	configInvalid  time.Time  // with reloading: since when the file is; zero where it is not
	samplerLoop    *samplerLoop
	counters       *counters
	startedAt      time.Time
	stopNotice     stopNotice
	configFault    atomic.Pointer[string] // why the last reload was refused; nil when it was not
	server         *api.Server
}

// build makes the parts and ties them together.
func (d *daemon) build(p *probe.Probe) error {
	d.probe = p
	owners := systemd.Owners()
	d.owners = owners
	ability := enforce.Check()
	if ability.Signal != nil {
		d.Log.Warn("no process can be ended: rules can only observe", "err", ability.Signal)
		d.hostConditions = append(d.hostConditions, "no process can be ended, rules can only observe: "+ability.Signal.Error())
	}
	d.openTrust()
	d.control = control.New(control.Options{
		Trust: d.trust.book, TrustChanged: d.trust.changed,
		Journal: d.stopJournal(),
		Tasks:   p,
		Owners:  owners,
		Log:     d.Log,
		OnAlert: d.alertOnLoop,
		Later:   d.noticeQueue.add,
	})
	d.tracer = trace.New(p, trace.Options{
		Log: d.Log, Owners: owners,
		OnOrphans: d.control.OnOrphans, OnEvent: d.onEvent, OnTick: d.onTick, OnLeaseEnd: d.control.OnLeaseEnd, OnRead: d.control.OnRead,
		Recorder: d.history.recorder(),
		OnLag:    func(lag time.Duration) { d.counters.metrics.ObserveLatency(lag) },
	})
	d.trust.tracer = d.tracer
	d.control.Attach(d.tracer)
	if err := d.control.Configure(d.cfg); err != nil {
		return &ConfigError{err}
	}
	d.tracer.Leaks().SetThresholds(leakThresholds(d.cfg))
	settings, err := notify.FromConfig(d.cfg, d.Socket)
	if err != nil {
		return &ConfigError{err}
	}
	d.helpers = newHelpers(settings, d.Log)
	var sink notify.Sink = noRecords{}
	if d.journal != nil {
		sink = d.journal
	}
	d.notices = notify.NewDispatcher(sink, d.helpers, settings)
	d.counters = newCounters(d)
	d.samplerLoop = newSamplerLoop(d)
	return d.buildServer()
}

// openTrust reads what people have decided about leaks.
func (d *daemon) openTrust() {
	trust, err := newTrustKeeper(d.stateSaver.dir)
	if err != nil {
		d.Log.Error("what people have decided about leaks could not be read: no rule ends anything until root has run leaks import, ignore or forget", "err", err)
		d.hostConditions = append(d.hostConditions, "what was decided about leaks could not be read, no rule ends anything until root has run leaks import, ignore or forget: "+err.Error())
	}
	d.trust = trust
}

// buildServer makes what answers on the socket.
func (d *daemon) buildServer() (err error) {
	group := d.Group
	if group == "" {
		group = d.cfg.Socket.Group.Value
	}
	d.server, err = api.NewServer(d.tracer, group, d.Log)
	if err != nil {
		return err
	}
	d.server.Conditions = d.conditions
	d.server.StopFile = d.stopFile
	d.server.Status = d.statusDocument
	// Whoever asks has another working directory.
	if d.server.Config, err = filepath.Abs(cmp.Or(d.Config, config.DefaultPath)); err != nil {
		return err
	}
	d.askPast()
	d.addEndpoints()
	return nil
}

// run lets the parts work until ctx ends or one of them does, and stops them in the
// order in which they need each other.
func (d *daemon) run(ctx context.Context, listener net.Listener) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// The tracer outlives what asks it.
	loopCtx, stopLoop := context.WithCancel(context.Background())
	defer stopLoop()
	loop := make(chan error, 1)
	go func() { loop <- d.tracer.Run(loopCtx) }()
	served := make(chan error, 1)
	go func() { served <- d.server.Serve(ctx, listener) }()
	var others sync.WaitGroup
	others.Go(func() { d.samplerLoop.run(ctx) })
	others.Go(func() { d.stateSaver.run(ctx) })
	others.Go(func() {
		d.trust.run(ctx, func(err error) { d.Log.Warn("what was decided about leaks is not saved", "err", err) })
	})
	if d.leaseFile != nil {
		others.Go(func() { d.leaseFile.run(ctx) })
	}
	if d.owners != nil {
		others.Go(func() { d.owners.Watch(ctx, d.unitChanged) })
	}
	others.Go(func() { d.report(ctx) })
	others.Go(func() { d.reloads(ctx) })
	others.Go(func() { d.tellDigests(ctx) })

	var loopErr error
	select {
	case <-ctx.Done():
	case loopErr = <-loop:
		cancel(loopErr)
	case err := <-served:
		cancel(fmt.Errorf("socket: %w", cmp.Or(err, errEnded)))
		served <- nil
	}
	cause := context.Cause(ctx)
	status("stopping")
	others.Wait()
	<-served
	d.control.Close()
	stopLoop()
	if loopErr == nil {
		loopErr = <-loop
	}
	d.noticeQueue.deliver()
	d.stateSaver.finish()
	if err := d.trust.finish(); err != nil {
		d.Log.Warn("what was decided about leaks is not saved", "err", err)
	}
	flush, done := context.WithTimeout(context.Background(), 2*time.Second)
	defer done()
	d.helpers.Close(flush)
	if cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	d.Log.Info("stopped")
	return loopErr
}

// A ConfigError is a configuration that the parts refuse. It does not heal by another
// start.
type ConfigError struct{ err error }

func (e *ConfigError) Error() string { return e.err.Error() }
func (e *ConfigError) Unwrap() error { return e.err }

// errEnded is a part that ended by itself without saying why.
var errEnded = errors.New("ended by itself")

// onEvent takes each notable event on the tracer's loop.
func (d *daemon) onEvent(e *wire.Event) {
	d.control.OnEvent(e)
	d.counters.count(e)
	if d.muted(e) {
		d.noticeQueue.add(func() { d.notices.Record(e) })
		return
	}
	d.noticeQueue.add(func() {
		if d.notices.Notify(e) && d.journal == nil {
			logEvent(d.Log, e)
		}
	})
}

// unitChanged takes the news that a unit's state is another, on the watcher's goroutine.
func (d *daemon) unitChanged(unit string) {
	d.tracer.UnitChanged(unit)
	d.tracer.Post(func() { d.control.UnitChanged(unit) })
}

// onTick follows each look at the ring, on the tracer's loop.
func (d *daemon) onTick() uint64 {
	d.stateSaver.requestSave()
	return boottime.Earlier(d.control.OnTick(), d.noticeQueue.deliverDue())
}

// alertOnLoop publishes an alert from the loop.
func (d *daemon) alertOnLoop(a wire.Alert) {
	d.tracer.PublishOnLoop(&wire.Event{Type: wire.TypeAlert, Alert: &a})
}

// alert publishes an alert from elsewhere.
func (d *daemon) alert(a wire.Alert) {
	d.tracer.Publish(&wire.Event{Type: wire.TypeAlert, Alert: &a})
}
