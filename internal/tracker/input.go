// SPDX-License-Identifier: Apache-2.0

package tracker

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/abot-trace/abot-trace/internal/event"
)

// A Recorder is told of everything that a tree is told, in order and before the tree
// changes: with a checkpoint from before, the same tree can be made again from that, by
// Apply and Redo. It is called on the tree's goroutine.
type Recorder interface {
	// Applying is called with what Apply gets. It must keep nothing of e.
	Applying(e *event.Event)
	// Input is called with every other change, which Redo makes again. It must keep nothing
	// of data.
	Input(kind InputKind, id event.ID, data []byte)
}

// InputKind says what an input that is no record did. The numbers are in files: they are
// never used for anything else.
type InputKind uint8

// The kinds of inputs.
const (
	InputCmdline   InputKind = 1 + iota // SetCmdline
	InputMarks                          // SetMarks
	InputVerdict                        // SetVerdict
	InputAbandoned                      // SetAbandoned
	InputLeak                           // SetLeak
	InputParent                         // ConfirmParent
	InputTie                            // Tie
	InputUntie                          // Untie
	InputPin                            // Pin
	InputUnpin                          // Unpin
	InputRefused                        // NoteRefused
	InputBegin                          // Begin: the tasks of a snapshot
	InputEnd                            // Snapshot.End
)

// SetRecorder has everything that the tree is told from now on recorded; hide takes likely
// secrets out of a NUL-separated command line that a recorder gets. Records are the
// recorder's own to hide from.
func (t *Tree) SetRecorder(r Recorder, hide func(cmdline string) string) {
	t.recorder, t.hide = r, hide
}

// input hands an input to the recorder; fill, where it is not nil, writes its data.
func (t *Tree) input(kind InputKind, id event.ID, fill func(*writer)) {
	if t.recorder == nil {
		return
	}
	w := writer{b: t.inputData[:0], tree: t, hide: t.hide}
	if fill != nil {
		fill(&w)
	}
	t.inputData = w.b
	t.recorder.Input(kind, id, w.b)
}

// hidden is a command line as the file of whoever writes may have it.
func (w *writer) hidden(cmdline string) string {
	if w.hide == nil || cmdline == "" {
		return cmdline
	}
	return w.hide(cmdline)
}

func (w *writer) task(task *event.Task) {
	w.id(task.ID)
	w.uint(uint64(uint32(task.HostPID)))
	w.id(task.Parent)
	w.comm(task.Comm)
	w.uint(uint64(task.UID))
	w.uint(uint64(task.ExecID))
	w.uint(task.Cgroup)
	w.uint(uint64(uint32(task.Origin.Session)))
	for _, flag := range [...]bool{task.Origin.SessionOwn, task.Kthread, task.Subreaper, task.NSInit, task.Dead, task.NeverExeced} {
		w.bool(flag)
	}
}

func (r *reader) task() (task event.Task) {
	task.ID, task.HostPID = r.id(), r.int32()
	task.Parent, task.Comm = r.id(), r.comm()
	task.UID, task.ExecID = r.uint32(), r.uint32()
	task.Cgroup = r.uint(math.MaxUint64)
	task.Origin.Session = r.int32()
	for _, flag := range [...]*bool{&task.Origin.SessionOwn, &task.Kthread, &task.Subreaper, &task.NSInit, &task.Dead, &task.NeverExeced} {
		*flag = r.bool()
	}
	return task
}

// ErrInput is wrapped by the errors of Redo.
var ErrInput = errors.New("tracker: malformed input")

// Redo makes the change again that a recorder was told of. It returns what that changed, in
// order, until the next call. Any bytes may come as data: what makes no sense changes
// nothing, and is an error.
func (t *Tree) Redo(kind InputKind, id event.ID, data []byte) ([]Change, error) {
	r := reader{b: data, tree: t}
	t.changes = t.changes[:0]
	redo := t.redo(kind, id, &r)
	if r.err == nil && len(r.b) != 0 {
		r.fail("%d bytes after its end", len(r.b))
	}
	if r.err != nil {
		return nil, fmt.Errorf("%w: kind %d: %w", ErrInput, kind, r.err)
	}
	if redo != nil {
		redo()
	}
	return t.changes, nil
}

