// SPDX-License-Identifier: Apache-2.0

package deliver

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/notify"
)

// TestMain also is the helper that the tests start: its sweep ends every child of
// its process, which must not be the process of the tests.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "notify-helper" {
		if err := Confine(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		if err := Serve(context.Background(), os.Stdin, os.Stdout, slog.New(slog.DiscardHandler)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func start(t *testing.T, s notify.Settings) *notify.Link {
	t.Helper()
	ownCommands(&s)
	link := notify.NewLink(notify.Spawn(nil, "notify-helper"), s, slog.New(slog.DiscardHandler))
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
		defer cancel()
		link.Close(ctx)
	})
	return link
}

// ownCommands has the commands run as who runs the test, and named by their place.
func ownCommands(s *notify.Settings) {
	for i := range s.Exec {
		s.Exec[i].User, s.Exec[i].Name = strconv.Itoa(os.Getuid()), fmt.Sprintf("exec[%d]", i)
	}
}

// await polls until the report satisfies ok.
func await(t *testing.T, link *notify.Link, ok func(notify.Report) bool) notify.Report {
	t.Helper()
	deadline := time.After(60 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		report, _ := link.Stats()
		if ok(report) {
			return report
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("last report %+v", report)
		}
	}
}

func handled(n uint64) func(notify.Report) bool {
	return func(r notify.Report) bool { return r.Handled >= n }
}

func shell(script string, args ...string) []string {
	return append([]string{"/bin/sh", "-c", script}, args...)
}

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestHookGetsTheNotice(t *testing.T) {
	dir := t.TempDir()
	stdin, env := filepath.Join(dir, "stdin"), filepath.Join(dir, "env")
	link := start(t, notify.Settings{Exec: []notify.Exec{{Command: shell(`cat >"$0"; env >"$1"`, stdin, env)}}})
	link.Send(notice("id-1"))
	if r := await(t, link, handled(1)); r.Targets["exec[0]"].Delivered != 1 {
		t.Fatalf("report %+v", r)
	}
	var n notify.Notice
	if err := json.Unmarshal([]byte(read(t, stdin)), &n); err != nil || n.Event.ID != "id-1" || n.Severity != notify.SeverityWarning {
		t.Errorf("stdin: %+v, %v", n, err)
	}
	lines := strings.Split(read(t, env), "\n")
	for _, want := range []string{"ABOT_EVENT=orphan", "ABOT_EVENT_ID=id-1", "ABOT_PID=7", `ABOT_COMM=x\n"y"`, "ABOT_VERDICT=leaked",
		"ABOT_SEVERITY=warning", `ABOT_MESSAGE=x\n"y"[7] was orphaned: leaked`} {
		found := false
		for _, line := range lines {
			found = found || line == want
		}
		if !found {
			t.Errorf("environment has no %s", want)
		}
	}
}

func TestHelperHasNoCapabilities(t *testing.T) {
	out := filepath.Join(t.TempDir(), "status")
	// Of the hook, and of each thread of the helper.
	link := start(t, notify.Settings{Exec: []notify.Exec{{Command: shell(`cat /proc/self/status /proc/$PPID/task/*/status >"$0"`, out)}}})
	link.Send(notice("1"))
	await(t, link, handled(1))
	checked := 0
	for line := range strings.Lines(read(t, out)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		value = strings.TrimSpace(value)
		switch name {
		case "CapInh", "CapPrm", "CapEff", "CapAmb":
			checked++
			if strings.Trim(value, "0") != "" {
				t.Errorf("%s is %s", name, value)
			}
		case "NoNewPrivs":
			checked++
			if value != "1" {
				t.Errorf("NoNewPrivs is %s", value)
			}
		}
	}
	if checked < 10 {
		t.Errorf("only %d lines checked", checked)
	}
}

func TestHookHangs(t *testing.T) {
	link := start(t, notify.Settings{Exec: []notify.Exec{{Command: shell("exec sleep 4711"), Timeout: 200 * time.Millisecond}}})
	link.Send(notice("1"))
	target := await(t, link, handled(1)).Targets["exec[0]"]
	if target.Failed != 1 || !strings.Contains(target.Error, "ended after 200ms") {
		t.Errorf("target %+v", target)
	}
}

func TestHookFloodsAndFails(t *testing.T) {
	link := start(t, notify.Settings{Exec: []notify.Exec{{Command: shell(`head -c 50000000 /dev/zero; exit 3`)},
		{Command: shell(`printf 'first\nwhy \033[31m'; exit 4`)}}})
	link.Send(notice("1"))
	r := await(t, link, handled(1))
	if got := r.Targets["exec[0]"].Error; !strings.HasPrefix(got, "exit status 3") || len(got) > 1024 {
		t.Errorf("error of %d bytes: %.40q", len(got), got)
	}
	if got := r.Targets["exec[1]"].Error; got != `exit status 4: why \x1b[31m` {
		t.Errorf("error %q", got)
	}
}

