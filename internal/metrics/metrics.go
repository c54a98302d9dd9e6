// SPDX-License-Identifier: Apache-2.0

// Package metrics exposes what the daemon counts to Prometheus: on the socket, and
// as a text file for node_exporter. Names are a contract; each begins with
// abot_trace_, so that the text file collides with nothing.
package metrics

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/common/expfmt"

	"github.com/abot-trace/abot-trace/internal/leak"
	"github.com/abot-trace/abot-trace/internal/rootfile"
	"github.com/abot-trace/abot-trace/internal/safetext"
)

const namespace = "abot_trace"

// A Source is asked once for each scrape, from any goroutine. Its answer is the
// caller's.
type Source interface {
	Snapshot() Snapshot
}

// Snapshot is what the daemon counts. Totals count since its start.
type Snapshot struct {
	Events    map[string]uint64 // by type, as in package wire
	Lost      uint64            // records that the ring refused
	LastEvent time.Time         // zero before the first

	Running, Dead int // processes in the tree
	Orphans       map[string]Orphans
	Leaks         map[string]leak.Counts // by the program that left them
	Kills         map[Kill]uint64
	FreedBytes    uint64

	Alerts  map[string]int // by name: 0 ok, 1 warning, 2 critical
	Notices map[Notice]uint64
	History *History // nil where none is kept
}

// History is what is kept of the past.
type History struct {
	Bytes map[string]int64 // by part: stream, notable
	Since map[string]time.Time
	Lost  uint64 // entries that the disk did not take
}

// Orphans is what the living orphans of one verdict use, with their trees.
type Orphans struct {
	Count      int
	RSS, Swap  uint64 // bytes
	CPUPercent float64
}

// Kill is one kind of act.
type Kill struct{ Rule, Mode, Outcome string }

// Notice is one target ("journald", "webhook[0]") and what became of notices to it:
// "delivered", "failed" or "dropped".
type Notice struct{ Target, Result string }

// Metrics is the registry of one daemon.
type Metrics struct {
	registry *prometheus.Registry
	latency  prometheus.Histogram
	sampling prometheus.Histogram
	reaction prometheus.Histogram
}

// New returns the metrics of source.
func New(source Source, version string) *Metrics {
	m := &Metrics{registry: prometheus.NewRegistry(),
		latency: histogram("event_latency_seconds", "Time from an event in the kernel until the tree has it.",
			prometheus.ExponentialBuckets(10e-6, 4, 10)),
		sampling: histogram("sample_duration_seconds", "Time that one look at all processes took.",
			prometheus.ExponentialBuckets(100e-6, 4, 8)),
		reaction: histogram("kill_duration_seconds", "Time from a rule's decision until the tree was verified dead.",
			prometheus.ExponentialBuckets(1e-3, 4, 9)),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{Namespace: namespace, Name: "build_info",
		Help: "Always 1, with the version as a label.", ConstLabels: prometheus.Labels{"version": version}})
	build.Set(1)
	goroutines := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: namespace, Name: "goroutines",
		Help: "Goroutines of the daemon itself."}, func() float64 { return float64(runtime.NumGoroutine()) })
	heap := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: namespace, Name: "heap_bytes",
		Help: "Memory of the daemon's heap in use, garbage included."}, heapBytes)
	m.registry.MustRegister(goroutines, heap, m.latency, m.sampling, m.reaction, build, collector{source},
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{Namespace: namespace}))
	return m
}

// heapBytes is what objects on the heap take, dead ones included until they are swept.
func heapBytes() float64 {
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(sample)
	if sample[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return float64(sample[0].Value.Uint64())
}

func histogram(name, help string, buckets []float64) prometheus.Histogram {
	return prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: buckets})
}

// ObserveLatency notes how long an event took from the kernel to the tree. It is
// cheap enough for every event, and may be called from any goroutine, as may the
// others.
func (m *Metrics) ObserveLatency(d time.Duration) { m.latency.Observe(d.Seconds()) }

// ObserveSample notes how long a look at all processes took.
func (m *Metrics) ObserveSample(d time.Duration) { m.sampling.Observe(d.Seconds()) }

// ObserveKill notes how long an act took.
func (m *Metrics) ObserveKill(d time.Duration) { m.reaction.Observe(d.Seconds()) }

// Handler serves the metrics.
func (m *Metrics) Handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4, Timeout: 10 * time.Second,
		ErrorLog: errorLog{}})
}

// WriteTextfile writes the metrics to a file for node_exporter's textfile
// collector, whole or not at all. The name must end in .prom to be read. The directory
// may be the collector's: no link in it is followed.
func (m *Metrics) WriteTextfile(path string) error {
	text, err := m.text()
	if err != nil {
		return fmt.Errorf("metrics file: %w", err)
	}
	dir, err := rootfile.Own.ForeignDir(filepath.Dir(path), 0)
	if err != nil {
		return fmt.Errorf("metrics file: %w", err)
	}
	defer dir.Close()
	if err := dir.Replace(filepath.Base(path), text, 0o644); err != nil {
		return fmt.Errorf("metrics file: %w", err)
	}
	return nil
}

// text is all metrics in the text format.
func (m *Metrics) text() ([]byte, error) {
	families, err := m.registry.Gather()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	for _, family := range families {
		if _, err := expfmt.MetricFamilyToText(&b, family); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), nil
}

// errorLog passes the handler's complaints to slog.
type errorLog struct{}

func (errorLog) Println(v ...any) { slog.Warn("metrics", "error", fmt.Sprint(v...)) }

// desc describes one metric of a Snapshot.
func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil)
}

