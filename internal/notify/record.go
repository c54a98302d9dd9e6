// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/abot-trace/abot-trace/internal/quantity"
	"github.com/abot-trace/abot-trace/internal/safetext"
	"github.com/abot-trace/abot-trace/internal/trust"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// Record is one journal entry. Values may be anything: they are framed by length.
type Record struct {
	Severity Severity
	Message  string
	Fields   []Field
}

// Field is one named value of a Record. Names are ours: upper case, digits, _.
type Field struct{ Name, Value string }

// Limits of one record: command lines and evidence are cut, with a mark, so that a
// record stays under 32 KiB.
const (
	maxValue = 4 << 10
	maxList  = 32
)

// RecordOf returns the record of an event, with every field of the contract that
// applies. Values are printable text, and command lines are without likely
// secrets.
func RecordOf(e *Event) Record {
	b := builder{}
	b.raw("MESSAGE_ID", MessageIDs[e.Type])
	b.raw("ABOT_EVENT", e.Type)
	b.text("ABOT_EVENT_ID", e.ID)
	if e.Process != nil {
		b.process(e.Process)
	}
	b.signal(e.Signal)
	b.signal(e.Caught)
	if e.Verdict != nil {
		b.raw("ABOT_VERDICT_PREVIOUS", e.Verdict.Previous)
		b.text("ABOT_REASON", e.Verdict.Reason)
	}
	if e.Leak != nil {
		b.leak(e.Leak)
	}
	if e.Trust != nil {
		b.trust(e.Trust)
	}
	if e.Kill != nil {
		if e.Process == nil || e.Process.Orphan == nil {
			b.raw("ABOT_VERDICT", e.Kill.Verdict)
		}
		if e.Process == nil || e.Process.Orphan == nil || e.Process.Orphan.Leak == "" {
			b.text("ABOT_LEAK_ID", e.Kill.Leak)
		}
		b.kill(e.Kill)
	}
	if e.Alert != nil {
		b.alert(e.Alert)
	}
	if e.Lost != nil {
		b.raw("ABOT_LOST", strconv.FormatUint(e.Lost.Records, 10))
	}
	return Record{Severity: SeverityOf(e), Message: Summary(e), Fields: b.fields}
}

// builder collects fields; empty values are left out.
type builder struct{ fields []Field }

// raw adds a value of our own making.
func (b *builder) raw(name, value string) {
	if value != "" {
		b.fields = append(b.fields, Field{name, value})
	}
}

// text adds a value that a process chose.
func (b *builder) text(name, value string) { b.raw(name, printable(value)) }

// printable makes text of any length short and harmless.
func printable(s string) string { return cut(safetext.Terminal(s[:min(len(s), 2*maxValue)])) }

// cut shortens printable text, between characters.
func cut(s string) string {
	if len(s) <= maxValue {
		return s
	}
	return strings.ToValidUTF8(s[:maxValue], "") + "..."
}

func (b *builder) process(p *wire.Process) {
	b.raw("ABOT_PID", strconv.Itoa(int(p.PID)))
	b.raw("ABOT_START_NS", strconv.FormatUint(p.StartNS, 10))
	b.text("ABOT_COMM", p.Comm)
	b.text("ABOT_EXE", p.Exe)
	b.raw("ABOT_CMDLINE", commandLine(p.Cmdline))
	// journald adds its own OBJECT_* fields to this one, for a living process and a
	// root sender only. It wants the pid of its own namespace.
	object := p.PID
	if p.HostPID != 0 {
		object = p.HostPID
	}
	b.raw("OBJECT_PID", strconv.Itoa(int(object)))
	b.text("OBJECT_SYSTEMD_UNIT", p.Unit)
	b.container(p.Container, p.ContainerName, p.ContainerImage, p.Pod)
	if p.Exit != nil {
		b.raw("ABOT_EXIT", exitText(p.Exit))
	}
	if p.Orphan != nil {
		b.orphan(p.Orphan)
	}
}

// container adds the container that something ran in, where it did.
func (b *builder) container(id, name, image string, pod *wire.Pod) {
	b.text("ABOT_CONTAINER", id)
	b.text("ABOT_CONTAINER_NAME", name)
	b.text("ABOT_CONTAINER_IMAGE", image)
	b.text("ABOT_POD", pod.FullName())
}

// trust adds what was decided about a fingerprint or a rule, and by whom.
func (b *builder) trust(t *wire.Trust) {
	b.raw("ABOT_TRUST_ACTION", t.Action)
	b.text("ABOT_FINGERPRINT", t.Fingerprint)
	b.text("ABOT_CMDLINE", t.Name)
	b.text("ABOT_RULE", t.Rule)
	b.text("ABOT_REASON", t.Reason)
	b.text("ABOT_TRUST_BY", trust.Decider(t.By))
}

