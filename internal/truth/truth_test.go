// SPDX-License-Identifier: Apache-2.0

package truth

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/probe"
	"github.com/abot-trace/abot-trace/internal/tracker"
)

// ended is how a leaker ended.
type ended struct {
	signal unix.Signal
	code   int
}

var killed = ended{signal: unix.SIGKILL}

// A leak is an orphaning that must be reported, in roles.
type leak struct {
	orphan, leaker string
	how            ended
	adopter        string // "" is whoever procfs names
	below          string // the direct orphan above a stranded one
	stays          bool   // with the parent that it had for the kernel from the beginning
}

// families are made by the function of that name in testdata/families.py.
var families = []struct {
	name  string
	leaks []leak
	says  map[string]int // further roles that must have spoken
	// loose families end in an order that nobody controls: what that leaks is not judged.
	loose bool
	check func(*testing.T, *family)
}{
	{name: "killed", leaks: []leak{{orphan: "orphan", leaker: "main", how: killed}}, check: checkKiller},
	{name: "aborted", leaks: []leak{{orphan: "orphan", leaker: "main", how: ended{signal: unix.SIGABRT}}}},
	{name: "exits_with_code", leaks: []leak{
		{orphan: "one", leaker: "main", how: ended{code: 3}},
		{orphan: "two", leaker: "main", how: ended{code: 3}},
	}},
	{name: "execs_after", leaks: []leak{{orphan: "orphan", leaker: "main", how: killed}}, check: checkLateExec},
	{name: "worker_thread", leaks: []leak{{orphan: "orphan", leaker: "main", how: killed}}},
	{name: "forking_thread_exits", leaks: []leak{{orphan: "orphan", leaker: "main", how: killed}}},
	{name: "leader_exits", leaks: []leak{
		{orphan: "early", leaker: "main", how: ended{code: 5}},
		{orphan: "orphan", leaker: "main", how: ended{code: 5}},
	}},
	{name: "thread_execs", leaks: []leak{{orphan: "orphan", leaker: "main", how: killed}}},
	{name: "subreapers", says: map[string]int{"done": 1}, leaks: []leak{
		{orphan: "orphan", leaker: "leaker", how: killed, adopter: "inner"},
		{orphan: "second", leaker: "inner", how: killed, adopter: "main"},
	}},
	{name: "namespace", leaks: []leak{{orphan: "orphan", leaker: "leaker", how: killed, adopter: "init"}}},
	{name: "namespace_dies", says: map[string]int{"done": 1}},
	{name: "double_fork", says: map[string]int{"done": 1}, leaks: []leak{{orphan: "orphan", leaker: "middle"}}},
	{name: "nohup", leaks: []leak{{orphan: "orphan", leaker: "main"}}},
	{name: "chain", leaks: []leak{
		{orphan: "server", leaker: "main", how: killed},
		{orphan: "worker", leaker: "main", how: killed, below: "server"},
		{orphan: "deep", leaker: "main", how: killed, below: "server"},
	}},
	{name: "server_dies_too", check: checkNowDirect, leaks: []leak{
		{orphan: "server", leaker: "main", how: killed},
		{orphan: "worker", leaker: "main", how: killed, below: "server"},
		{orphan: "late", leaker: "server", how: killed},
	}},
	{name: "pool_fork", leaks: []leak{{orphan: "worker", leaker: "main", how: killed}}},
	{name: "pool_spawn", leaks: []leak{
		{orphan: "worker", leaker: "main", how: killed},
		{orphan: "tracker", leaker: "main", how: killed},
	}},
	{name: "pool_forkserver", leaks: []leak{
		{orphan: "worker", leaker: "main", how: killed, below: "server"},
		{orphan: "server", leaker: "main", how: killed},
		{orphan: "tracker", leaker: "main", how: killed},
	}},
	{name: "clone_parent", check: checkCaller, leaks: []leak{{orphan: "sibling", leaker: "main", how: killed}}},
	{name: "leaves_lineage", check: checkLeft, leaks: []leak{
		{orphan: "orphan", leaker: "main", how: killed},
		{orphan: "left", leaker: "orphan", how: killed, stays: true},
	}},
	{name: "leaves_in_handler", check: checkLeft, leaks: []leak{
		{orphan: "orphan", leaker: "main", how: killed},
		{orphan: "left", leaker: "orphan", how: killed, stays: true},
	}},
	{name: "setns_into_dead", loose: true, says: map[string]int{"done": 1}, leaks: []leak{{orphan: "orphan", leaker: "leaker", how: killed}}},
	{name: "traced", leaks: []leak{
		{orphan: "tracee", leaker: "main", how: killed},
		{orphan: "tracer", leaker: "main", how: killed},
		{orphan: "kid", leaker: "main", how: killed, below: "tracee"},
	}},
	{name: "nobody", says: map[string]int{"done": 1}},
}