// Whatever a hook leaves behind is gone when it is reported as done.
func TestHookForksAndLeaves(t *testing.T) {
	pids := filepath.Join(t.TempDir(), "pids")
	script := `sleep 4711 & echo $! >>"$0"
setsid sleep 4711 </dev/null >/dev/null 2>&1 & echo $! >>"$0"
(setsid sh -c 'echo $$ >>"$1"; sh -c "sleep 4711" & wait' x "$0" &) 
while [ $(wc -l <"$0") -lt 3 ]; do :; done
exit 0`
	link := start(t, notify.Settings{Exec: []notify.Exec{{Command: shell(script, pids)}}})
	link.Send(notice("1"))
	if r := await(t, link, handled(1)); r.Targets["exec[0]"].Delivered != 1 {
		t.Fatalf("report %+v", r)
	}
	left := strings.Fields(read(t, pids))
	if len(left) != 3 {
		t.Fatalf("pids %q", left)
	}
	for _, text := range left {
		pid, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		if err := unix.Kill(pid, 0); err != unix.ESRCH {
			t.Errorf("process %d is still there: %v", pid, err)
		}
	}
}

func TestSeverityAndDrain(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	count := shell(`echo x >>"$0"`, out)
	link := start(t, notify.Settings{Exec: []notify.Exec{{Command: count, MinSeverity: notify.SeverityCritical}, {Command: count}}})
	for i := range 5 {
		link.Send(notice(fmt.Sprint(i)))
	}
	r := await(t, link, handled(5))
	if r.Targets["exec[0]"].Delivered != 0 || r.Targets["exec[1]"].Delivered != 5 {
		t.Errorf("report %+v", r)
	}
	if got := read(t, out); got != "x\nx\nx\nx\nx\n" {
		t.Errorf("ran %q", got)
	}
}

// A target that hangs holds up neither the others nor the queue in front of it.
func TestSlowTargetDropsAndOthersGoOn(t *testing.T) {
	dir := t.TempDir()
	gate, err := net.Listen("tcp", "127.0.0.1:0") // accepts, never answers
	if err != nil {
		t.Fatal(err)
	}
	defer gate.Close()
	url, seen, _ := receiver(t, status(200))
	link := start(t, notify.Settings{Webhooks: []notify.Webhook{{URL: "http://" + gate.Addr().String() + dir, Timeout: time.Hour}, {URL: url}}})
	const n = queueLength + 50
	for i := range n {
		for !link.Send(notice(fmt.Sprint(i))) {
			t.Fatal("the link dropped a notice")
		}
		// One at a time, so that the quick target's own queue never fills.
		<-seen
	}
	r := await(t, link, func(r notify.Report) bool {
		return r.Targets["webhook[1]"].Delivered == n && r.Targets["webhook[0]"].Dropped > 0
	})
	if dropped := r.Targets["webhook[0]"].Dropped; dropped < 49 || dropped > 50 {
		t.Errorf("%d dropped of %d with a queue of %d", dropped, n, queueLength)
	}
}

func TestHelperIsStartedAgain(t *testing.T) {
	out := filepath.Join(t.TempDir(), "pid")
	link := start(t, notify.Settings{Exec: []notify.Exec{{Command: shell(`echo $PPID >>"$0"`, out)}}})
	link.Send(notice("1"))
	await(t, link, handled(1))
	pid, err := strconv.Atoi(strings.TrimSpace(read(t, out)))
	if err != nil {
		t.Fatal(err)
	}
	// The pid is of our own child, which the link has not reaped yet.
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	deadline := time.After(60 * time.Second)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for lines := 1; lines < 2; lines = strings.Count(read(t, out), "\n") {
		link.Send(notice("again"))
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("no second helper")
		}
	}
}

// A daemon that is killed leaves nobody to read the reports: what it has handed over
// is delivered all the same.
func TestDeliversAfterTheDaemonIsGone(t *testing.T) {
	out := filepath.Join(t.TempDir(), "out")
	cmd := exec.Command("/proc/self/exe", "notify-helper")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	reports, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	reports.Close()
	settings := notify.Settings{Exec: []notify.Exec{{Command: shell(`echo x >>"$0"`, out)}}}
	ownCommands(&settings)
	enc := json.NewEncoder(in)
	for _, line := range []notify.Line{{Settings: &settings}, {Notice: notice("1")}, {Notice: notice("2")}, {Notice: notice("3")}} {
		if err := enc.Encode(line); err != nil {
			t.Fatal(err)
		}
	}
	in.Close()
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if got := read(t, out); got != "x\nx\nx\n" {
		t.Errorf("ran %q", got)
	}
}

