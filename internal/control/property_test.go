// SPDX-License-Identifier: Apache-2.0

package control

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/abot-trace/abot-trace/internal/boottime"
	"github.com/abot-trace/abot-trace/internal/config"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/lease"
	"github.com/abot-trace/abot-trace/internal/policy"
	"github.com/abot-trace/abot-trace/internal/trace"
	"github.com/abot-trace/abot-trace/internal/verdict"
)

// A program is what one exec has begun, and its copies run as well.
type program struct {
	number uint32 // the kernel's count
	keep   bool   // it says ABOT_TRACE_KEEP=1
	known  bool   // its exec was seen, or somebody who runs it was read since
}

// A proc is a process as it truly is.
type proc struct {
	id       event.ID
	spawner  *proc
	runs     *program
	ids      event.UIDs
	dead     bool
	execLost bool // its last exec was its own, and the record of it was lost
}

// reality is a machine, with the controller that hears of it, not all and not at once.
type reality struct {
	t       *rapid.T
	c       *Controller
	all     []*proc
	clock   uint64
	lost    bool // records, since the last snapshot
	refused uint64
}

const ruleUser = 1000

var userIDsOfReality = []event.UIDs{{}, {Real: ruleUser, Effective: ruleUser, Saved: ruleUser}, {Real: 33, Effective: 33, Saved: 33},
	{Real: ruleUser}, {Real: ruleUser, Effective: 33, Saved: ruleUser}, {Effective: 33}}

func newReality(t *rapid.T, dir string, oneShot bool) *reality {
	path := filepath.Join(dir, "config.yaml")
	text := fmt.Sprintf(`
rules:
  - {name: any, mode: enforce, match: {verdict: [leaked]}, orphaned_for: 0s}
  - {name: all, mode: enforce, match: {verdict: [leaked, unknown], cmdline: program}, orphaned_for: 0s}
  - {name: user, mode: enforce, match: {verdict: [leaked, unknown], user: [%d]}, orphaned_for: 0s}
`, ruleUser)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg, err := config.Load(path, config.Options{})
	if err != nil {
		t.Fatal(err)
	}
	source := &script{wake: make(chan struct{}, 1)}
	w := &reality{t: t, clock: boottime.Now() - 1e12}
	w.c = New(Options{Tasks: source, Log: slog.New(slog.DiscardHandler), OneShot: oneShot})
	w.c.Attach(trace.New(source, trace.Options{}))
	if err := w.c.Configure(cfg); err != nil {
		t.Fatal(err)
	}
	w.c.view.users.read = w.userIDs
	w.all = []*proc{{id: event.ID{PID: 1, Start: 1}, runs: &program{number: 1, known: true}}}
	w.snapshot()
	return w
}

func (w *reality) tick() uint64 { w.clock += 1000; return w.clock }

func (w *reality) userIDs(id event.ID) (event.UIDs, error) {
	for _, p := range w.all {
		if p.id == id && !p.dead {
			return p.ids, nil
		}
	}
	return event.UIDs{}, errors.New("gone")
}

// tell has the tree hear of it, or not.
func (w *reality) tell(e event.Event, lost bool) {
	if lost {
		w.lost = true
		w.refused++
		return
	}
	e.Refused = w.refused
	w.c.tracer.TreeOnLoop().Apply(&e)
}

func (w *reality) pick(what string) *proc {
	var living []*proc
	for _, p := range w.all[1:] {
		if !p.dead {
			living = append(living, p)
		}
	}
	if len(living) == 0 {
		return nil
	}
	return rapid.SampledFrom(living).Draw(w.t, what)
}

func (w *reality) isLost() bool { return rapid.IntRange(0, 15).Draw(w.t, "lost") == 0 }