func (b *builder) signal(s *wire.Signal) {
	if s == nil {
		return
	}
	b.raw("ABOT_SIGNAL", s.Signal)
	if from := s.Sender; from != nil {
		b.raw("ABOT_SENDER_PID", strconv.Itoa(int(from.PID)))
		b.text("ABOT_SENDER_COMM", from.Comm)
		b.raw("ABOT_SENDER_CMDLINE", commandLine(from.Cmdline))
	}
}

func (b *builder) orphan(o *wire.Orphan) {
	b.raw("ABOT_VERDICT", o.Verdict)
	if o.Provisional {
		b.raw("ABOT_PROVISIONAL", "1")
	}
	evidence := o.Evidence[:min(len(o.Evidence), maxList)]
	for _, line := range evidence {
		b.text("ABOT_EVIDENCE", line) // a field may occur more than once
	}
	if l := o.Leaker; l != nil {
		b.raw("ABOT_LEAKER_PID", strconv.Itoa(int(l.PID)))
		b.text("ABOT_LEAKER_COMM", l.Comm)
		b.raw("ABOT_LEAKER_CMDLINE", commandLine(l.Cmdline))
		b.raw("ABOT_LEAKER_EXIT", exitText(l.Exit))
	}
	b.text("ABOT_LEAK_ID", o.Leak)
	if a := o.Adopter; a != nil {
		b.raw("ABOT_ADOPTER_PID", strconv.Itoa(int(a.PID)))
		b.text("ABOT_ADOPTER_COMM", a.Comm)
	}
}

func (b *builder) kill(k *wire.Kill) {
	b.text("ABOT_RULE", k.Rule)
	b.text("ABOT_FINGERPRINT", k.Fingerprint)
	b.raw("ABOT_MODE", k.Mode)
	b.text("ABOT_KILL_ID", k.KillID)
	b.raw("ABOT_OUTCOME", k.Outcome)
	b.text("ABOT_REASON", k.Reason)
	b.text("ABOT_USER", k.User)
	b.text("ABOT_UNIT", k.Unit)
	b.container(k.Container, k.ContainerName, "", nil)
	if held := k.Bytes(); held > 0 {
		b.raw("ABOT_MEMORY_BYTES", strconv.FormatUint(held, 10))
	}
	if r := k.RequestedBy; r != nil {
		b.text("ABOT_REQUESTED_BY", fmt.Sprintf("uid %d pid %d %s", r.UID, r.PID, r.Comm))
	}
	if k.Mode == wire.ModeEnforce {
		b.raw("ABOT_FREED_BYTES", strconv.FormatUint(k.FreedBytes, 10))
	}
	for _, p := range k.Processes[:min(len(k.Processes), maxList)] {
		b.text("ABOT_KILLED", fmt.Sprintf("%d %s %s", p.PID, p.Outcome, p.Comm))
	}
}

func (b *builder) alert(a *wire.Alert) {
	b.text("ABOT_ALERT", a.Name)
	b.raw("ABOT_ALERT_STATE", a.State)
	b.raw("ABOT_ALERT_PREVIOUS", a.Previous)
	if a.Value != nil {
		b.raw("ABOT_ALERT_VALUE", strconv.FormatFloat(*a.Value, 'g', -1, 64))
	}
}

func commandLine(args []string) string {
	args, _ = clip(args)
	return cut(safetext.Args(safetext.Redact(args)))
}

// clip shortens a command line before it is searched for secrets, which takes time
// with its length. It cuts at a blank only: half a secret would not be recognised.
func clip(args []string) (out []string, cut bool) {
	room := 2 * maxValue
	for i, arg := range args {
		if room -= len(arg) + 1; room < 0 {
			head := arg[:min(len(arg), maxValue)]
			head = head[:max(0, strings.LastIndexAny(head, " \t\n"))]
			return append(slices.Clone(args[:i]), head+"..."), true
		}
	}
	return args, false
}

func exitText(e *wire.Exit) string {
	if e == nil {
		return ""
	}
	text := e.Signal
	if text == "" && e.Code != nil {
		text = "exit " + strconv.Itoa(*e.Code)
	}
	if e.Core {
		text += " (core dumped)"
	}
	if e.OOM {
		text += " (out of memory)"
	}
	if k := e.KilledBy; k != nil {
		text += fmt.Sprintf(" by %d (%s)", k.PID, safetext.Terminal(k.Comm))
	}
	if a := e.AskedBy; a != nil {
		text += ", asked by " + a.Signal
		if a.PID != 0 {
			text += fmt.Sprintf(" of %d (%s)", a.PID, safetext.Terminal(a.Comm))
		}
	}
	return text
}

