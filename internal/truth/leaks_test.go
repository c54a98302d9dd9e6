// SPDX-License-Identifier: Apache-2.0

package truth

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/probe"
	"github.com/abot-trace/abot-trace/internal/proctest"
	"github.com/abot-trace/abot-trace/internal/trace"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// Orders to a puppet: see testdata/puppets.py.
const (
	orderLeave  = unix.SIGUSR1
	orderFork   = unix.SIGUSR2
	orderFail   = unix.Signal(34)
	orderDetach = unix.Signal(35)
	orderHold   = unix.Signal(36)
	orderBusy   = unix.Signal(37)
)

// A leakWorld is the tracer at work on the live kernel, and what it has told of leaks.
type leakWorld struct {
	t      *testing.T
	tracer *trace.Tracer
	killer io.Writer // a shell of whom the tracer knows nothing: who dies by it is killed by a stranger

	mu    sync.Mutex
	told  map[string][]wire.Leak // by id
	lines map[int32]chan string  // what puppets say, by the pid that it is about
	mains chan [2]int32          // number and pid
}

func newLeakWorld(t *testing.T) *leakWorld {
	t.Helper()
	proctest.NeedRoot(t)
	p, err := probe.Open(probe.Options{})
	if err != nil {
		t.Fatal(err)
	}
	w := &leakWorld{t: t, told: make(map[string][]wire.Leak), lines: make(map[int32]chan string), mains: make(chan [2]int32, 256)}
	w.tracer = trace.New(p, trace.Options{Log: slog.New(slog.DiscardHandler), OnEvent: w.hear})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- w.tracer.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		if err := p.Close(); err != nil {
			t.Error(err)
		}
	})
	<-w.tracer.Ready()
	shell := exec.Command("/bin/sh")
	w.killer = w.run(shell, nil)
	return w
}

// run starts a program with a pipe for its standard input, which the test's end closes, and
// gives each line of its output to hear.
func (w *leakWorld) run(cmd *exec.Cmd, hear func(string)) io.Writer {
	w.t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		w.t.Fatal(err)
	}
	if hear != nil {
		r, out, err := os.Pipe()
		if err != nil {
			w.t.Fatal(err)
		}
		cmd.Stdout = out
		defer out.Close()
		go func() {
			defer r.Close()
			for scan := bufio.NewScanner(r); scan.Scan(); {
				hear(scan.Text())
			}
		}()
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() {
		in.Close()
		_ = cmd.Wait()
	})
	return in
}

func (w *leakWorld) hear(e *wire.Event) {
	if e.Leak != nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.told[e.Leak.ID] = append(w.told[e.Leak.ID], *e.Leak)
	}
}

// puppets starts so many, each the child of one program that lives.
func (w *leakWorld) puppets(n int) {
	w.t.Helper()
	interpreter, err := python()
	proctest.Need(w.t, err)
	w.run(exec.Command(interpreter, "testdata/puppets.py", strconv.Itoa(n)), func(line string) {
		var word string
		var about, pid int32
		if _, err := fmt.Sscan(line, &word, &about, &pid); err != nil {
			w.t.Errorf("a puppet says %q", line)
			return
		}
		if word == "main" {
			w.mains <- [2]int32{about, pid}
			return
		}
		w.voice(about) <- line
	})
}

// voice is what is said about the puppet with that pid.
func (w *leakWorld) voice(pid int32) chan string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.lines[pid] == nil {
		w.lines[pid] = make(chan string, 16)
	}
	return w.lines[pid]
}

// on runs fn on the loop, with all that has happened applied.
func (w *leakWorld) on(fn func(*tracker.Tree)) {
	if err := w.tracer.DoDrained(context.Background(), fn); err != nil {
		w.t.Error(err)
	}
}

// await waits for a fact that ok looks for on the loop, and says what it waited for if that
// never comes.
func (w *leakWorld) await(t *testing.T, what string, ok func(*tracker.Tree) bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		found := false
		w.on(func(tree *tracker.Tree) { found = ok(tree) })
		if found {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not seen in %v: %s", patience, what)
		}
	}
}