func (w *reality) fork() {
	from := w.pick("spawner")
	if from == nil || rapid.IntRange(0, 6).Draw(w.t, "of init") == 0 {
		from = w.all[0]
	}
	id := event.ID{PID: unused + int32(len(w.all)), Start: w.tick()}
	p := &proc{id: id, spawner: from, runs: from.runs, ids: from.ids}
	w.all = append(w.all, p)
	w.tell(event.Event{Kind: event.KindFork, Subject: id, Time: id.Start, UID: p.ids.Real, ExecID: p.runs.number,
		Fork: event.Fork{Spawner: from.id, Caller: from.id}}, w.isLost())
}

func (w *reality) exec() {
	p := w.pick("who executes")
	if p == nil {
		return
	}
	lost, big := w.isLost(), rapid.IntRange(0, 3).Draw(w.t, "big environment") == 0
	keep := rapid.IntRange(0, 2).Draw(w.t, "keep") == 0
	p.runs = &program{number: p.runs.number + 1, keep: keep, known: !lost}
	p.execLost = lost
	w.tell(event.Event{Kind: event.KindExec, Subject: p.id, Time: w.tick(), Ordinal: p.runs.number, ExecID: p.runs.number, UID: p.ids.Real,
		Exec: event.Exec{Filename: "/program", Cmdline: "program\x00", MarksKnown: !big, Keep: keep && !big}}, lost)
}

func (w *reality) setuid() {
	if p := w.pick("whose ids change"); p != nil {
		p.ids = rapid.SampledFrom(userIDsOfReality).Draw(w.t, "ids")
	}
}

func (w *reality) exit() {
	p := w.pick("who dies")
	if p == nil {
		return
	}
	p.dead = true
	w.tell(event.Event{Kind: event.KindExit, Subject: p.id, Time: w.tick(), UID: p.ids.Real, ExecID: p.runs.number,
		Exit: event.Exit{Status: 9, HasChildren: true, EUID: p.ids.Effective, SUID: p.ids.Saved}}, w.isLost())
}

func (w *reality) snapshot() {
	began := w.tick()
	var tasks []event.Task
	for _, p := range w.all {
		if p.dead {
			continue
		}
		parent := w.all[0].id
		if p.spawner != nil && !p.spawner.dead {
			parent = p.spawner.id
		}
		tasks = append(tasks, event.Task{ID: p.id, Parent: parent, UID: p.ids.Real, EUID: p.ids.Effective, SUID: p.ids.Saved,
			ExecID: p.runs.number, NSInit: p.id.PID == 1})
	}
	w.c.tracer.TreeOnLoop().Begin(tasks, began).End()
	w.lost = false
}

// read reads a process as procfs shows it.
func (w *reality) read() {
	p := w.pick("who is read")
	if p == nil {
		return
	}
	tree := w.c.tracer.TreeOnLoop()
	if known, ok := tree.Get(p.id); !ok || known.Program != p.runs.number {
		return // what is read then is taken for nothing
	}
	if rapid.Bool().Draw(w.t, "the program") {
		tree.SetCmdline(p.id, "/program", "program\x00", false)
	}
	if rapid.Bool().Draw(w.t, "the marks") {
		tree.SetMarks(p.id, p.runs.keep, false)
	}
	if known, _ := tree.Get(p.id); !known.Unread {
		p.runs.known = true
	}
}

func (w *reality) judge() {
	tree := w.c.tracer.TreeOnLoop()
	for _, p := range w.all {
		if known, ok := tree.Get(p.id); ok && !known.Dead && known.Orphan != nil && known.Orphan.Verdict == "" && known.Orphan.Leaker != nil {
			tree.SetVerdict(p.id, rapid.SampledFrom([]string{verdict.Leaked, verdict.Leaked, verdict.Unknown, verdict.Deliberate}).Draw(w.t, "verdict"), false, nil)
		}
	}
}

func (w *reality) find(id event.ID) *proc {
	for _, p := range w.all {
		if p.id == id {
			return p
		}
	}
	w.t.Fatalf("nobody is %v", id)
	return nil
}

