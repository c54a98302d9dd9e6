// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"context"
	"sync"
	"time"

	"github.com/abot-trace/abot-trace/internal/alert"
	"github.com/abot-trace/abot-trace/internal/boottime"
	"github.com/abot-trace/abot-trace/internal/control"
	"github.com/abot-trace/abot-trace/internal/describe"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/monitor"
	"github.com/abot-trace/abot-trace/internal/sample"
)

// A samplerLoop looks at the host and its processes at intervals, or when pressure
// builds up: for the rules, for alerts, for metrics.
type samplerLoop struct {
	d       *daemon
	sampler *sample.Sampler
	host    *sample.HostReader
	alerts  *alert.Engine
	wake    chan struct{}

	mu       sync.Mutex
	settings monitor.Settings
	textfile string
	last     monitor.Snapshot
	levels   map[string]int
}

func newSamplerLoop(d *daemon) *samplerLoop {
	settings := monitor.FromConfig(d.cfg.Monitor)
	return &samplerLoop{
		d:        d,
		sampler:  sample.NewSampler(sample.Fallback(sample.TaskFunc(d.probe.EachTask), sample.Procfs{}, d.logTaskSource), nil),
		host:     sample.NewHostReader(""),
		alerts:   alert.NewEngine(settings.Alerts),
		wake:     make(chan struct{}, 1),
		settings: settings,
		textfile: d.cfg.Metrics.Textfile.Value,
	}
}

// logTaskSource tells where figures of processes come from. By procfs a start is known to
// ten milliseconds only: thresholds work, orphans and rules go without figures.
func (d *daemon) logTaskSource(iterator error) {
	if iterator != nil {
		d.Log.Warn("processes are sampled from /proc, and orphans not at all", "err", iterator)
		return
	}
	d.Log.Info("processes are sampled by the task iterator again")
}

// configure changes the thresholds; the states of the alerts stay.
func (w *samplerLoop) configure(s monitor.Settings, textfile string) {
	w.mu.Lock()
	w.settings, w.textfile = s, textfile
	w.mu.Unlock()
	w.sampleSoon()
}

// sampleSoon asks for a sample now.
func (w *samplerLoop) sampleSoon() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// run samples until ctx ends.
func (w *samplerLoop) run(ctx context.Context) {
	go func() {
		if err := sample.WatchPressure(ctx, sample.DefaultTriggers, func(string) { w.sampleSoon() }); err != nil {
			w.d.Log.Info("pressure is not watched: samples come at intervals only", "err", err)
		}
	}()
	select {
	case <-w.d.tracer.Ready():
	case <-ctx.Done():
		return
	}
	for {
		w.sampleOnce(ctx)
		w.mu.Lock()
		interval := w.settings.Interval
		w.mu.Unlock()
		timer := time.NewTimer(sample.Interval(interval, w.alerts.Nearness()))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		case <-w.wake:
			timer.Stop()
		}
	}
}

// sampleOnce takes one sample and tells everyone.
func (w *samplerLoop) sampleOnce(ctx context.Context) {
	w.mu.Lock()
	settings, textfile := w.settings, w.textfile
	w.mu.Unlock()
	look := monitor.Snapshot{Time: time.Now(), Host: w.host.Read()}
	for _, err := range look.Host.Errors {
		w.d.Log.Debug("host figures", "err", err)
	}
	pass, err := w.sampler.Pass()
	if err != nil {
		w.d.Log.Warn("processes could not be sampled", "err", err)
	} else {
		look.Pass = pass
		w.d.counters.metrics.ObserveSample(pass.Took)
	}
	orphans, err := w.d.tracer.OrphansUsing(ctx, usageIn(pass))
	look.Orphans, look.OrphansKnown = orphans, err == nil

	w.alerts.Configure(settings.Alerts)
	now := alert.Instant{Boot: time.Duration(boottime.Now()), Wall: look.Time}
	for _, a := range w.alerts.Observe(now, monitor.Readings(settings, look)) {
		w.d.alert(a)
	}
	w.store(look)
	if pass != nil {
		host := control.Host(look.Host)
		kept := w.d.history.sampleOf(pass, &host)
		w.d.tracer.Post(func() {
			w.d.history.sample(kept, pass, w.d.tracer.Leaks().Members())
			w.d.tracer.Leaks().Sample(usageIn(pass), uint64(pass.Boot))
			w.d.control.OnSample(pass, host)
		})
	}
	if textfile != "" {
		if err := w.d.counters.metrics.WriteTextfile(textfile); err != nil {
			w.d.Log.Warn("metrics text file", "err", err)
		}
	}
}

// usageIn tells what processes use as the pass has seen them; nil has seen nobody.
func usageIn(pass *sample.Pass) func(event.ID) (describe.Use, bool) {
	return func(id event.ID) (describe.Use, bool) {
		if pass == nil {
			return describe.Use{}, false
		}
		u, ok := pass.Get(id)
		if !ok {
			return describe.Use{}, false
		}
		use := describe.Use{RSS: u.RSS, Swap: u.Swap, Threads: u.Threads, CPU: time.Duration(u.CPU)}
		if u.CPUKnown {
			use.CPUPercent = &u.CPUPercent
		}
		return use, true
	}
}

func (w *samplerLoop) store(look monitor.Snapshot) {
	levels := make(map[string]int)
	w.alerts.States(func(name string, level alert.Level) bool {
		levels[name] = int(level)
		return true
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	w.last, w.levels = look, levels
}

// latest returns the last look, the alerts' levels, and the settings in force.
func (w *samplerLoop) latest() (monitor.Snapshot, map[string]int, monitor.Settings) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last, w.levels, w.settings
}