// A shape is what a family of puppets does, a word for each step, and the leaks that this makes.
type shape struct {
	// steps: "m+a" has m fork a; "-a" has it leave with 0, "^a" with 3; "!a" has a stranger kill
	// it, "~a" has one ask it to end; "#a" is our own kill; "@a" has it detach. m is there.
	steps string
	// want has for each leak, in the order of their openings, the leaker, all members and how it
	// ended.
	want string
}

var shapes = []shape{
	{"m+a !m -a", "m=a exit"},
	{"m+a -m -a", "m=a exit"},
	{"m+a ^m !a", "m=a signal"},
	{"m+a ~m ~a", "m=a signal"},
	{"m+a m+b !m -a -b", "m=ab exit"},
	{"m+a m+b !m -a !b", "m=ab mixed"},
	{"m+a m+b !a -b -m", ""},
	{"m+a m+b m+c m+d m+e m+f m+g m+h !m -h -b -a -f -c -d -g -e", "m=abcdefgh exit"},
	// Chains of deaths: one leak.
	{"m+a a+b !m -a -b", "m=ab exit"},
	{"m+a a+b !m !a -b", "m=ab mixed"},
	{"m+a a+b b+c c+d !m -d -c -b -a", "m=abcd exit"},
	{"m+a a+b b+c c+d !m !a !b !c !d", "m=abcd signal"},
	{"m+a a+b m+c !m !a -c -b", "m=abc mixed"},
	{"m+a a+b b+c !b -a -c -m", "b=c exit"},
	{"m+a a+b b+c !b !a !m -c", "b=c exit"},
	// What members fork.
	{"m+a !m a+b -a -b", "m=ab exit"},
	{"m+a !m a+b b+c -b -c -a", "m=abc exit"},
	{"m+a !m a+b !a b+c !b c+d -c -d", "m=abcd mixed"},
	{"m+a !m a+b a+c a+d a+e a+f -b -c -d -e -f -a", "m=abcdef exit"},
	{"m+a a+b !a b+c -b -c -m", "a=bc exit"},
	// Several leaks.
	{"m+a a+b !a -b m+c !m -c", "a=b exit, m=c exit"},
	{"m+a a+b a+c !a -b m+d !m -d -c", "a=bc exit, m=d exit"},
	{"m+a a+b m+c c+d !a !c -b !d -m", "a=b exit, c=d signal"},
	{"m+a a+b !a !m -b", "a=b exit"},
	// Our own kills.
	{"m+a #m -a", ""},
	{"m+a a+b #m -a -b", "a=b exit"},
	{"m+a !m #a", "m=a kill"},
	{"m+a m+b !m #a #b", "m=ab kill"},
	{"m+a m+b !m #a -b", "m=ab mixed"},
	{"m+a a+b !m #a -b", "m=ab mixed"},
	{"m+a a+b b+c !m #b #a -c", "m=abc mixed"},
	// What is deliberate is in no leak; its own later death opens one.
	{"m+a @a -m -a", ""},
	{"m+a @a -m a+b !a -b", "a=b exit"},
	{"m+a m+b @a -m -a -b", "m=b exit"},
	{"m+a a+b @b -m -a -b", "m=a exit"},
	{"m+a @a !m -a", "m=a exit"},
	{"m+a !m @a -a", "m=a exit"},
}

// A player plays a shape with one family of puppets.
type player struct {
	*leakWorld
	t       *testing.T
	pids    map[string]int32
	ids     map[string]event.ID
	alive   map[string]bool
	members map[string]map[string]bool // names, by leak: who ever was one
}

func newPlayer(t *testing.T, w *leakWorld, main int32) *player {
	t.Helper()
	p := &player{leakWorld: w, t: t, pids: map[string]int32{}, ids: map[string]event.ID{}, alive: map[string]bool{},
		members: map[string]map[string]bool{}}
	p.know("m", main)
	return p
}

// TestLeaks makes each shape for real, all at a time: each leak is opened once and ended once,
// has the members that it should, and ended as it did.
func TestLeaks(t *testing.T) {
	w := newLeakWorld(t)
	w.puppets(len(shapes))
	var players sync.WaitGroup
	for range shapes {
		main := <-w.mains
		s := shapes[main[0]]
		players.Go(func() {
			t.Run(s.steps, func(t *testing.T) { w.play(t, s, main[1]) })
		})
	}
	players.Wait()
}