// TestRefusedCommands: a command runs as nobody but whom it names, and a webhook beside
// it is delivered.
func TestRefusedCommands(t *testing.T) {
	if os.Getuid() != 0 && os.Getenv("CI") == "true" {
		t.Fatal("CI must run this test as root")
	}
	ran := filepath.Join(t.TempDir(), "ran")
	command := shell(`echo x >>"$0"`, ran)
	settings := notify.Settings{Exec: []notify.Exec{{Name: "other", User: "4711", Command: command}, {Name: "none", User: "no such user", Command: command}}}
	if os.Getuid() == 0 {
		settings.Exec = append(settings.Exec, notify.Exec{Name: "unnamed", Command: command})
	}
	posted := make(chan struct{}, 1)
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { posted <- struct{}{} }))
	defer server.Close()
	settings.Webhooks = []notify.Webhook{{URL: server.URL}}
	link := notify.NewLink(notify.Spawn(nil, "notify-helper"), settings, slog.New(slog.DiscardHandler))
	defer link.Close(t.Context())
	link.Send(notice("1"))
	<-posted
	report := await(t, link, handled(1))
	for _, e := range settings.Exec {
		if got := report.Targets[e.Name]; got.Failed != 1 || got.Error == "" {
			t.Errorf("%s: %+v", e.Name, got)
		}
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("one of them ran")
	}
}

// The address of the metrics moves from one helper to the next.
func TestMetricsAddressIsHandedOn(t *testing.T) {
	free, err := listenLoopback("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	proxied := notify.Settings{Metrics: &notify.MetricsProxy{Listen: address, Socket: "/does/not/exist"}}
	link := start(t, proxied) // finds the address in use at first
	free.Close()
	awaitAnswer(t, "http://"+address+"/metrics", http.StatusBadGateway)
	// Only the next helper knows this socket.
	socket := filepath.Join(t.TempDir(), "s")
	daemon, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	go http.Serve(daemon, status(http.StatusOK))
	defer daemon.Close()
	proxied.Metrics = &notify.MetricsProxy{Listen: address, Socket: socket}
	link.Configure(proxied)
	awaitAnswer(t, "http://"+address+"/metrics", http.StatusOK)
}

// awaitAnswer polls until the address answers with the status.
func awaitAnswer(t *testing.T, url string, want int) {
	t.Helper()
	deadline := time.After(60 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		resp, err := http.Get(url)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == want {
				return
			}
			err = fmt.Errorf("%s: status %d, want %d", url, resp.StatusCode, want)
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal(err)
		}
	}
}

func TestServeRefusesNonsense(t *testing.T) {
	for _, in := range []string{"", "{}\n", "nonsense\n", `{"settings":{}}` + "\nnonsense\n"} {
		if err := Serve(t.Context(), strings.NewReader(in), &strings.Builder{}, slog.New(slog.DiscardHandler)); err == nil {
			t.Errorf("%q: no error", in)
		}
	}
}

// TestOneBadTarget proves that targets which cannot be used, each for another reason, keep
// no notice from the others, are told at once, and are used as soon as they can be.
func TestOneBadTarget(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "key")
	url, seen, _ := receiver(t, status(200))
	link := start(t, notify.Settings{
		Webhooks: []notify.Webhook{
			{URL: url, HMACSecretFile: secret, OwnSecret: true},
			{URL: "file:///etc/passwd"},
			{URL: url, Template: "{{.Nope}}"},
			{URL: url},
		},
		Exec: []notify.Exec{{Command: []string{"sh"}}, {Command: shell("cat >" + filepath.Join(dir, "out"))}},
	})
	unusable := func(r notify.Report) (names []string) {
		for _, name := range slices.Sorted(maps.Keys(r.Targets)) {
			if r.Targets[name].Unusable != "" {
				names = append(names, name)
			}
		}
		return names
	}
	await(t, link, func(r notify.Report) bool {
		return slices.Equal(unusable(r), []string{"exec[0]", "webhook[0]", "webhook[1]", "webhook[2]"})
	})
	link.Send(notice("1"))
	r := await(t, link, handled(1))
	<-seen
	if r.Targets["webhook[3]"].Delivered != 1 || r.Targets["exec[1]"].Delivered != 1 {
		t.Errorf("got %+v, want what can be used to have the notice", r.Targets)
	}
	if got := r.Targets["webhook[0]"]; got.Failed != 1 || !strings.Contains(got.Error, "secret") {
		t.Errorf("got %+v, want the secret to be named", got)
	}
	if err := os.WriteFile(secret, []byte("key"), 0o600); err != nil {
		t.Fatal(err)
	}
	link.Send(notice("2"))
	r = await(t, link, handled(2))
	if got := r.Targets["webhook[0]"]; got.Delivered != 1 || got.Unusable != "" {
		t.Errorf("mended: got %+v, want the second notice delivered", got)
	}
}

func TestStatusProblem(t *testing.T) {
	const none = "CapInh:\t0000000000000000\nCapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\n"
	tests := []struct{ name, status, want string }{
		{"nothing left", none, ""},
		{"one capability", strings.Replace(none, "CapPrm:\t0000000000000000", "CapPrm:\t0000000000000020", 1), "CapPrm is 0000000000000020"},
		{"can gain", strings.Replace(none, "NoNewPrivs:\t1", "NoNewPrivs:\t0", 1), "NoNewPrivs is 0"},
		{"unreadable", "", "CapInh is "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := statusProblem(tt.status); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}
