// SPDX-License-Identifier: Apache-2.0

package metrics

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/abot-trace/abot-trace/internal/leak"
)

type fixed Snapshot

func (f fixed) Snapshot() Snapshot { return Snapshot(f) }

// full is a snapshot in which every metric occurs.
var full = fixed{
	Events: map[string]uint64{"fork": 7, "exec": 5}, Lost: 3, LastEvent: time.Unix(1700000000, 5e8), Running: 100, Dead: 4,
	Orphans: map[string]Orphans{"leaked": {Count: 2, RSS: 10, Swap: 20, CPUPercent: 150}},
	Leaks: map[string]leak.Counts{"train\x1b.py": {Open: 2, Processes: 5, Bytes: 4096, Opened: 5, ByteSeconds: 1e6, CPUSeconds: 2.5,
		Ended: map[string]uint64{"kill": 3, "oom": 0}}},
	Kills:      map[Kill]uint64{{"stale \"x\"\n", "enforce", "done"}: 1},
	FreedBytes: 4096, Alerts: map[string]int{"disk:/a\x1b": 2}, Notices: map[Notice]uint64{{"journald", "delivered"}: 9},
	History: &History{Bytes: map[string]int64{"stream": 4096}, Since: map[string]time.Time{"stream": time.Unix(1700000000, 0)}, Lost: 2},
}