func (w *leakWorld) play(t *testing.T, s shape, main int32) {
	p := newPlayer(t, w, main)
	for step := range strings.FieldsSeq(s.steps) {
		p.step(step)
	}
	if got := p.leaks(); got != s.want {
		t.Errorf("leaks: %q, want %q", got, s.want)
	}
}

// know notes a puppet by its pid.
func (p *player) know(name string, pid int32) {
	p.t.Helper()
	p.pids[name], p.alive[name] = pid, true
	p.await(p.t, "the fork of "+name, func(tree *tracker.Tree) bool {
		id, ok := tree.Lookup(pid)
		p.ids[name] = id
		return ok
	})
}

func (p *player) step(step string) {
	p.t.Helper()
	if parent, child, forks := strings.Cut(step, "+"); forks {
		line := p.tell(parent, orderFork)
		var word string
		var by, pid int32
		if _, err := fmt.Sscan(line, &word, &by, &pid); err != nil || word != "child" {
			p.t.Fatalf("%s: a puppet says %q", step, line)
		}
		p.know(child, pid)
		p.noteLeaks()
		return
	}
	name := step[1:]
	pid := p.pids[name]
	switch step[0] {
	case '@':
		p.tell(name, orderDetach)
		return
	case '-':
		p.signal(pid, orderLeave)
	case '^':
		p.signal(pid, orderFail)
	case '#':
		p.signal(pid, unix.SIGKILL)
	case '!':
		p.kill("KILL", pid)
	case '~':
		p.kill("TERM", pid)
	}
	p.alive[name] = false
	p.await(p.t, step+": the end, and verdicts on who is left", func(tree *tracker.Tree) bool {
		if d, ok := tree.Get(p.ids[name]); ok && !d.Dead {
			return false
		}
		for other, alive := range p.alive {
			o, ok := tree.Get(p.ids[other])
			if alive && (!ok || o.Orphan != nil && (o.Orphan.Verdict == "" || o.Orphan.Provisional)) {
				return false
			}
		}
		return true
	})
	p.noteLeaks()
}

// tell gives an order, and returns the answer.
func (p *player) tell(name string, order unix.Signal) string {
	p.t.Helper()
	p.signal(p.pids[name], order)
	select {
	case line := <-p.voice(p.pids[name]):
		return line
	case <-time.After(patience):
		p.t.Fatalf("%s does not answer", name)
		return ""
	}
}

func (p *player) signal(pid int32, s unix.Signal) {
	p.t.Helper()
	if err := unix.Kill(int(pid), s); err != nil {
		p.t.Fatal(err)
	}
}

// kill has a stranger send a signal.
func (w *leakWorld) kill(name string, pid int32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	fmt.Fprintf(w.killer, "kill -%s %d\n", name, pid)
}

// noteLeaks notes who belongs to which leak now.
func (p *player) noteLeaks() {
	p.on(func(*tracker.Tree) {
		for name, alive := range p.alive {
			if id, ok := p.tracer.Leaks().Of(p.ids[name]); alive && ok {
				if p.members[id] == nil {
					p.members[id] = map[string]bool{}
				}
				p.members[id][name] = true
			}
		}
	})
}

// leaks waits for the ends of all leaks, and puts what was told of them into the words of a
// shape.
func (p *player) leaks() string {
	p.t.Helper()
	p.await(p.t, "the ends of all leaks", func(*tracker.Tree) bool {
		for id := range p.members {
			if _, open := p.tracer.Leaks().Held(id); open {
				return false
			}
		}
		return true
	})
	p.mu.Lock()
	defer p.mu.Unlock()
	var leaks []wire.Leak
	for _, told := range p.told {
		if p.name(told[0].Leaker.PID, told[0].Leaker.StartNS) == "" {
			continue
		}
		l := told[len(told)-1]
		changes := map[string]int{}
		for i := range told {
			changes[told[i].Change]++
		}
		if changes[wire.LeakOpened] != 1 || changes[wire.LeakEnded] != 1 || told[0].Change != wire.LeakOpened || l.Change != wire.LeakEnded {
			p.t.Errorf("%s was told of as %v", l.ID, changes)
		}
		if l.Processes.Total != len(p.members[l.ID]) || l.Processes.Now != 0 {
			p.t.Errorf("%s: %+v, of %v", l.ID, l.Processes, p.members[l.ID])
		}
		leaks = append(leaks, l)
	}
	slices.SortFunc(leaks, func(a, b wire.Leak) int { return int(int64(a.OpenedNS) - int64(b.OpenedNS)) })
	var words []string
	for _, l := range leaks {
		members := strings.Join(slices.Sorted(maps.Keys(p.members[l.ID])), "")
		words = append(words, fmt.Sprintf("%s=%s %s", p.name(l.Leaker.PID, l.Leaker.StartNS), members, l.EndedBy))
	}
	return strings.Join(words, ", ")
}