// Summary tells an event in one printable line.
func Summary(e *Event) string {
	who := "a process"
	if p := e.Process; p != nil {
		who = named(p.Comm, p.PID)
	}
	var s string
	switch {
	case e.Type == wire.TypeOrphan && e.Process != nil && e.Process.Orphan != nil:
		s = orphanSummary(who, e.Process.Orphan)
	case e.Verdict != nil && e.Process != nil && e.Process.Orphan != nil:
		s = verdictSummary(who, e.Process.Orphan, e.Verdict)
	case e.Leak != nil:
		s = LeakSummary(e.Leak)
	case e.Trust != nil:
		s = trust.Sentence(e.Trust)
	case e.Kill != nil:
		s = killSummary(who, e.Kill)
	case e.Alert != nil:
		s = e.Alert.Message
	case e.Lost != nil && e.Lost.Where == wire.LostFromHistory:
		s = fmt.Sprintf("%d entries are missing from the history: the disk did not take them", e.Lost.Records)
	case e.Lost != nil:
		s = fmt.Sprintf("%d events were lost; the process tree is read again", e.Lost.Records)
	case e.Resync != nil:
		s = fmt.Sprintf("process tree read again (%s): %d found, %d vanished", e.Resync.Reason, e.Resync.Found, e.Resync.Vanished)
	case e.Type == wire.TypeOOM:
		s = who + " was chosen by the OOM killer"
		if e.OOM != nil && e.OOM.RSSBytes > 0 {
			s += " with " + quantity.FormatSize(uint64(e.OOM.RSSBytes))
		}
	case e.Signal != nil:
		s = who + " is sent " + e.Signal.Signal + sentBy(e.Signal)
	case e.Caught != nil:
		s = who + " is asked to end by " + e.Caught.Signal + sentBy(e.Caught)
	case e.Type == wire.TypeExit && e.Process != nil && e.Process.Exit != nil:
		s = who + " ended: " + exitText(e.Process.Exit)
	default:
		s = who + ": " + e.Type
	}
	return printable(s)
}

func named(comm string, pid int32) string {
	return fmt.Sprintf("%s[%d]", safetext.Terminal(comm[:min(len(comm), 256)]), pid)
}

func orphanSummary(who string, o *wire.Orphan) string {
	s := who + " was orphaned"
	if !o.Direct {
		s = who + " was stranded"
	}
	if l := o.Leaker; l != nil {
		s += " by " + named(l.Comm, l.PID)
		if how := exitText(l.Exit); how != "" {
			s += " (" + how + ")"
		}
	}
	return s + ": " + o.Verdict
}

func verdictSummary(who string, o *wire.Orphan, v *wire.VerdictChange) string {
	s := who + " is " + o.Verdict
	if v.Previous != o.Verdict {
		s += ", and not " + v.Previous
	}
	return s + because(v.Reason)
}

func sentBy(s *wire.Signal) string {
	if s.Sender == nil {
		return ""
	}
	return " by " + named(s.Sender.Comm, s.Sender.PID)
}

func killSummary(who string, k *wire.Kill) string {
	trees := fmt.Sprintf("%s with its tree of %d", who, len(k.Processes))
	switch {
	case k.Leak != "":
		trees = fmt.Sprintf("%s of leak %s", quantity.Count(len(k.Processes), "process"), k.Leak)
		if k.Name != "" {
			trees += " (" + safetext.Terminal(k.Name) + ")"
		}
	case len(k.Processes) <= 1:
		trees = who
	}
	trees += whose(cmp.Or(k.ContainerName, k.Container), k.Unit, k.User)
	if r := k.RequestedBy; r != nil && k.Rule == wire.RuleManual {
		if k.Outcome == wire.KillPartial {
			return fmt.Sprintf("user %d asked to end %s: not all of it could be ended", r.UID, trees)
		}
		return fmt.Sprintf("user %d ended %s by hand, %s freed", r.UID, trees, quantity.FormatSize(k.FreedBytes))
	}
	switch k.Outcome {
	case wire.KillObserved:
		verb := "hold"
		if len(k.Processes) <= 1 {
			verb = "holds"
		}
		return fmt.Sprintf("rule %s would kill %s, which %s %s%s", k.Rule, trees, verb, quantity.FormatSize(k.Bytes()), because(k.Reason))
	case wire.KillBudget:
		return fmt.Sprintf("rule %s leaves %s for now%s", k.Rule, trees, because(k.Reason))
	case wire.KillPartial:
		return fmt.Sprintf("rule %s could not end all of %s", k.Rule, trees)
	default:
		return fmt.Sprintf("rule %s ended %s, %s freed%s", k.Rule, trees, quantity.FormatSize(uint64(k.FreedBytes)), because(k.Reason))
	}
}

// whose says where something ran and as whom, as far as that is known.
func whose(container, unit, user string) (s string) {
	if where := cmp.Or(container, unit); where != "" {
		s = " in " + safetext.Terminal(where)
	}
	if user != "" {
		s += " (user " + safetext.Terminal(user) + ")"
	}
	return s
}

// because appends a reason to a sentence, where there is one.
func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}
