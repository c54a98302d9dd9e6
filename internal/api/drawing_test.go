// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bytes"
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/proctest"
	"github.com/abot-trace/abot-trace/internal/render"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// hostile is what a process may call itself: it fits a name of 15 bytes.
const hostile = "ev\x1b[2J\n\xff\xe2\x82é"

// family fills the daemon's tree with what a drawing has to show.
func (d *daemon) family(t *testing.T) {
	t.Helper()
	execed := event.Event{Kind: event.KindExec, Subject: proc(1), Comm: event.MakeComm(hostile), Ordinal: 1,
		Exec: event.Exec{Filename: "/bin/x", Cmdline: hostile + "\x00two words\x00it's\x00--password=x\xff\x00\x00", Truncated: true}}
	fatal := event.Event{Kind: event.KindSignal, Subject: proc(2), Comm: event.MakeComm(hostile),
		Signal: event.Signal{Signal: unix.SIGKILL, Sender: proc(1), SenderComm: event.MakeComm(hostile)}}
	d.send(forked(99, 0, "init"), forked(0, 1, hostile), execed, forked(1, 2, hostile), forked(2, 3, "left"),
		forked(3, 4, "stranded"), forked(2, 5, hostile), forked(0, 6, "last"), forked(98, 7, "strange"), fatal, killed(2, hostile))
	d.mu.Lock()
	for _, n := range []int{0, 1, 3, 5, 97} {
		d.tasks = append(d.tasks, event.Task{ID: proc(n), HostPID: proc(n).PID, Threads: 1, RSS: uint64(n+1) << 22, Swap: 1 << 30})
	}
	d.mu.Unlock()
	d.applied(t)
}

var drawings = []struct {
	name string
	opt  render.TreeOptions
}{
	{"all", render.TreeOptions{}},
	{"by kernel parent", render.TreeOptions{Kernel: true}},
	{"orphans", render.TreeOptions{Orphans: true}},
	{"one", render.TreeOptions{Root: proc(3).PID}},
	{"kernel threads", render.TreeOptions{Threads: true}},
	{"in colour", render.TreeOptions{Style: render.Style{Color: true}}},
	{"120 columns in colour", render.TreeOptions{Style: render.Style{Color: true, Width: 120}}},
	{"40 columns", render.TreeOptions{Style: render.Style{Width: 40}, Orphans: true}},
	{"folded", render.TreeOptions{Fold: true}},
	{"three rows of 60 columns", render.TreeOptions{Rows: 3, Style: render.Style{Width: 60}}},
}

// What the daemon draws is what a client draws from the document.
func TestDrawnEitherWay(t *testing.T) {
	d := serve(t, "")
	d.family(t)
	for _, tt := range drawings {
		t.Run(tt.name, func(t *testing.T) {
			var diff string
			for range 3 { // an age may grow in between
				snapshot, err := d.tracer.TreeSnapshot(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				got, err := draw(snapshot, tt.opt)
				if err != nil {
					t.Fatal(err)
				}
				doc, err := d.client.Tree(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				doc.Time = snapshot.Time()
				var want bytes.Buffer
				if err := render.Tree(&want, doc, tt.opt); err != nil {
					t.Fatal(err)
				}
				if diff = cmp.Diff(want.String(), string(got)); diff == "" {
					return
				}
			}
			t.Errorf("(-client +daemon):\n%s", diff)
		})
	}
}

func TestDrawTree(t *testing.T) {
	d := serve(t, "")
	d.family(t)
	var text bytes.Buffer
	if err := d.client.DrawTree(t.Context(), &text, render.TreeOptions{Root: proc(3).PID}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"MEMORY", "(unknown, 3 orphans): SIGKILL, from pid 8388609", "left", "1.0 GiB", "left by 8388610"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in:\n%s", want, text.String())
		}
	}
	if strings.Contains(text.String(), "last") {
		t.Errorf("drew another's child:\n%s", text.String())
	}
	err := d.client.DrawTree(t.Context(), &text, render.TreeOptions{Root: 4711})
	if err == nil || err.Error() != "no such process: 4711" {
		t.Errorf("of nobody: %v", err)
	}
}

func TestDrawTreeOfAnOlderDaemon(t *testing.T) {
	doc := &wire.Tree{Schema: 1, Time: time.Now(), Complete: true,
		Processes: []wire.Process{{PID: 1, Comm: hostile, State: wire.StateRunning}}}
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	older := &httptest.Server{Listener: l, Config: &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _ = WriteJSON(w, doc) })}}
	older.Start()
	defer older.Close()
	client := NewClient(path)
	defer client.http.CloseIdleConnections()

	asJSON, _ := json.Marshal(doc)
	var decoded wire.Tree
	if err := json.Unmarshal(asJSON, &decoded); err != nil {
		t.Fatal(err)
	}
	var got, want bytes.Buffer
	if err := render.Tree(&want, &decoded, render.TreeOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := client.DrawTree(t.Context(), &got, render.TreeOptions{}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.String(), got.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	err = client.DrawTree(t.Context(), &got, render.TreeOptions{Root: 4711})
	if err == nil || err.Error() != "no such process: 4711" {
		t.Errorf("of nobody: %v", err)
	}
}

func TestTreeOptionsArrive(t *testing.T) {
	for _, tt := range drawings {
		r := httptest.NewRequest(http.MethodGet, "/v1/tree?"+treeQuery(tt.opt).Encode(), nil)
		if got, err := treeOptions(r); err != nil || !reflect.DeepEqual(got, tt.opt) {
			t.Errorf("%s: got %+v, %v, want %+v", tt.name, got, err, tt.opt)
		}
	}
	for _, query := range []string{"width=wide", "rows=few", "width=-1", "width=99999999999999999999", "pid=", "pid=-1", "pid=init"} {
		_, err := treeOptions(httptest.NewRequest(http.MethodGet, "/v1/tree?"+query, nil))
		if err == nil {
			t.Errorf("%s: no error", query)
		}
	}
}

func TestFactsParam(t *testing.T) {
	for query, want := range map[string]string{"": "", "facts=": "", "facts=cwd": "cwd", "facts=cwd,ports": "cwd ports", "facts=cwd,environ": "error", "facts=,": "error"} {
		facts, err := factsParam(httptest.NewRequest(http.MethodGet, "/v1/orphans?"+query, nil))
		if got := strings.Join(facts, " "); err == nil && got != want || err != nil && want != "error" {
			t.Errorf("%q: got %q, %v, want %q", query, got, err, want)
		}
	}
}

func TestReach(t *testing.T) {
	d := serve(t, "")
	for range 2 {
		if err := d.client.Reach(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	d.answers(t)
	// The daemon learns after a moment that the connection of the first was closed.
	proctest.Eventually(t, "only the connection that was reached with is left", func() bool { return d.held() == 1 })
	d.client.http.CloseIdleConnections()
	d.answers(t)
}