// name is that of a puppet, empty for anyone else.
func (p *player) name(pid int32, start uint64) string {
	for name, id := range p.ids {
		if id.PID == pid && id.Start == start {
			return name
		}
	}
	return ""
}

// TestLeakCosts: what a leak has cost is what /proc says of its processes, within 2 %. Each of
// its two holds known memory, one of them from the beginning, and keeps a processor busy for
// a known time.
func TestLeakCosts(t *testing.T) {
	w := newLeakWorld(t)
	w.puppets(1)
	main := <-w.mains
	p := newPlayer(t, w, main[1])
	for step := range strings.FieldsSeq("m+a m+b") {
		p.step(step)
	}
	for _, name := range []string{"a", "b"} {
		p.tell(name, orderHold)
	}
	p.step("!m")
	id := ""
	p.await(t, "a sample of the leak", func(*tracker.Tree) bool {
		id, _ = p.tracer.Leaks().Of(p.ids["a"])
		held, ok := p.tracer.Leaks().Held(id)
		return ok && held.Processes == 2 && held.Sampled && held.RSS > 150<<20
	})
	var wantBytes, wantCPU float64
	before := map[string]usage{}
	for _, name := range []string{"a", "b"} {
		before[name] = readUsage(t, p.pids[name])
	}
	var busy sync.WaitGroup
	for _, name := range []string{"a", "b"} {
		busy.Go(func() { p.tell(name, orderBusy) })
	}
	busy.Wait()
	after := map[string]usage{}
	for _, name := range []string{"a", "b"} {
		after[name] = readUsage(t, p.pids[name])
	}
	p.step("-a")
	p.step("-b")
	if got := p.leaks(); got != "m=ab exit" {
		t.Fatalf("leaks: %q", got)
	}
	told := p.told[id]
	l := told[len(told)-1]
	p.on(func(tree *tracker.Tree) {
		for _, name := range []string{"a", "b"} {
			d, ok := tree.Get(p.ids[name])
			if !ok {
				t.Fatalf("%s is forgotten", name)
			}
			seconds := float64(d.End.Time-l.OpenedNS) / 1e9
			wantBytes += (before[name].bytes + after[name].bytes) / 2 * seconds
			wantCPU += after[name].cpu - before[name].cpu
		}
	})
	if got := *l.ByteSeconds; got < 0.98*wantBytes || got > 1.02*wantBytes {
		t.Errorf("%.0f bytes times seconds, by /proc %.0f", got, wantBytes)
	}
	if got := *l.CPUSeconds; got < 0.98*wantCPU || got > 1.02*wantCPU {
		t.Errorf("%.3f s of processors, by /proc %.3f s", got, wantCPU)
	}
}

// usage is what /proc says that a process uses: bytes, resident and swapped, and seconds.
type usage struct{ bytes, cpu float64 }

func readUsage(t *testing.T, pid int32) (u usage) {
	t.Helper()
	read := func(name string) string {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	for line := range strings.Lines(read("status")) {
		var kib float64
		if name, value, _ := strings.Cut(line, ":"); name == "VmRSS" || name == "VmSwap" {
			if _, err := fmt.Sscan(value, &kib); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			u.bytes += kib * 1024
		}
	}
	var ns float64
	if _, err := fmt.Sscan(read("schedstat"), &ns); err != nil {
		t.Fatal(err)
	}
	u.cpu = ns / 1e9
	return u
}
