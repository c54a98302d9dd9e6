// SPDX-License-Identifier: Apache-2.0

package deliver

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/notify"
	"github.com/abot-trace/abot-trace/internal/wire"
)

func notice(id string) *notify.Notice {
	event := notify.Event{Schema: 1, ID: id, Type: wire.TypeOrphan, Process: &wire.Process{PID: 7, Comm: "x\n\"y\"",
		Orphan: &wire.Orphan{Direct: true, Verdict: wire.VerdictLeaked, Evidence: []string{}}}}
	return &notify.Notice{Severity: notify.SeverityWarning, Host: "h", Text: notify.Summary(&event), Event: event}
}

// quick returns a webhook that waits little between attempts.
func quick(t *testing.T, s notify.Webhook) *webhook {
	t.Helper()
	w, err := newWebhook("webhook[0]", s)
	if err != nil {
		t.Fatal(err)
	}
	w.pause = time.Millisecond
	return w
}

// request is what a receiver saw.
type request struct {
	header http.Header
	body   string
}

// receiver answers each request with the next of the handlers, the last one for
// ever.
func receiver(t *testing.T, handlers ...http.HandlerFunc) (url string, seen chan request, count *atomic.Int64) {
	t.Helper()
	seen, count = make(chan request, 100), new(atomic.Int64)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		seen <- request{r.Header, string(body)}
		n := int(count.Add(1))
		handlers[min(n, len(handlers))-1](w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL + "/hook?key=topsecret", seen, count
}

func status(code int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
}

func TestWebhookJSON(t *testing.T) {
	url, seen, _ := receiver(t, status(204))
	secret := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(secret, []byte("s3cret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w := quick(t, notify.Webhook{URL: url, HMACSecretFile: secret})
	w.now = func() time.Time { return time.Unix(1700000000, 0) }
	if err := w.deliver(t.Context(), notice("id-1")); err != nil {
		t.Fatal(err)
	}
	got := <-seen
	var n notify.Notice
	if err := json.Unmarshal([]byte(got.body), &n); err != nil || n.Event.ID != "id-1" || n.Event.Process.Comm != "x\n\"y\"" {
		t.Errorf("body %s, %v", got.body, err)
	}
	for name, want := range map[string]string{"Content-Type": "application/json", headerEvent: "id-1", headerTime: "1700000000",
		headerSign: "sha256=" + sign([]byte("s3cret"), "1700000000", []byte(got.body))} {
		if got.header.Get(name) != want {
			t.Errorf("%s: %q, want %q", name, got.header.Get(name), want)
		}
	}
}

// The signature is checked against values that openssl computed.
func TestSign(t *testing.T) {
	const want = "1698a50bc74d1ff1db85c4e0a5297c2ad9fdba245d5737cdb789e4cc6e098940"
	if got := sign([]byte("s3cret"), "1700000000", []byte(`{"a":1}`)); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestWebhookTemplate(t *testing.T) {
	url, seen, _ := receiver(t, status(200))
	w := quick(t, notify.Webhook{URL: url, Template: `{"text": {{json (printf "[%s] %s: %s" .Severity .Host .Text)}}, "pid": {{.event.process.pid}}}`})
	if err := w.deliver(t.Context(), notice("1")); err != nil {
		t.Fatal(err)
	}
	const want = `{"text": "[warning] h: x\\n\"y\"[7] was orphaned: leaked", "pid": 7}`
	if got := <-seen; got.body != want {
		t.Errorf("got  %s\nwant %s", got.body, want)
	}
	for name, template := range map[string]string{
		"unknown field": "{{.Nope}}",
		"endless":       `{{define "x"}}aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa{{template "x" .}}{{end}}{{template "x" .}}`,
	} {
		if _, err := newWebhook("webhook[0]", notify.Webhook{URL: url, Template: template}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestWebhookFailures(t *testing.T) {
	hang := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	huge := func(w http.ResponseWriter, r *http.Request) {
		line := []byte(strings.Repeat("x", 64<<10))
		for r.Context().Err() == nil {
			if _, err := w.Write(line); err != nil {
				return
			}
		}
	}
	redirect := func(to string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, http.StatusTemporaryRedirect) }
	}
	var foreign atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { foreign.Add(1) }))
	defer other.Close()
	tests := []struct {
		name     string
		handlers []http.HandlerFunc
		want     string // part of the error; empty for success
		requests int64
	}{
		{"500 then well", []http.HandlerFunc{status(500), status(503), status(200)}, "", 3},
		{"500 for ever", []http.HandlerFunc{status(500)}, "attempt 6: status 500", attempts},
		{"404 is not repeated", []http.HandlerFunc{status(404)}, "attempt 1: status 404", 1},
		{"slow", []http.HandlerFunc{hang}, "attempt 6: ", attempts},
		{"slow, then well", []http.HandlerFunc{hang, status(200)}, "", 2},
		{"huge answer", []http.HandlerFunc{huge}, "", 1},
		{"redirect to itself", []http.HandlerFunc{redirect("/other"), status(200)}, "", 2},
		{"redirect in a circle", []http.HandlerFunc{redirect("/other")}, "redirected too often", 4 * attempts},
		{"redirect to another host", []http.HandlerFunc{redirect(other.URL)}, "attempt 1: redirected to another host", 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			url, _, count := receiver(t, tt.handlers...)
			timeout := 10 * time.Second
			if strings.HasPrefix(tt.name, "slow") {
				timeout = 200 * time.Millisecond
			}
			err := quick(t, notify.Webhook{URL: url, Timeout: timeout}).deliver(t.Context(), notice("1"))
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "topsecret") {
				t.Errorf("the address is in the error: %v", err)
			}
			if got := count.Load(); got != tt.requests && !strings.HasPrefix(tt.name, "slow") {
				t.Errorf("%d requests, want %d", got, tt.requests)
			}
		})
	}
	if foreign.Load() != 0 {
		t.Error("a notice went to another host")
	}
}

func TestWebhookDown(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	err = quick(t, notify.Webhook{URL: "http://" + address + "/topsecret"}).deliver(t.Context(), notice("1"))
	if err == nil || !strings.Contains(err.Error(), "connection refused") || strings.Contains(err.Error(), "topsecret") {
		t.Errorf("error %v", err)
	}
}

func TestWebhookUntrustedCertificate(t *testing.T) {
	server := httptest.NewUnstartedServer(status(200))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	err := quick(t, notify.Webhook{URL: server.URL}).deliver(t.Context(), notice("1"))
	if err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("error %v, want one about the certificate", err)
	}
}

