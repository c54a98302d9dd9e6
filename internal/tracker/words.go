// SPDX-License-Identifier: Apache-2.0

package tracker

import (
	"slices"
	"strings"
)

// Limits on the bytes that are remembered. Who is how many is bounded elsewhere: arguments
// and evidence are what processes choose the size of.
const (
	// wordBytes is what all programs and arguments may take before those of the dead are
	// forgotten, the oldest dead first.
	wordBytes = 64 << 20
	// crowdedWordBytes is what those of the living may take before only the beginning of
	// another's is kept. Procfs has the whole.
	crowdedWordBytes = 128 << 20
	crowdedWords     = 256
	// toldBytes is the same for what the dead who were orphans were told of with: evidence,
	// and the words of who left them.
	toldBytes = 32 << 20
	// exportBytes is how large an export with all words may become.
	exportBytes = 160 << 20
)

// limits are those of a tree: a test's may be lower.
type limits struct{ words, crowdedWords, told, export int }

func (w words) size() int { return len(w.filename) + len(w.cmdline) }

// putWords returns the name of what a process runs, and whether less of it is kept than there
// was.
func (t *Tree) putWords(w words) (name interned, cut bool) {
	if t.words.bytes+w.size() > t.limits.crowdedWords && w.size() > crowdedWords {
		w = words{beginning(w.filename), beginning(w.cmdline)}
		cut = true
	}
	name = t.words.put(w)
	t.forgetWords()
	return name, cut
}

// beginning returns a copy of the first bytes of s: a part would keep the whole in memory.
func beginning(s string) string { return strings.Clone(s[:min(len(s), crowdedWords/2)]) }

// noteDead takes note of what the words of r, which is dead, take from now on: they may be
// forgotten.
func (t *Tree) noteDead(r ref) {
	t.countTold(r)
	if t.at(r).words == 0 && t.ends[r].told == 0 {
		return
	}
	t.wordy = append(t.wordy, wordy{r, t.at(r).start})
	if len(t.wordy) > 2*len(t.dead)+1024 {
		t.wordy = slices.DeleteFunc(t.wordy, func(w wordy) bool { return !t.isWordy(w) })
	}
	t.forgetWords()
}

// countTold counts anew what the dead r was told of with.
func (t *Tree) countTold(r ref) {
	how, told := t.ends[r], t.toldOf(r)
	if t.told += told - how.told; how.told != told {
		how.told = told
		t.ends[r] = how
	}
}

// wordy is a dead node that has words, if it still is the one with that start.
type wordy struct {
	at    ref
	start uint64
}

func (t *Tree) isWordy(w wordy) bool { return t.at(w.at).start == w.start && t.at(w.at).is(flagDead) }

// toldOf is how much the dead process was told of with.
func (t *Tree) toldOf(r ref) (n int) {
	o := t.ends[r].orphan
	if o == nil {
		return 0
	}
	for _, line := range o.Evidence {
		n += len(line)
	}
	if o.Leaker != nil {
		n += len(o.Leaker.Filename) + len(o.Leaker.Cmdline)
	}
	return n
}

// forgetWords forgets the words of the dead, the oldest first, until all fit.
func (t *Tree) forgetWords() {
	for len(t.wordy) > 0 && (t.words.bytes > t.limits.words || t.told > t.limits.told) {
		oldest := t.wordy[0]
		t.wordy = t.wordy[1:]
		if !t.isWordy(oldest) {
			continue
		}
		n := t.at(oldest.at)
		t.words.drop(n.words)
		n.words = 0
		if how := t.ends[oldest.at]; how.orphan != nil {
			how.orphan = how.orphan.withoutWords()
			t.ends[oldest.at] = how
			t.countTold(oldest.at)
		}
	}
}

// withoutWords is o, which others may share, without what takes memory by the choice of
// processes.
func (o *Orphan) withoutWords() *Orphan {
	short := *o
	short.Evidence = nil
	if o.Leaker != nil {
		leaker := *o.Leaker
		leaker.Filename, leaker.Cmdline = "", ""
		short.Leaker = &leaker
	}
	return &short
}
