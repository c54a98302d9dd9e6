// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"bufio"
	"fmt"
	"log/slog"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/abot-trace/abot-trace/internal/wire"
)

// full is an event with everything in it that a record can show.
func full(kind string) *Event {
	code, value := 3, 91.5
	e := &Event{Schema: wire.Schema, ID: "m-b-1-2", Type: kind, Time: time.Unix(0, 0).UTC(), Process: &wire.Process{
		PID: 7, StartNS: 123, HostPID: 1007, Comm: "x\nPRIORITY=0\x1b[31m", Exe: "/bin/x", Unit: "a\u202eb.service",
		Cmdline: []string{"x", "--password=hunter2", "a\nb"}, Exit: &wire.Exit{Code: &code},
		Orphan: &wire.Orphan{Direct: true, Verdict: wire.VerdictLeaked, Evidence: []string{"one\n", "two"},
			Leaker: &wire.Leaker{PID: 6, Comm: "sh\xff", Cmdline: []string{"sh", "TOKEN=abc"},
				Exit: &wire.Exit{Signal: "SIGKILL", OOM: true, KilledBy: &wire.Ref{PID: 5, Comm: "bash"}}},
			Adopter: &wire.Adopter{PID: 1, Comm: "systemd"}},
	}}
	switch kind {
	case wire.TypeKill:
		e.Kill = &wire.Kill{KillID: "k1", Rule: "r", Mode: "enforce", Outcome: wire.KillDone, Verdict: wire.VerdictLeaked, Reason: "old",
			FreedBytes: 4096, Processes: []wire.Killed{{PID: 7, Outcome: wire.OutcomeDied, Comm: "x\n"}, {PID: 8, Outcome: wire.OutcomeZombie, Comm: "y"}}}
	case wire.TypeAlert:
		e.Process = nil
		e.Alert = &wire.Alert{Name: "memory", State: wire.AlertCritical, Previous: wire.AlertOK, Value: &value, Message: "memory is critical: 91.5 %"}
	case wire.TypeLeak:
		held, code := uint64(64<<20), 1
		e.Process, e.Leak = nil, &wire.Leak{ID: "L0123456789ab", Change: wire.LeakOpened, State: wire.LeakStateOpen, Fingerprint: "Fba9876543210",
			Name: "x --id {n}", Verdict: wire.VerdictLeaked, Evidence: []string{"one\n"}, RSSBytes: &held, SwapBytes: &held,
			Leaker:    wire.LeakLeaker{PID: 6, Comm: "sh\xff", User: "bob", Unit: "a.service", Exit: &wire.Exit{Code: &code}},
			Processes: wire.LeakCount{Now: 3, Peak: 4, Total: 5}}
	case wire.TypeTrust:
		e.Process, e.Trust = nil, &wire.Trust{Action: wire.TrustIgnore, Kind: wire.TrustIgnore, Fingerprint: "Fba9876543210", Name: "x --id {n}",
			Reason: "one\n", By: &wire.TrustBy{UID: 7, User: "bob"}}
	case wire.TypeLost:
		e.Process, e.Lost = nil, &wire.Lost{Records: 17}
	case wire.TypeResync:
		e.Process, e.Resync = nil, &wire.Resync{Reason: "loss", Found: 2, Vanished: 1}
	case wire.TypeSignal:
		e.Signal = &wire.Signal{Signal: "SIGKILL", Sender: &wire.Sender{PID: 9, Comm: "k\n"}}
	case wire.TypeCaught:
		e.Caught = &wire.Signal{Signal: "SIGTERM", Effect: "caught", Sender: &wire.Sender{PID: 9, Comm: "k\n", Cmdline: []string{"k", "-TERM"}}}
	case wire.TypeVerdict:
		e.Verdict = &wire.VerdictChange{Previous: wire.VerdictUnknown, Reason: "its exec\n"}
		e.Process.Orphan.Provisional = true
		e.Process.Exit.AskedBy = &wire.Asked{PID: 9, Comm: "k\n", Signal: "SIGTERM", Seconds: 2}
	case wire.TypeOOM:
		e.OOM = &wire.OOM{RSSBytes: 1 << 30}
	}
	return e
}

func lines(r Record) []string {
	out := []string{fmt.Sprintf("%s: %s", r.Severity, r.Message)}
	for _, f := range r.Fields {
		if f.Name != "MESSAGE_ID" {
			out = append(out, f.Name+"="+f.Value)
		}
	}
	return out
}

