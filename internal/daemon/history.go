// SPDX-License-Identifier: Apache-2.0

package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/abot-trace/abot-trace/internal/config"
	"github.com/abot-trace/abot-trace/internal/history"
	"github.com/abot-trace/abot-trace/internal/metrics"
	"github.com/abot-trace/abot-trace/internal/past"
	"github.com/abot-trace/abot-trace/internal/rootfile"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// historyDir is the directory of the history in that of the state.
const historyDir = "history"

// sectionHistory of the state says up to where the history holds what is in the state.
const sectionHistory = "history"

// syncPatience is how long a save waits until what it takes for kept is on the disk. It is
// longer than any disk takes that works.
const syncPatience = 5 * time.Second

// A historyKeeper keeps the history of this daemon. Whatever fails in it is told, and the
// daemon goes on without. nil keeps none.
type historyKeeper struct {
	log   *slog.Logger
	dir   *rootfile.Dir
	store *history.Store
	rec   *past.Recorder
}

// A keptUpTo is a place in the history.
type keptUpTo struct {
	Epoch string `json:"epoch"`
	Seq   uint64 `json:"seq"`
}

// openHistory opens the history below the directory of the state, which is locked. It returns
// nil where none is to be kept, and an error where it cannot be: that is no reason to stop.
func openHistory(state string, cfg *config.History, log *slog.Logger) (*historyKeeper, error) {
	if state == "" || cfg.Off {
		return nil, nil
	}
	dir, err := rootfile.Own.MakeDir(filepath.Join(state, historyDir), 0o700)
	if err != nil {
		return nil, fmt.Errorf("no history is kept: %w", err)
	}
	store, err := history.Open(dir, history.Options{Machine: hostID("/etc/machine-id"), Boot: hostID("/proc/sys/kernel/random/boot_id"),
		Limits: historyLimits(cfg), Log: log})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("no history is kept: %w", err), dir.Close())
	}
	return &historyKeeper{log: log, dir: dir, store: store, rec: past.NewRecorder(store)}, nil
}

// hostID reads a file with an id; without one all such hosts are the same.
func hostID(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(b))
}

func historyLimits(cfg *config.History) history.Limits {
	return history.Limits{Size: int64(cfg.Size.Bytes), Age: cfg.Age.Value,
		NotableSize: int64(cfg.NotableSize.Bytes), NotableAge: cfg.NotableAge.Value}
}

// configure takes other limits. Whether a history is kept at all is decided at the start.
func (k *historyKeeper) configure(cfg *config.History) {
	switch {
	case k == nil:
	case cfg.Off:
		k.log.Warn("the history is kept until the next restart")
	default:
		k.store.SetLimits(historyLimits(cfg))
	}
}

// recorder is what the tracer tells; nil records nothing.
func (k *historyKeeper) recorder() *past.Recorder {
	if k == nil {
		return nil
	}
	return k.rec
}

// resume has the tracer go on from a state with that section: what the daemon before had
// written, and not saved, comes again.
func (k *historyKeeper) resume(saved []byte) {
	if k != nil {
		k.rec.Repeat(k.repeats(saved))
	}
}

// repeats is how many records are on the disk behind what the state holds: the ring has them
// still.
func (k *historyKeeper) repeats(saved []byte) (n uint64) {
	var upTo keptUpTo
	if saved == nil || json.Unmarshal(saved, &upTo) != nil || upTo.Epoch != k.store.Epoch() {
		return 0
	}
	err := k.store.View(history.Stream).Entries(history.Range{FromSeq: upTo.Seq}, func(_ *history.SegmentHead, e history.Entry) bool {
		if e.Event != nil {
			n++
		}
		return true
	})
	if err != nil {
		k.log.Warn("the end of the history cannot be read: some records may be told twice", "err", err)
		return 0
	}
	return n
}

// mark hands everything to the disk, and returns the section of the state that says so. On
// the loop, or when it has ended.
func (k *historyKeeper) mark() []byte {
	if k == nil {
		return nil
	}
	k.store.Flush()
	b, err := json.Marshal(keptUpTo{k.store.Epoch(), k.store.Seq()})
	if err != nil {
		return nil
	}
	return b
}

// wait waits until what was marked is on the disk.
func (k *historyKeeper) wait() {
	if k != nil {
		k.store.Wait(syncPatience)
	}
}

// close writes what is left. The tracer has stopped.
func (k *historyKeeper) close() {
	if k == nil {
		return
	}
	if err := errors.Join(k.store.Close(), k.dir.Close()); err != nil {
		k.log.Warn("close the history", "err", err)
	}
}

// status is what is kept, and how fast it grows; nil where nothing is.
func (k *historyKeeper) status() *wire.StatusHistory {
	if k == nil {
		return nil
	}
	st := k.store.Stats()
	return &wire.StatusHistory{Epoch: k.store.Epoch(), Lost: st.Dropped + st.NotableDropped, Damaged: st.Damaged, SetAside: st.SetAside, Error: st.Error,
		Stream:  keptStatus(&st, history.Stream, st.Limits.Size, st.Limits.Age),
		Notable: keptStatus(&st, history.Notable, st.Limits.NotableSize, st.Limits.NotableAge)}
}

// figures is what is counted for Prometheus; nil where nothing is kept.
func (k *historyKeeper) figures() *metrics.History {
	if k == nil {
		return nil
	}
	st := k.store.Stats()
	h := &metrics.History{Bytes: make(map[string]int64), Since: make(map[string]time.Time), Lost: st.Dropped + st.NotableDropped}
	for class, n := range st.Bytes {
		h.Bytes[string(class)], h.Since[string(class)] = n, st.Oldest[class]
	}
	return h
}

// leastSpan is what must be kept to say how fast it grows.
const leastSpan = 10 * time.Minute

func keptStatus(st *history.Stats, class history.Class, size int64, age time.Duration) wire.StatusKept {
	kept := wire.StatusKept{Bytes: uint64(st.Bytes[class]), LimitBytes: uint64(size), LimitAge: age.Seconds(), Segments: st.Segments[class]}
	since, ok := st.Oldest[class]
	if !ok {
		return kept
	}
	until := st.Newest[class]
	kept.Since, kept.Until = &since, &until
	if span := until.Sub(since); span >= leastSpan && kept.Bytes > 0 {
		perSecond := float64(kept.Bytes) / span.Seconds()
		perDay, left := perSecond*86400, max(0, float64(size)-float64(kept.Bytes))/perSecond
		kept.BytesPerDay, kept.SecondsLeft = &perDay, &left
	}
	return kept
}

// condition says why nothing is kept at present, nil where all is well.
func (k *historyKeeper) condition() error {
	if k == nil {
		return nil
	}
	if st := k.store.Stats(); st.Error != "" {
		return fmt.Errorf("the history is not written: %s", st.Error)
	}
	return nil
}