// redo reads the data of an input, and returns what makes it again.
func (t *Tree) redo(kind InputKind, id event.ID, r *reader) func() {
	switch kind {
	case InputCmdline:
		filename, cmdline, truncated := r.string(), r.string(), r.bool()
		return func() { t.SetCmdline(id, filename, cmdline, truncated) }
	case InputMarks:
		keep, leash := r.bool(), r.bool()
		return func() { t.SetMarks(id, keep, leash) }
	case InputVerdict:
		verdict, provisional := r.string(), r.bool()
		evidence := make([]string, 0, 8)
		for range r.count() {
			evidence = append(evidence, r.string())
		}
		return func() { t.SetVerdict(id, verdict, provisional, evidence) }
	case InputAbandoned:
		return func() { t.SetAbandoned(id) }
	case InputLeak:
		leak := r.string()
		return func() { t.SetLeak(id, leak) }
	case InputParent:
		ppid := r.int32()
		return func() { t.ConfirmParent(id, ppid) }
	case InputTie:
		return func() { t.Tie(id) }
	case InputUntie:
		return func() { t.Untie(id) }
	case InputPin:
		return func() { t.Pin(id) }
	case InputUnpin:
		return func() { t.Unpin(id) }
	case InputRefused:
		total := r.uint(math.MaxUint64)
		return func() { t.NoteRefused(total) }
	case InputBegin:
		return t.redoBegin(r)
	case InputEnd:
		return func() {
			if s := t.redoing; s != nil {
				t.redoing = nil
				s.End()
			}
		}
	}
	r.fail("kind %d is not known", kind)
	return nil
}

func (t *Tree) redoBegin(r *reader) func() {
	began := r.uint(math.MaxUint64)
	var tasks []event.Task
	for range r.count() {
		tasks = append(tasks, r.task())
	}
	return func() {
		if t.redoing != nil { // its end was lost
			t.redoing.End()
		}
		t.redoing = t.Begin(tasks, began)
	}
}

// A checkpoint is an export with what a successor makes anew, so that it is the same tree:
// what is pinned, the tracer's own process, and which leak an orphan belongs to.

// Checkpoint appends the tree to dst, for FromCheckpoint. Command lines are without likely
// secrets, as the function of SetRecorder has it.
func (t *Tree) Checkpoint(dst []byte) ([]byte, error) {
	if t.merging {
		return dst, ErrMerging
	}
	// Who was described before is described anew by whoever goes on from here.
	t.lastSent, t.lastSender = nil, 0
	w := writer{b: dst, tree: t}
	w.uint(uint64(uint32(t.self)))
	var leaky []event.ID
	for r := ref(1); r < t.count; r++ {
		if o := t.orphanOf(r); o != nil && o.Leak != "" && t.find(t.at(r).id()) == r {
			leaky = append(leaky, t.at(r).id())
		}
	}
	slices.SortFunc(leaky, func(a, b event.ID) int { return cmp.Or(cmp.Compare(a.Start, b.Start), cmp.Compare(a.PID, b.PID)) })
	w.uint(uint64(len(leaky)))
	for _, id := range leaky {
		w.id(id)
		w.string(t.orphanOf(t.find(id)).Leak)
	}
	return t.export(w.b, t.hide)
}

// FromCheckpoint returns the tree that Checkpoint wrote, as Import does.
func FromCheckpoint(b []byte, history int) (*Tree, error) {
	r := reader{b: b, tree: New(history)}
	self := r.int32()
	leaks := make(map[event.ID]string)
	for range r.count() {
		id := r.id()
		leaks[id] = r.string()
	}
	if r.err != nil {
		return nil, r.err
	}
	t, err := importTree(slices.Clip(r.b), history, 0)
	if err != nil {
		return nil, err
	}
	t.self = self
	for id, leak := range leaks {
		t.SetLeak(id, leak)
	}
	return t, nil
}