func TestRecordOf(t *testing.T) {
	process := []string{`ABOT_PID=7`, `ABOT_START_NS=123`, `ABOT_COMM=x\nPRIORITY=0\x1b[31m`, `ABOT_EXE=/bin/x`,
		`ABOT_CMDLINE=x '--password=***' $'a\nb'`, `OBJECT_PID=1007`, `OBJECT_SYSTEMD_UNIT=a\u202eb.service`, `ABOT_EXIT=exit 3`,
		`ABOT_VERDICT=leaked`, `ABOT_EVIDENCE=one\n`, `ABOT_EVIDENCE=two`,
		`ABOT_LEAKER_PID=6`, `ABOT_LEAKER_COMM=sh\xff`, `ABOT_LEAKER_CMDLINE=sh 'TOKEN=***'`, `ABOT_LEAKER_EXIT=SIGKILL (out of memory) by 5 (bash)`,
		`ABOT_ADOPTER_PID=1`, `ABOT_ADOPTER_COMM=systemd`}
	const who = `x\nPRIORITY=0\x1b[31m[7]`
	tests := []struct {
		kind, message string
		process       bool
		more          []string
	}{
		{wire.TypeOrphan, `warning: ` + who + ` was orphaned by sh\xff[6] (SIGKILL (out of memory) by 5 (bash)): leaked`, true, nil},
		{wire.TypeKill, `notice: rule r ended ` + who + ` with its tree of 2, 4 KiB freed: old`, true,
			[]string{"ABOT_RULE=r", "ABOT_MODE=enforce", "ABOT_KILL_ID=k1", "ABOT_OUTCOME=done", "ABOT_REASON=old",
				"ABOT_FREED_BYTES=4096", `ABOT_KILLED=7 died x\n`, "ABOT_KILLED=8 zombie y"}},
		{wire.TypeAlert, "critical: memory is critical: 91.5 %", false,
			[]string{"ABOT_ALERT=memory", "ABOT_ALERT_STATE=critical", "ABOT_ALERT_PREVIOUS=ok", "ABOT_ALERT_VALUE=91.5"}},
		{wire.TypeLost, "warning: 17 events were lost; the process tree is read again", false, []string{"ABOT_LOST=17"}},
		{wire.TypeResync, "info: process tree read again (loss): 2 found, 1 vanished", false, nil},
		{wire.TypeSignal, "debug: " + who + ` is sent SIGKILL by k\n[9]`, true, []string{"ABOT_SIGNAL=SIGKILL", "ABOT_SENDER_PID=9", `ABOT_SENDER_COMM=k\n`}},
		{wire.TypeCaught, "debug: " + who + ` is asked to end by SIGTERM by k\n[9]`, true,
			[]string{"ABOT_SIGNAL=SIGTERM", "ABOT_SENDER_PID=9", `ABOT_SENDER_COMM=k\n`, "ABOT_SENDER_CMDLINE=k -TERM"}},
		{wire.TypeVerdict, "warning: " + who + ` is leaked, and not unknown: its exec\n`, true,
			[]string{"ABOT_VERDICT_PREVIOUS=unknown", `ABOT_REASON=its exec\n`}},
		{wire.TypeLeak, `warning: leak L0123456789ab of x --id {n} in a.service (user bob), left by pid 6 (exit 1): leaked, one\n: 3 processes, 128 MiB; see abot-trace explain L0123456789ab`,
			false, []string{"ABOT_LEAK_ID=L0123456789ab", "ABOT_LEAK_CHANGE=opened", "ABOT_FINGERPRINT=Fba9876543210", "ABOT_VERDICT=leaked",
				`ABOT_EVIDENCE=one\n`, "ABOT_CMDLINE=x --id {n}", "ABOT_LEAKER_PID=6", `ABOT_LEAKER_COMM=sh\xff`, "ABOT_LEAKER_EXIT=exit 1",
				"ABOT_USER=bob", "ABOT_UNIT=a.service", "ABOT_PROCESSES=3", "ABOT_MEMORY_BYTES=134217728"}},
		{wire.TypeTrust, `notice: leaks of Fba9876543210 (x --id {n}) are ignored: no rule ends them, says bob: one\n`, false,
			[]string{"ABOT_TRUST_ACTION=ignore", "ABOT_FINGERPRINT=Fba9876543210", "ABOT_CMDLINE=x --id {n}", `ABOT_REASON=one\n`, "ABOT_TRUST_BY=bob"}},
		{wire.TypeOOM, "error: " + who + " was chosen by the OOM killer with 1 GiB", true, nil},
		{wire.TypeExit, "debug: " + who + " ended: exit 3", true, nil},
		{wire.TypeFork, "debug: " + who + ": fork", true, nil},
		{wire.TypeExec, "debug: " + who + ": exec", true, nil},
	}
	told := map[string]bool{}
	for _, tt := range tests {
		told[tt.kind] = true
		t.Run(tt.kind, func(t *testing.T) {
			want := []string{tt.message, "ABOT_EVENT=" + tt.kind, "ABOT_EVENT_ID=m-b-1-2"}
			if tt.process {
				want = append(want, process...)
			}
			if tt.kind == wire.TypeVerdict {
				want[slices.Index(want, "ABOT_EXIT=exit 3")] += `, asked by SIGTERM of 9 (k\n)`
				want = slices.Insert(want, slices.Index(want, "ABOT_VERDICT=leaked")+1, "ABOT_PROVISIONAL=1")
			}
			if diff := cmp.Diff(append(want, tt.more...), lines(RecordOf(full(tt.kind)))); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
	for _, kind := range wire.Types {
		if !told[kind] {
			t.Errorf("type %s is not tested", kind)
		}
	}
}

// A verdict is told once: the orphan's, or else the kill's.
func TestVerdictOnce(t *testing.T) {
	for _, e := range []*Event{full(wire.TypeKill), {Type: wire.TypeKill, Kill: &wire.Kill{Verdict: wire.VerdictLeaked}}} {
		if got := strings.Count(strings.Join(lines(RecordOf(e)), "\n"), "ABOT_VERDICT=leaked"); got != 1 {
			t.Errorf("%d verdicts, want 1", got)
		}
	}
}

func TestKillSentences(t *testing.T) {
	for outcome, want := range map[string]string{
		wire.KillObserved: "rule r would kill x[7], which holds 0 B: warming up after a start",
		wire.KillBudget:   "rule r leaves x[7] for now: warming up after a start",
		wire.KillPartial:  "rule r could not end all of x[7]",
		wire.KillDone:     "rule r ended x[7], 0 B freed: warming up after a start",
	} {
		e := &Event{Type: wire.TypeKill, Process: &wire.Process{PID: 7, Comm: "x"}, Kill: &wire.Kill{Rule: "r", Outcome: outcome, Reason: "warming up after a start"}}
		if got := Summary(e); got != want {
			t.Errorf("%s: got %q, want %q", outcome, got, want)
		}
	}
	by := &Event{Type: wire.TypeKill, Process: &wire.Process{PID: 7, Comm: "x"}, Kill: &wire.Kill{Rule: "manual", Outcome: wire.KillDone,
		RequestedBy: &wire.Requester{UID: 1000, PID: 9, Comm: "ba\nsh"}}}
	if got := Summary(by); got != "user 1000 ended x[7] by hand, 0 B freed" {
		t.Error(got)
	}
	if got := lines(RecordOf(by)); !slices.Contains(got, `ABOT_REQUESTED_BY=uid 1000 pid 9 ba\nsh`) {
		t.Error(got)
	}
	rss := uint64(1 << 20)
	k := &wire.Kill{Rule: "r", Outcome: wire.KillObserved, Reason: "it is old", Leak: "L00112233aabb", Name: "app\x1b[m <n>", Unit: "a.service", User: "bob",
		Processes: []wire.Killed{{PID: 7, RSSBytes: &rss}, {PID: 8, RSSBytes: &rss}}}
	want := `rule r would kill 2 processes of leak L00112233aabb (app\x1b[m <n>) in a.service (user bob), which hold 2 MiB: it is old`
	if got := Summary(&Event{Type: wire.TypeKill, Kill: k}); got != want {
		t.Errorf("of a leak: got %q, want %q", got, want)
	}
}

// Partial events, as an older or newer daemon may send, make no trouble.
func TestEmptyEvents(t *testing.T) {
	for _, kind := range append([]string{"", "new"}, wire.Types...) {
		e := &Event{Type: kind}
		if r := RecordOf(e); r.Message == "" {
			t.Errorf("%q: no message", kind)
		}
		e.Process = &wire.Process{Orphan: &wire.Orphan{Leaker: &wire.Leaker{}, Adopter: &wire.Adopter{}}}
		e.Kill, e.Alert = &wire.Kill{}, &wire.Alert{Message: "m"}
		RecordOf(e)
	}
}

func TestRecordIsBounded(t *testing.T) {
	e := full(wire.TypeOrphan)
	long := strings.Repeat("é", 1<<20)
	e.Process.Cmdline = []string{long}
	e.Process.Orphan.Leaker.Cmdline = []string{long}
	e.Process.Comm, e.Process.Exe = long, long
	for range 1000 {
		e.Process.Orphan.Evidence = append(e.Process.Orphan.Evidence, "one more line")
	}
	if n := len(encode(RecordOf(e))); n > 32<<10 {
		t.Errorf("a record of %d bytes, want at most 32 KiB", n)
	}
}

// A cut does not leave half a secret.
func TestClip(t *testing.T) {
	secret := "postgres://joe:hunter2@db/x"
	for pad := maxValue - 60; pad < maxValue; pad++ {
		got := commandLine([]string{"sh", "-c", strings.Repeat("x", pad) + " " + secret + " " + strings.Repeat("y", 3*maxValue)})
		if strings.Contains(got, "hunter") {
			t.Fatalf("after %d bytes: %s", pad, got[len(got)-80:])
		}
	}
	many := make([]string, 10000)
	for i := range many {
		many[i] = "argument"
	}
	if got, cut := clip(many); !cut || len(got) > 2*maxValue/8 || got[len(got)-1] != "..." {
		t.Errorf("%d arguments left, the last %q", len(got), got[len(got)-1])
	}
}

// Every MESSAGE_ID is explained, every explanation belongs to one, and every field
// that an explanation shows exists.
func TestCatalog(t *testing.T) {
	f, err := os.Open("../../deploy/systemd/abot-trace.catalog")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fields := map[string]bool{}
	known := map[string]string{DroppedID: "dropped"}
	for _, kind := range wire.Types {
		id := MessageIDs[kind]
		if !regexp.MustCompile(`^[0-9a-f]{32}$`).MatchString(id) || known[id] != "" {
			t.Errorf("%s: MESSAGE_ID %q is malformed or not unique", kind, id)
		}
		known[id] = kind
		for _, field := range RecordOf(full(kind)).Fields {
			fields[field.Name] = true
		}
	}
	if len(MessageIDs) != len(wire.Types) {
		t.Errorf("%d MESSAGE_IDs for %d types", len(MessageIDs), len(wire.Types))
	}
	explained := map[string]bool{}
	field := regexp.MustCompile(`@([A-Z_]+)@`)
	for scan := bufio.NewScanner(f); scan.Scan(); {
		if id, ok := strings.CutPrefix(scan.Text(), "-- "); ok {
			if known[id] == "" || explained[id] {
				t.Errorf("catalog entry %s: unknown or twice", id)
			}
			explained[id] = true
		}
		for _, m := range field.FindAllStringSubmatch(scan.Text(), -1) {
			if !fields[m[1]] {
				t.Errorf("catalog shows %s, which no record has", m[1])
			}
		}
	}
	for id, kind := range known {
		if !explained[id] {
			t.Errorf("%s: MESSAGE_ID %s has no catalog entry", kind, id)
		}
	}
}

type keep struct{ records []Record }

func (k *keep) Send(r Record) bool { k.records = append(k.records, r); return true }

func TestHandler(t *testing.T) {
	var sink keep
	log := slog.New(NewHandler(&sink, slog.LevelInfo)).With("pid", 7).WithGroup("kill").With("rule", "a\nb")
	log.Debug("not wanted")
	log.Warn("line\none", "signal", "SIGKILL", slog.Group("who", "user name", "joe"), "error", fmt.Errorf("x\x1b"))
	if len(sink.records) != 1 {
		t.Fatalf("%d records, want 1", len(sink.records))
	}
	want := []string{`warning: line\none`, "ABOT_PID=7", `ABOT_KILL_RULE=a\nb`, "ABOT_KILL_SIGNAL=SIGKILL", "ABOT_KILL_WHO_USER_NAME=joe", `ABOT_KILL_ERROR=x\x1b`}
	if diff := cmp.Diff(want, lines(sink.records[0])); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	slog.New(NewHandler(&sink, nil)).Info("m", strings.Repeat("k", 100), 1)
	if name := sink.records[1].Fields[0].Name; len(name) > 64 {
		t.Errorf("field name of %d characters", len(name))
	}
}

func TestSeverity(t *testing.T) {
	priorities := map[Severity]int{SeverityDebug: 7, SeverityInfo: 6, SeverityNotice: 5, SeverityWarning: 4, SeverityError: 3, SeverityCritical: 2}
	for s, want := range priorities {
		if got := s.priority(); got != want {
			t.Errorf("%v: priority %d, want %d", s, got, want)
		}
		if back, err := ParseSeverity(s.String()); err != nil || back != s {
			t.Errorf("%v comes back as %v, %v", s, back, err)
		}
	}
	if _, err := ParseSeverity("loud"); err == nil || err.Error() != `severity "loud": want one of debug, info, notice, warning, error, critical` {
		t.Errorf("error %v", err)
	}
}

func TestDispatcher(t *testing.T) {
	var sink keep
	d := NewDispatcher(&sink, nil, Settings{})
	d.Notify(full(wire.TypeOrphan))
	d.Notify(full(wire.TypeFork))
	if len(sink.records) != 1 || d.wants(SeverityDebug, &Event{Type: wire.TypeFork}) {
		t.Errorf("%d records, wants debug %v: lifecycle is told only when asked for", len(sink.records), d.wants(SeverityDebug, &Event{Type: wire.TypeFork}))
	}
	d.Configure(Settings{Journald: SeverityDebug})
	d.Notify(full(wire.TypeFork))
	if len(sink.records) != 2 || !d.wants(SeverityDebug, &Event{Type: wire.TypeFork}) {
		t.Error("lifecycle is not told though asked for")
	}
	if !NewDispatcher(&sink, nil, Settings{Journald: SeverityCritical, Exec: []Exec{{MinSeverity: SeverityDebug}}}).wants(SeverityDebug, &Event{Type: wire.TypeFork}) {
		t.Error("a hook that wants everything is forgotten")
	}
}

func TestRedactedLeavesTheOriginal(t *testing.T) {
	e := full(wire.TypeOrphan)
	got := Redacted(e)
	if got.Process.Cmdline[1] != "--password=***" || got.Process.Orphan.Leaker.Cmdline[1] != "TOKEN=***" {
		t.Errorf("not redacted: %q, %q", got.Process.Cmdline, got.Process.Orphan.Leaker.Cmdline)
	}
	if e.Process.Cmdline[1] != "--password=hunter2" || e.Process.Orphan.Leaker.Cmdline[1] != "TOKEN=abc" {
		t.Error("the event itself was changed")
	}
}

func TestSettingsValidate(t *testing.T) {
	tests := []struct {
		name string
		in   Settings
		want string
	}{
		{"nothing", Settings{}, ""},
		{"fine", Settings{Webhooks: []Webhook{{URL: "https://h/x", Template: `{"text": {{json .Text}}}`}}, Exec: []Exec{{Command: []string{"/bin/true"}}}}, ""},
		{"scheme", Settings{Webhooks: []Webhook{{URL: "ftp://h/"}}}, "notify.webhook[0]: url: want http:// or https:// and a host"},
		{"no host", Settings{Webhooks: []Webhook{{URL: "https:///x"}}}, "notify.webhook[0]: url: want http:// or https:// and a host"},
		{"credentials", Settings{Webhooks: []Webhook{{URL: "https://u:p@h/"}}}, "notify.webhook[0]: url: no credentials here; secrets come from files"},
		{"broken url keeps its secret", Settings{Webhooks: []Webhook{{URL: "https://u:p@h:x/"}}}, "notify.webhook[0]: url: cannot be parsed"},
		{"relative secret", Settings{Webhooks: []Webhook{{URL: "https://h/", HMACSecretFile: "key"}}}, `notify.webhook[0]: hmac_secret_file "key": want an absolute path`},
		{"template", Settings{Webhooks: []Webhook{{URL: "https://h/", Template: "{{.Nope"}}}, "notify.webhook[0]: template: template: webhook:1: unclosed action"},
		{"timeout", Settings{Webhooks: []Webhook{{URL: "https://h/", Timeout: -1}}}, "notify.webhook[0]: timeout -1ns is negative"},
		{"no command", Settings{Exec: []Exec{{}}}, "notify.exec[0]: command: is empty"},
		{"relative command", Settings{Exec: []Exec{{Command: []string{"sh"}}}}, `notify.exec[0]: command "sh": want an absolute path`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := ""
			if err := tt.in.Validate(); err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func BenchmarkRecordOf(b *testing.B) {
	e := full(wire.TypeOrphan)
	b.ReportAllocs()
	for b.Loop() {
		encode(RecordOf(e))
	}
}

var _ slog.Handler = (*Handler)(nil)
