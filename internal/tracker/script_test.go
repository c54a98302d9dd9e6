// SPDX-License-Identifier: Apache-2.0

package tracker

import (
	"bufio"
	"cmp"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
	"golang.org/x/tools/txtar"

	"github.com/abot-trace/abot-trace/internal/event"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// TestScripts runs every testdata/*.txtar: consecutive events on one tree, each with
// the changes it must make, and the tree printed where the script asks for it.
//
// A process is named by its pid, and by letters after it where the pid is used again.
// Who is forked in the script starts then, or at the time after its @; who is only
// mentioned started before the script.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			script := string(archive.Files[0].Data)
			got := run(t, script, false)
			if twice := run(t, script, true); twice != got {
				t.Errorf("with every record applied twice (-once +twice):\n%s", gocmp.Diff(got, twice))
			}
			if *update {
				archive.Files = append(archive.Files[:1], txtar.File{Name: "want", Data: []byte(got)})
				if err := os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if len(archive.Files) < 2 {
				t.Fatal("no expectation: run with -update, and read what it wrote")
			}
			if diff := gocmp.Diff(string(archive.Files[1].Data), got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// A player turns the lines of a script into events on a tree.
type player struct {
	t       *testing.T
	tree    *Tree
	ids     map[string]event.ID
	names   map[event.ID]string
	clock   uint64
	refused uint64
	merge   *Snapshot
	twice   bool
	out     strings.Builder
}

func run(t *testing.T, script string, twice bool) string {
	p := &player{t: t, tree: New(8), ids: map[string]event.ID{}, names: map[event.ID]string{}, clock: 1000, twice: twice}
	for lines := bufio.NewScanner(strings.NewReader(script)); lines.Scan(); {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		fmt.Fprintln(&p.out, line)
		p.clock += 1000
		p.line(strings.Fields(line))
		check(t, p.tree)
	}
	return p.out.String()
}

func (p *player) id(name string) event.ID {
	if id, ok := p.ids[name]; ok {
		return id
	}
	pid, at, timed := strings.Cut(name, "@")
	id := event.ID{PID: number(p.t, strings.TrimRight(pid, "abcdefgh"))}
	id.Start = uint64(id.PID)
	if timed {
		id.Start = uint64(number(p.t, at))
	}
	if id.PID == 0 {
		return event.ID{}
	}
	return p.name(name, id)
}

func (p *player) name(name string, id event.ID) event.ID {
	p.ids[name], p.names[id] = id, name
	return id
}

func number(t *testing.T, s string) int32 {
	t.Helper()
	n, err := strconv.Atoi(s)
	if err != nil {
		t.Fatalf("not a number: %q", s)
	}
	return int32(n)
}

// take returns the words after key, n of them, or nil.
func take(words []string, key string, n int) []string {
	if i := slices.Index(words, key); i >= 0 && i+n < len(words) {
		return words[i+1 : i+1+n]
	}
	return nil
}

func (p *player) line(words []string) {
	switch verb := words[0]; verb {
	case "tree":
		p.printTree()
	case "refuse":
		p.refused += uint64(number(p.t, words[1]))
	case "begin":
		p.begin(words[1:])
	case "end":
		found, vanished, changes := p.merge.End()
		p.print(changes)
		fmt.Fprintf(&p.out, "    found %d, vanished %d\n", found, vanished)
	case "confirm":
		fmt.Fprintln(&p.out, "   ", p.tree.ConfirmParent(p.id(words[1]), number(p.t, words[2])))
	case "group":
		q, _ := p.tree.Get(p.id(words[1]))
		in, ok := p.tree.Begun(q.ID)
		fmt.Fprintf(&p.out, "    group %d; began in that of %s: %v\n", q.Cgroup, p.names[in], ok)
	case "wait":
		p.clock += uint64(number(p.t, words[1])) * 1e9
	case "verdict":
		p.tree.SetVerdict(p.id(words[1]), words[2], false, nil)
	case "tie":
		fmt.Fprintln(&p.out, "   ", p.tree.Tie(p.id(words[1])))
	case "self":
		p.tree.SetSelf(number(p.t, words[1]))
	default:
		e := p.event(words)
		p.print(p.tree.Apply(&e))
		if p.twice {
			if again := p.tree.Apply(&e); len(again) != 0 {
				p.t.Errorf("%v applied again: %v", words, again)
			}
		}
	}
}

// event reads
//
//	fork PID by SPAWNER [caller PID] [moved]    exec PID FILE ARG...
//	exit PID code N | signal N [core] [oom] [adopter PID init|subreaper] [nsends]
//	child PID of PARENT    oom PID    move PID to GROUP
//	signal PID N from PID [kernel]    caught PID N from PID [kernel] [blocked]
//	wait SECONDS
//	group PID
func (p *player) event(w []string) event.Event {
	e := event.Event{Time: p.clock, Ordinal: uint32(p.clock / 1000), Refused: p.refused}
	switch w[0] {
	case "fork":
		e.Kind = event.KindFork
		e.Fork.Spawner = p.id(w[3])
		if _, ok := p.ids[w[1]]; !ok && !strings.Contains(w[1], "@") {
			p.name(w[1], event.ID{PID: number(p.t, strings.TrimRight(w[1], "abcdefgh")), Start: p.clock})
		}
		e.Fork.Caller = e.Fork.Spawner
		if c := take(w, "caller", 1); c != nil {
			e.Fork.Caller = p.id(c[0])
		}
		e.Comm, e.Fork.Moved = event.MakeComm("p"+w[3]), slices.Contains(w, "moved")
	case "exec":
		e.Kind = event.KindExec
		e.Exec.Filename, e.Exec.Cmdline = w[2], strings.Join(w[2:], "\x00")+"\x00"
		e.Comm = event.MakeComm(filepath.Base(w[2]))
	case "exit":
		e.Kind = event.KindExit
		e.Exit = p.exit(w)
		if q, ok := p.tree.Get(p.id(w[1])); ok {
			e.Comm = q.Comm
		}
	case "child":
		e.Kind = event.KindChild
		e.Child = event.Child{Parent: p.id(w[3]), Origin: event.Origin{Session: 7}}
	case "signal", "caught":
		e.Kind = event.KindSignal
		e.Signal = event.Signal{Signal: unix.Signal(number(p.t, w[2])), Effect: event.Fatal, Sender: event.ID{PID: number(p.t, w[4])}}
		e.Signal.FromKernel = slices.Contains(w, "kernel")
		if w[0] == "caught" {
			e.Kind, e.Signal.Effect = event.KindCaught, event.Caught
		}
		if slices.Contains(w, "blocked") {
			e.Signal.Effect = event.Blocked
		}
	case "oom":
		e.Kind = event.KindOOM
	case "move":
		e.Kind = event.KindMove
		e.Move.Cgroup = uint64(number(p.t, w[3]))
	default:
		p.t.Fatalf("unknown line %q", w)
	}
	e.Subject = p.id(w[1])
	return e
}

func (p *player) exit(w []string) (x event.Exit) {
	if n := take(w, "code", 1); n != nil {
		x.Status = event.Status(number(p.t, n[0])) << 8
	}
	if n := take(w, "signal", 1); n != nil {
		x.Status = event.Status(number(p.t, n[0]))
	}
	if slices.Contains(w, "core") {
		x.Status |= 0x80
	}
	x.OOM = slices.Contains(w, "oom")
	x.NSEnds, x.NeverExeced = slices.Contains(w, "nsends"), slices.Contains(w, "neverexeced")
	if a := take(w, "adopter", 2); a != nil {
		x.Adopter, x.HasChildren = p.id(a[0]), true
		x.AdopterKind = map[string]event.Adopter{"init": event.AdopterInit, "subreaper": event.AdopterSubreaper}[a[1]]
	}
	return x
}

// begin reads tasks as PID:PARENT[:FLAG...], where a flag is one of init, reaper,
// kthread, dead, leader (of its session) and session=N; the default session is the boot's.
func (p *player) begin(words []string) {
	var tasks []event.Task
	for _, w := range words {
		parts := strings.Split(w, ":")
		task := event.Task{Comm: event.MakeComm("task"), Origin: event.Origin{Session: 1}}
		task.ID, task.Parent = p.id(parts[0]), p.id(parts[1])
		if parts[1] == "0" {
			task.Parent = event.ID{}
		}
		for _, flag := range parts[2:] {
			switch flag {
			case "init":
				task.NSInit = true
			case "reaper":
				task.Subreaper = true
			case "kthread":
				task.Kthread = true
			case "dead":
				task.Dead = true
			case "leader":
				task.Origin.SessionOwn, task.Origin.Session = true, task.ID.PID
			default:
				task.Origin.Session = number(p.t, strings.TrimPrefix(flag, "session="))
			}
		}
		tasks = append(tasks, task)
	}
	p.merge = p.tree.Begin(tasks, p.clock)
}

func (p *player) print(changes []Change) {
	for _, c := range changes {
		name := p.names[c.ID]
		switch c.Kind {
		case Forked:
			fmt.Fprintf(&p.out, "    forked %s\n", name)
		case Execed:
			fmt.Fprintf(&p.out, "    execed %s\n", name)
		case Exited:
			q, _ := p.tree.Get(c.ID)
			fmt.Fprintf(&p.out, "    exited %s: %s\n", name, p.ended(q.End))
		case Orphaned, OrphanedAgain:
			q, _ := p.tree.Get(c.ID)
			if q.Orphan == nil {
				p.t.Errorf("%s announced as an orphan, and is none", name)
				continue
			}
			again := ""
			if c.Kind == OrphanedAgain {
				again = " again"
			}
			fmt.Fprintf(&p.out, "    orphaned%s %s: %s\n", again, name, p.orphan(q.Orphan))
		case Signaled:
			fmt.Fprintf(&p.out, "    signaled %s: %s from %s\n", name, event.SignalName(c.Sent.Signal.Signal), p.sender(c.Sent))
		case Caught:
			fmt.Fprintf(&p.out, "    caught %s: %s from %s\n", name, event.SignalName(c.Sent.Signal.Signal), p.sender(c.Sent))
		case OOMKilled:
			fmt.Fprintf(&p.out, "    oom %s\n", name)
		case Lost:
			fmt.Fprintf(&p.out, "    lost %d\n", c.Records)
		case Unseen:
			fmt.Fprintf(&p.out, "    unseen %s\n", name)
		}
	}
}

func (p *player) sender(s *Sent) string {
	from := cmp.Or(p.names[s.Sender], fmt.Sprintf("pid %d", s.Sender.PID))
	switch {
	case s.FromKernel:
		return "the kernel"
	case s.BySpawner:
		from += ", its spawner"
	}
	for _, a := range s.Ancestors {
		from += " below " + p.names[a.ID]
	}
	return from
}

func (p *player) ended(e End) string {
	if !e.Known {
		return "unknown"
	}
	s := e.Status.String()
	if e.OOM {
		s += ", OOM"
	}
	if e.Killer != nil {
		s += " from " + p.sender(e.Killer)
	}
	if e.Asked != nil {
		s += ", asked by " + event.SignalName(e.Asked.Signal.Signal) + " from " + p.sender(e.Asked)
	}
	if e.NeverExeced {
		s += ", never executed"
	}
	return s
}

func (p *player) orphan(o *Orphan) string {
	s := "stranded"
	if o.Direct {
		s = "direct"
	}
	if o.Leaker == nil {
		s += ", nobody seen"
	} else {
		s += fmt.Sprintf(", by %s (%s)", p.names[o.Leaker.ID], p.ended(o.Leaker.End))
	}
	if o.Direct {
		to := p.names[o.Adopter]
		s += fmt.Sprintf(", to %s", cmp.Or(to, "?"))
		if o.AdopterKind != event.AdopterUnknown {
			s += " " + o.AdopterKind.String()
		}
		if o.Confirmed {
			s += " confirmed"
		}
	} else {
		s += ", below " + p.names[o.Root]
	}
	if o.AtDeathKnown {
		s += ", state known"
	}
	if !o.Observed {
		s += ", guessed"
	}
	if o.Quiet {
		s += ", quiet"
	}
	if o.ByTie {
		s += ", by a tie"
	}
	if o.Leaker != nil && o.Leaker.Within != "" {
		s += ", within " + o.Leaker.Within
	}
	if !o.Tied.IsZero() {
		s += ", tied to " + p.names[o.Tied]
	}
	if o.Verdict != "" {
		s += ", " + o.Verdict
	}
	return s
}

// printTree prints the lineage, the dead included, sorted and without times.
func (p *player) printTree() {
	t := p.tree
	var roots []ref
	for _, r := range t.refs() {
		if t.at(r).spawner.parent == 0 {
			roots = append(roots, r)
		}
	}
	p.printBelow(roots, "    ")
}

func (p *player) printBelow(refs []ref, indent string) {
	t := p.tree
	slices.SortFunc(refs, func(a, b ref) int {
		return cmp.Or(cmp.Compare(t.at(a).pid, t.at(b).pid), cmp.Compare(t.at(a).start, t.at(b).start))
	})
	for _, r := range refs {
		q := t.process(r)
		fmt.Fprintf(&p.out, "%s%s", indent, p.names[q.ID])
		if q.Cmdline != "" {
			fmt.Fprintf(&p.out, " %q", strings.Join(event.SplitCmdline(q.Cmdline), " "))
		}
		if q.Lineage != LineageObserved {
			fmt.Fprintf(&p.out, " %s", q.Lineage)
		}
		if spawner := t.at(r).spawner.parent; !q.Spawner.IsZero() && (spawner == 0 || t.at(spawner).id() != q.Spawner) {
			fmt.Fprintf(&p.out, " spawned by %s", p.names[q.Spawner])
		}
		if !q.Caller.IsZero() {
			fmt.Fprintf(&p.out, " called by %s", p.names[q.Caller])
		}
		if q.Dead {
			fmt.Fprintf(&p.out, " dead: %s", p.ended(q.End))
		} else {
			fmt.Fprintf(&p.out, " under %s", cmp.Or(p.names[q.Parent], "?"))
		}
		if q.Orphan != nil {
			fmt.Fprintf(&p.out, "; orphan: %s", p.orphan(q.Orphan))
		}
		fmt.Fprintln(&p.out)
		p.printBelow(t.children(r), indent+"  ")
	}
}