// TestTruth makes each family for real and compares every orphaning that is reported
// of its processes with the table: exactly once, and nothing else.
func TestTruth(t *testing.T) {
	w := newWorld(t, probe.Options{})
	for _, test := range families {
		t.Run(test.name, func(t *testing.T) {
			w.t = t
			f := w.start(test.name)
			roles := map[string]int{}
			for _, l := range test.leaks {
				for _, role := range []string{l.orphan, l.leaker, l.adopter, l.below} {
					if role != "" {
						roles[role] = 1
					}
				}
			}
			for role, n := range test.says {
				roles[role] = n
			}
			f.await(roles)
			f.until(func() bool { return len(f.orphans) >= len(test.leaks) }, func() string {
				return fmt.Sprintf("%d orphans, have %v\n%s", len(test.leaks), f.describe(), f.stderr.String())
			})
			f.settle()
			f.judge(test.leaks)
			if test.check != nil {
				test.check(t, f)
			}
			seen := len(f.orphans)
			f.finish()
			if !test.loose && len(f.orphans) != seen {
				t.Errorf("orphans of the end: %v", f.describe()[seen:])
			}
		})
	}
	if w.lost != 0 || w.probe.Malformed() != 0 || w.tree.Unseen() != 0 {
		t.Errorf("%d records lost, %d malformed, %d children unseen", w.lost, w.probe.Malformed(), w.tree.Unseen())
	}
}

// judge compares what was announced with the leaks that were made.
func (f *family) judge(leaks []leak) {
	f.t.Helper()
	var want []string
	for _, l := range leaks {
		how := event.Status(l.how.code << 8)
		if l.how.signal != 0 {
			how = event.Status(l.how.signal)
		}
		s := fmt.Sprintf("%s by %s (%s)", l.orphan, l.leaker, how)
		if l.below != "" {
			s += " below " + l.below
		}
		want = append(want, s)
		f.checkAdopter(l)
	}
	got := f.describe()
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		f.t.Errorf("orphans:\n got %s\nwant %s", strings.Join(got, "\n     "), strings.Join(want, "\n     "))
	}
	for _, a := range f.orphans {
		if o := a.orphan; !o.Observed || o.Since == 0 || o.Lived == 0 {
			f.t.Errorf("%s: observed %v, since %d, lived %v", f.role(a.id), o.Observed, o.Since, o.Lived)
		}
	}
}

// describe puts the announcements into the words of judge.
func (f *family) describe() []string {
	var all []string
	for _, a := range f.orphans {
		l := a.orphan.Leaker
		status := l.End.Status &^ 0x80 // whether cores are dumped is the host's affair
		s := fmt.Sprintf("%s by %s (%s)", f.role(a.id), f.role(l.ID), status)
		if !a.orphan.Direct {
			s += " below " + f.role(a.orphan.Root)
		}
		all = append(all, s)
	}
	return all
}

// checkAdopter compares the adopter that was announced with the one that procfs shows.
func (f *family) checkAdopter(l leak) {
	f.t.Helper()
	i := slices.IndexFunc(f.orphans, func(a announcement) bool { return f.role(a.id) == l.orphan && a.orphan.Direct })
	if i < 0 || l.below != "" {
		return
	}
	a := f.orphans[i]
	if a.orphan.Confirmed != l.stays || a.orphan.AdopterKind == event.AdopterUnknown {
		f.t.Errorf("%s: adopter %v, kind %q, confirmed %v", l.orphan, a.orphan.Adopter, a.orphan.AdopterKind, a.orphan.Confirmed)
	}
	if l.adopter != "" {
		// It may have died since and passed the orphan on.
		if got := f.role(a.orphan.Adopter); got != l.adopter {
			f.t.Errorf("%s: adopted by %s, want %s", l.orphan, got, l.adopter)
		}
		return
	}
	// The dying are reported before the kernel gives their children away.
	var ppid int32
	var err error
	f.until(func() bool {
		ppid, err = parentOf(a.id.PID)
		return err != nil || ppid != a.orphan.Leaker.ID.PID
	}, func() string { return "the adoption of " + l.orphan })
	if err != nil {
		return // a resource tracker ends when it likes
	}
	if a.orphan.Adopter.PID != ppid {
		f.t.Errorf("%s: adopted by %v, procfs says %d", l.orphan, a.orphan.Adopter, ppid)
	}
	if !f.living[a.id] {
		return
	}
	f.tree.ConfirmParent(a.id, ppid)
	if p, _ := f.tree.Get(a.id); p.Orphan == nil || !p.Orphan.Confirmed || p.Orphan.Adopter != a.orphan.Adopter {
		f.t.Errorf("%s: not confirmed: %+v", l.orphan, p.Orphan)
	}
}

func (f *family) process(role string) tracker.Process {
	f.t.Helper()
	p, ok := f.tree.Get(f.said[role][0])
	if !ok {
		f.t.Fatalf("%s is forgotten", role)
	}
	return p
}