// decide asks rules and leases, as it is done when no records are missing, and looks at each
// whom they would end.
func (w *reality) decide(oneShot bool) {
	if w.lost {
		return // every kill waits for the next snapshot: see TestKillWaitsForRecords
	}
	w.c.view.users.forget()
	engine, err := w.c.newEngine(nil)
	if err != nil {
		w.t.Fatal(err)
	}
	now := boottime.Now()
	v := w.c.bind()
	for _, d := range engine.Evaluate(v, &w.c.host, now) {
		if !d.Enforces() {
			continue
		}
		leaker := w.find(d.Root).ids // stands in where the end of the leaker was not seen
		if o, _ := w.c.tracer.TreeOnLoop().Get(d.Root); o.Orphan.Leaker != nil && o.Orphan.Leaker.End.Known {
			leaker = w.find(o.Orphan.Leaker.ID).ids
		}
		for _, target := range d.Targets {
			w.mayEnd(d.Rule, target, leaker, d.Rule == "user", oneShot)
		}
	}
	for _, holder := range w.all {
		if !holder.dead {
			continue
		}
		l := lease.Lease{Holder: holder.id, UID: holder.ids.Real, HolderUIDs: holder.ids, ExitSeen: true}
		list, _, _ := w.c.leaseMembers(v, l, nil)
		for _, target := range list {
			w.mayEnd("lease", target, holder.ids, false, false)
		}
	}
}

func (w *reality) mayEnd(by string, target policy.Target, leaker event.UIDs, namesUser, oneShot bool) {
	p := w.find(target.ID)
	known, _ := w.c.tracer.TreeOnLoop().Get(p.id)
	named := namesUser && p.ids == event.UIDs{Real: ruleUser, Effective: ruleUser, Saved: ruleUser}
	// Root reaches anyone, and whoever could have ended the leaker its like.
	root := leaker.Real == 0 && leaker.Saved == 0 || leaker.Real == p.ids.Real && leaker.Saved == p.ids.Saved
	switch {
	case p.runs.keep:
		w.t.Errorf("%s ends %v, which says that it is to be kept", by, p.id)
	case !known.MarksKnown:
		w.t.Errorf("%s ends %v, whose marks are not known", by, p.id)
	case !root && !named && !slices.Contains([]uint32{leaker.Real, leaker.Saved}, p.ids.Real),
		!root && !named && p.ids.Real != p.ids.Saved,
		!root && !named && p.ids.Real == 0:
		w.t.Errorf("%s ends %v of %+v, whom the leaker, of %+v, could not have signalled", by, p.id, p.ids, leaker)
	case !p.runs.known:
		w.t.Errorf("%s ends %v, whose last exec was neither seen nor read", by, p.id)
	case p.execLost && !oneShot:
		w.t.Errorf("%s ends %v, whose lineage is only inferred since its exec was lost", by, p.id)
	}
}

// TestNobodyWrongIsDecidedUpon lets random trees with users, marks and gaps come and go, and
// wants no decision of a rule or a lease to contain a process that says it is to be kept,
// whose marks are not known, that the leaker could not have signalled and the rule does not
// name, or whose last exec was neither seen nor read since.
func TestNobodyWrongIsDecidedUpon(t *testing.T) {
	for _, oneShot := range []bool{false, true} {
		t.Run(fmt.Sprintf("one-shot %v", oneShot), func(t *testing.T) {
			dir := t.TempDir()
			rapid.Check(t, func(t *rapid.T) {
				w := newReality(t, dir, oneShot)
				defer w.c.queue.Close()
				often := []func(){w.fork, w.exec, w.read, w.judge, w.exit, func() { w.decide(oneShot) }}
				rarely := []func(){w.setuid, w.snapshot}
				for range 20 {
					w.fork()
				}
				for range rapid.IntRange(1, 120).Draw(t, "steps") {
					if rapid.IntRange(0, 9).Draw(t, "rarely") == 0 {
						rapid.SampledFrom(rarely).Draw(t, "step")()
					} else {
						rapid.SampledFrom(often).Draw(t, "step")()
					}
				}
			})
		})
	}
}