func TestLint(t *testing.T) {
	problems, err := testutil.GatherAndLint(New(full, "1.0").registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

func TestValues(t *testing.T) {
	const want = `
# HELP abot_trace_alert_state State of an alert: 0 ok, 1 warning, 2 critical.
# TYPE abot_trace_alert_state gauge
abot_trace_alert_state{alert="disk:/a\\x1b"} 2
# HELP abot_trace_events_lost_total Kernel records for which there was no room.
# TYPE abot_trace_events_lost_total counter
abot_trace_events_lost_total 3
# HELP abot_trace_events_total Kernel events and what followed from them, by type.
# TYPE abot_trace_events_total counter
abot_trace_events_total{type="exec"} 5
abot_trace_events_total{type="fork"} 7
# HELP abot_trace_freed_bytes_total Memory and swap freed by rules.
# TYPE abot_trace_freed_bytes_total counter
abot_trace_freed_bytes_total 4096
# HELP abot_trace_history_bytes Bytes of the history on disk, by part.
# TYPE abot_trace_history_bytes gauge
abot_trace_history_bytes{part="stream"} 4096
# HELP abot_trace_history_lost_total Entries that the disk did not take.
# TYPE abot_trace_history_lost_total counter
abot_trace_history_lost_total 2
# HELP abot_trace_history_oldest_timestamp_seconds When the oldest of the history happened, by part.
# TYPE abot_trace_history_oldest_timestamp_seconds gauge
abot_trace_history_oldest_timestamp_seconds{part="stream"} 1.7e+09
# HELP abot_trace_kills_total Acts of rules upon a tree, by rule, mode and outcome.
# TYPE abot_trace_kills_total counter
abot_trace_kills_total{mode="enforce",outcome="done",rule="stale \"x\"\\n"} 1
# HELP abot_trace_last_event_timestamp_seconds When the last event happened; the daemon's own canary keeps it fresh.
# TYPE abot_trace_last_event_timestamp_seconds gauge
abot_trace_last_event_timestamp_seconds 1.7000000005e+09
# HELP abot_trace_leak_cpu_seconds_total Processor time that leaks have used.
# TYPE abot_trace_leak_cpu_seconds_total counter
abot_trace_leak_cpu_seconds_total{program="train\\x1b.py"} 2.5
# HELP abot_trace_leak_memory_byte_seconds_total What the memory and swap of leaks have cost, over time.
# TYPE abot_trace_leak_memory_byte_seconds_total counter
abot_trace_leak_memory_byte_seconds_total{program="train\\x1b.py"} 1e+06
# HELP abot_trace_leak_memory_bytes Memory and swap that open leaks hold, by the program that left them.
# TYPE abot_trace_leak_memory_bytes gauge
abot_trace_leak_memory_bytes{program="train\\x1b.py"} 4096
# HELP abot_trace_leak_processes Processes of open leaks, by the program that left them.
# TYPE abot_trace_leak_processes gauge
abot_trace_leak_processes{program="train\\x1b.py"} 5
# HELP abot_trace_leaks Open leaks, by the program that left them.
# TYPE abot_trace_leaks gauge
abot_trace_leaks{program="train\\x1b.py"} 2
# HELP abot_trace_leaks_ended_total Leaks ended, by the program that left them and how.
# TYPE abot_trace_leaks_ended_total counter
abot_trace_leaks_ended_total{how="kill",program="train\\x1b.py"} 3
abot_trace_leaks_ended_total{how="oom",program="train\\x1b.py"} 0
# HELP abot_trace_leaks_opened_total Leaks opened, by the program that left them.
# TYPE abot_trace_leaks_opened_total counter
abot_trace_leaks_opened_total{program="train\\x1b.py"} 5
# HELP abot_trace_notices_total Notices, by target and result.
# TYPE abot_trace_notices_total counter
abot_trace_notices_total{result="delivered",target="journald"} 9
# HELP abot_trace_orphan_cpu_cores Cores that living orphans with their trees keep busy, by verdict.
# TYPE abot_trace_orphan_cpu_cores gauge
abot_trace_orphan_cpu_cores{verdict="leaked"} 1.5
# HELP abot_trace_orphan_memory_bytes Memory of living orphans with their trees, by verdict and kind.
# TYPE abot_trace_orphan_memory_bytes gauge
abot_trace_orphan_memory_bytes{kind="rss",verdict="leaked"} 10
abot_trace_orphan_memory_bytes{kind="swap",verdict="leaked"} 20
# HELP abot_trace_orphans Living orphans, by verdict.
# TYPE abot_trace_orphans gauge
abot_trace_orphans{verdict="leaked"} 2
# HELP abot_trace_processes Processes in the tree, by state.
# TYPE abot_trace_processes gauge
abot_trace_processes{state="dead"} 4
abot_trace_processes{state="running"} 100
`
	if err := testutil.CollectAndCompare(collector{full}, strings.NewReader(want)); err != nil {
		t.Error(err)
	}
}

func TestEmptySnapshot(t *testing.T) {
	problems, err := testutil.GatherAndLint(New(fixed{}, "").registry)
	if err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
}

func TestHandlerAndTextfile(t *testing.T) {
	m := New(full, "1.2.3")
	m.ObserveLatency(50 * time.Microsecond)
	m.ObserveSample(time.Millisecond)
	m.ObserveKill(time.Second)
	server := httptest.NewServer(m.Handler())
	defer server.Close()
	resp, err := server.Client().Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	served, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "abot-trace.prom")
	for range 2 { // the second replaces the first
		if err := m.WriteTextfile(path); err != nil {
			t.Fatal(err)
		}
	}
	written, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`abot_trace_build_info{version="1.2.3"} 1`, "abot_trace_event_latency_seconds_count 1",
		"abot_trace_sample_duration_seconds_sum 0.001", "abot_trace_kill_duration_seconds_count 1",
		"abot_trace_process_resident_memory_bytes ", "abot_trace_process_cpu_seconds_total "} {
		if !bytes.Contains(served, []byte(want)) || !bytes.Contains(written, []byte(want)) {
			t.Errorf("%s: served %v, written %v", want, bytes.Contains(served, []byte(want)), bytes.Contains(written, []byte(want)))
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 {
		t.Errorf("left behind %v, %v", entries, err)
	}
	if err := m.WriteTextfile("/does/not/exist/x.prom"); err == nil {
		t.Error("no error for a directory that is not there")
	}
}

// TestTextfileFollowsNoLink: the directory may be the collector's, which can plant there
// what it likes.
func TestTextfileFollowsNoLink(t *testing.T) {
	dir, outside := t.TempDir(), filepath.Join(t.TempDir(), "outside")
	if err := errors.Join(os.Chmod(dir, 0o777), os.WriteFile(outside, []byte("untouched"), 0o600)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "abot-trace.prom")
	if err := errors.Join(os.Symlink(outside, path), os.Symlink(outside, path+".new")); err != nil {
		t.Fatal(err)
	}
	if err := New(full, "1").WriteTextfile(path); err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(path)
	if err != nil || info.Mode() != 0o644 {
		t.Errorf("made %v, %v", info, err)
	}
	info, err = os.Stat(outside)
	if b, _ := os.ReadFile(outside); err != nil || string(b) != "untouched" || info.Mode() != 0o600 {
		t.Errorf("outside: %q, %v, %v", b, info.Mode(), err)
	}
}

// names lists every series name that a scrape can show.
func names(t *testing.T) map[string]bool {
	t.Helper()
	families, err := New(full, "1").registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	for _, f := range families {
		out[f.GetName()] = true
		if strings.Contains(f.GetType().String(), "HISTOGRAM") {
			for _, suffix := range []string{"_bucket", "_sum", "_count"} {
				out[f.GetName()+suffix] = true
			}
		}
	}
	return out
}

var metricName = regexp.MustCompile(`\babot_trace_[a-z_]+`)

// What the dashboard and the rules ask for exists, and what exists is documented.
func TestDeployedNamesExist(t *testing.T) {
	known := names(t)
	used := map[string]bool{}
	for _, path := range []string{"../../deploy/grafana/abot-trace.json", "../../deploy/prometheus/abot-trace.rules.yml", "../../docs/monitoring.md"} {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		found := metricName.FindAllString(string(text), -1)
		if len(found) == 0 {
			t.Errorf("%s names no metric", path)
		}
		for _, name := range found {
			used[name] = true
			if !known[name] {
				t.Errorf("%s: %s does not exist", path, name)
			}
		}
	}
	for name := range known {
		own := !strings.HasPrefix(name, "abot_trace_process_")
		if own && !used[name] && !used[name+"_bucket"] && !regexp.MustCompile(`_(bucket|sum|count)$`).MatchString(name) {
			t.Errorf("%s is neither documented nor used", name)
		}
	}
}

func TestDeployedFilesParse(t *testing.T) {
	text, err := os.ReadFile("../../deploy/grafana/abot-trace.json")
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		Title  string
		Panels []struct {
			ID      int
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &board); err != nil {
		t.Fatal(err)
	}
	ids := map[int]bool{}
	for _, p := range board.Panels {
		if ids[p.ID] || p.Title == "" || len(p.Targets) == 0 {
			t.Errorf("panel %d %q: id twice, or no title or target", p.ID, p.Title)
		}
		ids[p.ID] = true
	}
	text, err = os.ReadFile("../../deploy/prometheus/abot-trace.rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	var rules struct {
		Groups []struct {
			Rules []struct {
				Alert, Expr string
				Labels      map[string]string
				Annotations map[string]string
			}
		}
	}
	if err := yaml.Unmarshal(text, &rules); err != nil {
		t.Fatal(err)
	}
	if len(rules.Groups) == 0 || len(rules.Groups[0].Rules) == 0 {
		t.Fatal("no rules")
	}
	for _, r := range rules.Groups[0].Rules {
		if r.Alert == "" || r.Expr == "" || r.Labels["severity"] == "" || r.Annotations["summary"] == "" {
			t.Errorf("rule %+v is not complete", r)
		}
	}
}

func BenchmarkObserveLatency(b *testing.B) {
	m := New(fixed{}, "")
	b.ReportAllocs()
	for b.Loop() {
		m.ObserveLatency(time.Microsecond)
	}
}