// checkKiller looks at the evidence beside the lineage.
func checkKiller(t *testing.T, f *family) {
	o := f.process("orphan").Orphan
	if k := o.Leaker.End.Killer; k == nil || k.Sender != o.Leaker.ID {
		t.Errorf("killer %+v, want %v itself", k, o.Leaker.ID)
	}
	if !o.AtDeathKnown || o.AtDeath.SessionOwn || o.AtDeath.HupIgnored {
		t.Errorf("state at the death: %v %+v", o.AtDeathKnown, o.AtDeath)
	}
	if words := event.SplitCmdline(o.Leaker.Cmdline); len(words) != 3 || words[2] != "killed" {
		t.Errorf("leaker's arguments %q", words)
	}
}

func checkLateExec(t *testing.T, f *family) {
	id := f.said["orphan"][0]
	f.until(func() bool { p, _ := f.tree.Get(id); return p.Comm.String() == "cat" },
		func() string { return "the orphan's exec" })
	p := f.process("orphan")
	if p.Orphan == nil || p.Spawner != f.said["main"][0] {
		t.Errorf("after its exec: %+v", p)
	}
}

func checkNowDirect(t *testing.T, f *family) {
	o := f.process("worker").Orphan
	if !o.Direct || o.Leaker.ID != f.said["server"][0] || o.Adopter.IsZero() {
		t.Errorf("after the server's death too: %+v", o)
	}
}

func checkCaller(t *testing.T, f *family) {
	p := f.process("sibling")
	if p.Spawner != f.said["main"][0] || p.Caller != f.said["caller"][0] {
		t.Errorf("spawner %s, caller %s", f.role(p.Spawner), f.role(p.Caller))
	}
}

// checkLeft wants the process that never was its spawner's child, for the kernel, to be
// known as spawned by it.
func checkLeft(t *testing.T, f *family) {
	p := f.process("left")
	if p.Spawner != f.said["orphan"][0] || !p.Caller.IsZero() || !p.LeftLineage || p.Lineage != tracker.LineageObserved {
		t.Errorf("spawner %s, caller %s, left %v, %s", f.role(p.Spawner), f.role(p.Caller), p.LeftLineage, p.Lineage)
	}
}

// TestThreadsDieTogether ends groups of threads, each with a child, at one instant. The
// kernel's own lists are in motion then; the tracker's index is not.
func TestThreadsDieTogether(t *testing.T) {
	const rounds, threads = 8, 6
	w := newWorld(t, probe.Options{})
	f := w.start("die_together")
	f.await(map[string]int{"done": 1, "orphan": 2 * rounds * threads})
	f.settle()
	times := map[event.ID]int{}
	leakers := map[string]int{}
	for _, a := range f.orphans {
		times[a.id]++
		role, status := f.role(a.orphan.Leaker.ID), a.orphan.Leaker.End.Status
		leakers[role]++
		if !a.orphan.Direct || !a.orphan.Observed || status.Signaled() != (role == "killed") {
			t.Errorf("%v by %s (%s): %+v", a.id, role, status, a.orphan)
		}
	}
	for _, id := range f.said["orphan"] {
		if times[id] != 1 {
			t.Errorf("%v announced %d times", id, times[id])
		}
	}
	if len(f.orphans) != 2*rounds*threads || leakers["killed"] != rounds*threads || leakers["exited"] != rounds*threads {
		t.Errorf("%d orphans, by %v", len(f.orphans), leakers)
	}
}

// TestForksWhileDying kills a parent while its children fork. Which of the
// grandchildren are stranded and which came too late is decided by the records' order
// alone, and each must fall on the right side of it.
func TestForksWhileDying(t *testing.T) {
	const branches, leaves = 3, 40
	w := newWorld(t, probe.Options{})
	for round := range 5 {
		f := w.start("forks_while_dying")
		f.await(map[string]int{"branched": branches, "leaf": branches * leaves})
		f.settle()
		main := f.process("main")
		times := map[event.ID]int{}
		for _, a := range f.orphans {
			times[a.id]++
			if a.orphan.Leaker.ID != main.ID || a.orphan.Direct != (f.role(a.id) == "branch") {
				t.Errorf("round %d: %s: %+v", round, f.role(a.id), a.orphan)
			}
		}
		for _, id := range f.said["branch"] {
			if times[id] != 1 {
				t.Errorf("round %d: branch %v announced %d times", round, id, times[id])
			}
		}
		for _, id := range f.said["leaf"] {
			// A process starts a moment before its fork is recorded.
			early, late := f.forked[id] < main.End.Time, f.forked[id] > main.End.Time
			if early && times[id] != 1 || late && times[id] != 0 {
				t.Errorf("round %d: leaf %v, forked %d, announced %d times; main died %d", round, id,
					f.forked[id], times[id], main.End.Time)
			}
		}
		f.finish()
	}
}
