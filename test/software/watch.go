// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/abot-trace/abot-trace/internal/wire"
	"github.com/abot-trace/abot-trace/test/debian"
)

// ticksNS is one tick of /proc/PID/stat, in ns.
const ticksNS = uint64(10 * time.Millisecond)

// An identity is a process of the container: its pid there, and its start in ticks.
type identity struct {
	pid   int32
	start uint64
}

// A word is what was told of an orphan at one moment.
type word struct {
	timeNS      uint64
	verdict     string
	provisional bool
	because     string // the first line of the evidence
}

// A record is one event, as far as this test looks at it. Fields that package wire does
// not have are read, too, where an event has them.
type record struct {
	wire.Event
	Process *struct {
		PID     int32  `json:"pid"`
		StartNS uint64 `json:"start_ns"`
		Orphan  *struct {
			wire.Orphan
			Provisional bool `json:"provisional"`
		} `json:"orphan"`
	} `json:"process"`
}

// A watch follows the daemon's stream and remembers what was told of each orphan.
type watch struct {
	mu    sync.Mutex
	words map[identity][]word
	ended map[identity]string // the outcome of a kill by the armed rule
	lines map[identity][]string
	lost  uint64
	err   error
	fed   chan struct{} // closed when the first event has come
}

// armedRule is the name of the rule that is armed in every place.
const armedRule = "armed"

// follow begins to follow the stream of the daemon in a container.
func follow(ctx context.Context, c *debian.Container) (*watch, error) {
	w := &watch{words: map[identity][]word{}, ended: map[identity]string{}, lines: map[identity][]string{}, fed: make(chan struct{})}
	cmd := c.Command(ctx, "abot-trace", "events", "--follow", "--json", "--socket", socket)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		lines := bufio.NewReaderSize(out, 1<<20)
		for n := 0; ; n++ {
			line, err := lines.ReadString('\n')
			if err != nil {
				break
			}
			if n == 0 {
				close(w.fed)
			}
			w.take(line)
		}
		err := cmd.Wait()
		w.mu.Lock()
		defer w.mu.Unlock()
		w.err = fmt.Errorf("the stream of events has ended: %v", err)
	}()
	return w, nil
}

func (w *watch) take(line string) {
	var r record
	err := json.Unmarshal([]byte(line), &r)
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.err = fmt.Errorf("events --json: %w: %q", err, line)
		return
	}
	if r.Lost != nil {
		w.lost += r.Lost.Records
	}
	if r.Kill != nil && r.Kill.Rule == armedRule {
		for _, k := range r.Kill.Processes {
			id := identity{k.PID, k.StartNS / ticksNS}
			w.ended[id] = k.Outcome
			w.lines[id] = append(w.lines[id], line)
		}
	}
	if r.Process == nil {
		return
	}
	id := identity{r.Process.PID, r.Process.StartNS / ticksNS}
	if r.Type == wire.TypeExit || r.Type == wire.TypeExec || r.Process.Orphan != nil {
		w.lines[id] = append(w.lines[id], line)
	}
	if o := r.Process.Orphan; o != nil && o.Verdict != "" && (r.Type == wire.TypeOrphan || r.Type == "verdict") {
		because, _, _ := strings.Cut(strings.Join(o.Evidence, "\n"), "\n")
		w.words[id] = append(w.words[id], word{r.TimeNS, o.Verdict, o.Provisional, because})
	}
}

// of returns what was told of a process, and the outcome of its end by the armed rule.
func (w *watch) of(id identity) (words []word, ended string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.words[id]), w.ended[id]
}

// told returns every line about a process.
func (w *watch) told(id identity) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.lines[id])
}

// trouble says what makes all that is read here worthless.
func (w *watch) trouble() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil && w.lost > 0 {
		return fmt.Errorf("%d records were lost", w.lost)
	}
	return w.err
}