func TestRetryAfter(t *testing.T) {
	for header, want := range map[string]time.Duration{"": 0, "7": 7 * time.Second, "-5": 0, "99999": longest, "soon": 0} {
		resp := &http.Response{StatusCode: 429, Header: http.Header{"Retry-After": {header}}}
		if wait, err := verdict(resp); wait != want || err == nil {
			t.Errorf("Retry-After %q: wait %v, %v, want %v", header, wait, err, want)
		}
	}
}

func TestSecretFile(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	shared := filepath.Join(t.TempDir(), "shared")
	if err := errors.Join(os.WriteFile(shared, []byte("key\n"), 0o600), os.Chmod(shared, 0o622)); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{empty, shared, "/does/not/exist"} {
		if _, err := newWebhook("w", notify.Webhook{URL: "http://h/", HMACSecretFile: path}); err == nil {
			t.Errorf("%s: no error", path)
		}
	}
}

func TestMetricsProxy(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	daemon := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4")
		fmt.Fprintf(w, "asked %s\n", r.URL.Path)
	})}
	go daemon.Serve(listener)
	defer daemon.Close()
	front := httptest.NewServer(proxy(socket))
	defer front.Close()
	get := func() (int, string) {
		resp, err := http.Get(front.URL + "/anything?x=1")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(body)
	}
	if code, body := get(); code != 200 || body != "asked /metrics\n" {
		t.Errorf("%d %q", code, body)
	}
	daemon.Close()
	if code, _ := get(); code != http.StatusBadGateway {
		t.Errorf("without a daemon: %d, want 502", code)
	}
}

func TestListenLoopbackOnly(t *testing.T) {
	for _, address := range []string{"0.0.0.0:0", ":0", "192.0.2.1:0", "[::]:0", "nonsense"} {
		if l, err := listenLoopback(address); err == nil {
			l.Close()
			t.Errorf("%s: listens", address)
		}
	}
	l, err := listenLoopback("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}

// TestSlack: a message with blocks, within Slack's limits, in which no name is markup.
func TestSlack(t *testing.T) {
	n := leakNotice("L1", wire.LeakOpened, "x")
	n.Text = "leak of <!channel> & co " + strings.Repeat("long ", 2000)
	l := n.Event.Leak
	l.Name, l.Verdict, l.Evidence = "<!channel>", wire.VerdictLeaked, []string{"it was killed"}
	l.Leaker = wire.LeakLeaker{Comm: "x", Cmdline: []string{"x", "<!here>\x1b"}, User: "bob", Unit: "a.service", Exit: &wire.Exit{Signal: "SIGKILL"}}
	body, err := quick(t, notify.Webhook{URL: "http://h/", Format: notify.FormatSlack}).body(n)
	if err != nil {
		t.Fatal(err)
	}
	var m slackMessage
	if err := json.Unmarshal(body, &m); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(m.Text, "<") || !strings.HasPrefix(m.Text, "leak of &lt;!channel&gt; &amp; co") {
		t.Errorf("fallback: %.80s", m.Text)
	}
	if len(m.Blocks) != 3 || len(m.Blocks[0].Text.Text) > maxSlackText || m.Blocks[0].Text.Type != "plain_text" {
		t.Errorf("%+v", m.Blocks)
	}
	var facts []string
	for _, f := range m.Blocks[1].Fields {
		if f.Type != "plain_text" {
			t.Errorf("markup: %+v", f)
		}
		facts = append(facts, f.Text)
	}
	want := []string{`Command: x $'<!here>\x1b'`, "Unit: a.service", "User: bob", "Died: SIGKILL", "Holds: 2 processes, 1 MiB",
		"Verdict: leaked: it was killed", "Next: abot-trace explain L1"}
	if !slices.Equal(facts, want) {
		t.Errorf("got  %q\nwant %q", facts, want)
	}
}