var (
	descEvents    = desc("events_total", "Kernel events and what followed from them, by type.", "type")
	descLost      = desc("events_lost_total", "Kernel records for which there was no room.")
	descLastEvent = desc("last_event_timestamp_seconds", "When the last event happened; the daemon's own canary keeps it fresh.")
	descProcesses = desc("processes", "Processes in the tree, by state.", "state")
	descOrphans   = desc("orphans", "Living orphans, by verdict.", "verdict")
	descMemory    = desc("orphan_memory_bytes", "Memory of living orphans with their trees, by verdict and kind.", "verdict", "kind")
	descCPU       = desc("orphan_cpu_cores", "Cores that living orphans with their trees keep busy, by verdict.", "verdict")
	descLeaks     = desc("leaks", "Open leaks, by the program that left them.", "program")
	descMembers   = desc("leak_processes", "Processes of open leaks, by the program that left them.", "program")
	descHeld      = desc("leak_memory_bytes", "Memory and swap that open leaks hold, by the program that left them.", "program")
	descOpened    = desc("leaks_opened_total", "Leaks opened, by the program that left them.", "program")
	descEnded     = desc("leaks_ended_total", "Leaks ended, by the program that left them and how.", "program", "how")
	descByteTime  = desc("leak_memory_byte_seconds_total", "What the memory and swap of leaks have cost, over time.", "program")
	descLeakCPU   = desc("leak_cpu_seconds_total", "Processor time that leaks have used.", "program")
	descKills     = desc("kills_total", "Acts of rules upon a tree, by rule, mode and outcome.", "rule", "mode", "outcome")
	descFreed     = desc("freed_bytes_total", "Memory and swap freed by rules.")
	descAlert     = desc("alert_state", "State of an alert: 0 ok, 1 warning, 2 critical.", "alert")
	descHistory   = desc("history_bytes", "Bytes of the history on disk, by part.", "part")
	descSince     = desc("history_oldest_timestamp_seconds", "When the oldest of the history happened, by part.", "part")
	descDropped   = desc("history_lost_total", "Entries that the disk did not take.")
	descNotices   = desc("notices_total", "Notices, by target and result.", "target", "result")
)

// sender sends one sample.
type sender func(d *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string)

func sendLeaks(send sender, program string, l *leak.Counts) {
	send(descLeaks, prometheus.GaugeValue, float64(l.Open), program)
	send(descMembers, prometheus.GaugeValue, float64(l.Processes), program)
	send(descHeld, prometheus.GaugeValue, float64(l.Bytes), program)
	send(descOpened, prometheus.CounterValue, float64(l.Opened), program)
	for how, n := range l.Ended {
		send(descEnded, prometheus.CounterValue, float64(n), program, how)
	}
	send(descByteTime, prometheus.CounterValue, l.ByteSeconds, program)
	send(descLeakCPU, prometheus.CounterValue, l.CPUSeconds, program)
}

// collector turns a Snapshot into metrics.
type collector struct{ source Source }

// Describe implements [prometheus.Collector].
func (c collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descEvents, descLost, descLastEvent, descProcesses, descOrphans, descMemory, descCPU,
		descLeaks, descMembers, descHeld, descOpened, descEnded, descByteTime, descLeakCPU,
		descKills, descFreed, descAlert, descNotices, descHistory, descSince, descDropped} {
		out <- d
	}
}

// Collect implements [prometheus.Collector].
func (c collector) Collect(out chan<- prometheus.Metric) {
	s := c.source.Snapshot()
	send := func(d *prometheus.Desc, kind prometheus.ValueType, value float64, labels ...string) {
		for i := range labels {
			labels[i] = safetext.Terminal(labels[i])
		}
		m, err := prometheus.NewConstMetric(d, kind, value, labels...)
		if err != nil {
			m = prometheus.NewInvalidMetric(d, err)
		}
		out <- m
	}
	for kind, n := range s.Events {
		send(descEvents, prometheus.CounterValue, float64(n), kind)
	}
	send(descLost, prometheus.CounterValue, float64(s.Lost))
	if !s.LastEvent.IsZero() {
		send(descLastEvent, prometheus.GaugeValue, float64(s.LastEvent.UnixNano())/1e9)
	}
	send(descProcesses, prometheus.GaugeValue, float64(s.Running), "running")
	send(descProcesses, prometheus.GaugeValue, float64(s.Dead), "dead")
	for verdict, o := range s.Orphans {
		send(descOrphans, prometheus.GaugeValue, float64(o.Count), verdict)
		send(descMemory, prometheus.GaugeValue, float64(o.RSS), verdict, "rss")
		send(descMemory, prometheus.GaugeValue, float64(o.Swap), verdict, "swap")
		send(descCPU, prometheus.GaugeValue, o.CPUPercent/100, verdict)
	}
	for program, l := range s.Leaks {
		sendLeaks(send, program, &l)
	}
	for k, n := range s.Kills {
		send(descKills, prometheus.CounterValue, float64(n), k.Rule, k.Mode, k.Outcome)
	}
	send(descFreed, prometheus.CounterValue, float64(s.FreedBytes))
	for name, state := range s.Alerts {
		send(descAlert, prometheus.GaugeValue, float64(state), name)
	}
	if h := s.History; h != nil {
		for part, n := range h.Bytes {
			send(descHistory, prometheus.GaugeValue, float64(n), part)
		}
		for part, t := range h.Since {
			send(descSince, prometheus.GaugeValue, float64(t.UnixNano())/1e9, part)
		}
		send(descDropped, prometheus.CounterValue, float64(h.Lost))
	}
	for notice, n := range s.Notices {
		send(descNotices, prometheus.CounterValue, float64(n), notice.Target, notice.Result)
	}
}
