// SPDX-License-Identifier: Apache-2.0

package truth

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/abot-trace/abot-trace/internal/proctest"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// leaksOf has for each of families an expression for its leaks: of each the leaker, the members
// that were told of, how many there were in all, and how it ended.
var leaksOf = map[string]string{
	"killed":               "main=orphan/1 exit",
	"aborted":              "main=orphan/1 exit",
	"exits_with_code":      `main=one\+two/2 exit`,
	"execs_after":          "main=orphan/1 exit",
	"worker_thread":        "main=orphan/1 exit",
	"forking_thread_exits": "main=orphan/1 exit",
	"leader_exits":         `main=early\+orphan/2 exit`,
	"thread_execs":         "main=orphan/1 exit",
	"subreapers":           "leaker=orphan/1 exit, inner=second/1 exit",
	"namespace":            "leaker=orphan/1 (exit|signal)", // its init ends at the same time, and takes it along
	"namespace_dies":       "",
	"double_fork":          "(middle=orphan/1 exit)?",  // deliberate, unless it took more than 5 s
	"nohup":                `(main=(orphan)?/1 exit)?`, // deliberate, unless it took more than 1 s to execute nohup
	"chain":                `main=deep\+server\+worker/3 exit`,
	"server_dies_too":      `main=late\+worker/[23] (exit|mixed)`, // the server may be gone before it is judged
	"pool_fork":            "main=worker/1 exit",
	"pool_spawn":           `main=tracker\+worker/2 exit`,
	"pool_forkserver":      `main=server\+tracker\+worker/3 exit`,
	"clone_parent":         "main=sibling/1 exit",
	"leaves_lineage":       "main=left/[12] (exit|mixed)",
	"leaves_in_handler":    "main=left/[12] (exit|mixed)",
	"setns_into_dead":      "leaker=orphan/1 (exit|signal)",
	"traced":               `main=kid\+tracee\+tracer/3 exit`,
	"nobody":               "",
}

// A cast is one family of families.py at work beside others.
type cast struct {
	*leakWorld
	release *os.File

	spoken sync.Mutex
	roles  map[int32]string
	said   map[string]int
}

// cast starts a family.
func (w *leakWorld) cast(t *testing.T, name string) *cast {
	t.Helper()
	interpreter, err := python()
	proctest.Need(t, err)
	r, release, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		release.Close()
		r.Close()
	})
	c := &cast{leakWorld: w, release: release, roles: map[int32]string{}, said: map[string]int{}}
	cmd := exec.Command(interpreter, "testdata/families.py", name)
	cmd.Env = append(os.Environ(), "PYTHONWARNINGS=ignore", fmt.Sprintf("HOLD=/proc/%d/fd/%d", os.Getpid(), r.Fd()))
	w.run(cmd, func(line string) {
		var role string
		var pid int32
		if _, err := fmt.Sscan(line, &role, &pid); err != nil {
			t.Errorf("%s: a process says %q", name, line)
			return
		}
		c.spoken.Lock()
		defer c.spoken.Unlock()
		c.roles[pid] = role
		c.said[role]++
	})
	return c
}

// have reports whether each role has spoken so many times.
func (c *cast) have(roles map[string]int) bool {
	c.spoken.Lock()
	defer c.spoken.Unlock()
	for role, n := range roles {
		if c.said[role] < n {
			return false
		}
	}
	return true
}

// any reports whether any process of the family is as ok says.
func (c *cast) any(tree *tracker.Tree, ok func(*tracker.Process) bool) bool {
	c.spoken.Lock()
	defer c.spoken.Unlock()
	for pid := range c.roles {
		if id, known := tree.Lookup(pid); known {
			if p, _ := tree.Get(id); ok(&p) {
				return true
			}
		}
	}
	return false
}

// judged reports whether the verdict on each orphan of the family is final.
func (c *cast) judged(tree *tracker.Tree) bool {
	return !c.any(tree, func(p *tracker.Process) bool {
		return !p.Dead && p.Orphan != nil && (p.Orphan.Verdict == "" || p.Orphan.Provisional)
	})
}

// leaks puts what was told of the family's leaks into the words of a shape, and whether all have
// ended.
func (c *cast) leaks() (text string, open int) {
	c.spoken.Lock()
	defer c.spoken.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	var leaks []wire.Leak
	members := map[string]map[string]bool{}
	for id, told := range c.told {
		if c.roles[told[0].Leaker.PID] == "" {
			continue
		}
		members[id] = map[string]bool{}
		for i := range told {
			for _, m := range told[i].Members {
				members[id][c.roles[m.PID]] = true
			}
		}
		l := told[len(told)-1]
		if l.State == wire.LeakStateOpen {
			open++
		}
		leaks = append(leaks, l)
	}
	slices.SortFunc(leaks, func(a, b wire.Leak) int { return int(int64(a.OpenedNS) - int64(b.OpenedNS)) })
	var words []string
	for _, l := range leaks {
		words = append(words, fmt.Sprintf("%s=%s/%d %s", c.roles[l.Leaker.PID], strings.Join(slices.Sorted(maps.Keys(members[l.ID])), "+"),
			l.Processes.Total, l.EndedBy))
	}
	return strings.Join(words, ", "), open
}

// TestLeaksOfFamilies makes all families at a time: each leak is opened once, of those who were
// left, and has ended when they have.
func TestLeaksOfFamilies(t *testing.T) {
	w := newLeakWorld(t)
	var all sync.WaitGroup
	for _, f := range families {
		all.Go(func() {
			t.Run(f.name, func(t *testing.T) {
				c := w.cast(t, f.name)
				roles := maps.Clone(f.says)
				if roles == nil {
					roles = map[string]int{}
				}
				for _, l := range f.leaks {
					for _, role := range []string{l.orphan, l.leaker} {
						roles[role] = 1
					}
				}
				w.await(t, "the roles", func(*tracker.Tree) bool { return c.have(roles) })
				want, known := leaksOf[f.name]
				if !known {
					t.Fatal("nobody says what it leaks")
				}
				leaks := 0
				if want != "" && !strings.HasSuffix(want, "?") {
					leaks = strings.Count(want, ", ") + 1
				}
				w.await(t, "verdicts, and leaks", func(tree *tracker.Tree) bool {
					_, open := c.leaks()
					return open >= leaks && c.judged(tree)
				})
				c.release.Close()
				w.await(t, "the end of all", func(tree *tracker.Tree) bool {
					return !c.any(tree, func(p *tracker.Process) bool { return !p.Dead })
				})
				w.await(t, "the ends of leaks", func(*tracker.Tree) bool { _, open := c.leaks(); return open == 0 })
				if got, _ := c.leaks(); !regexp.MustCompile("^(" + want + ")$").MatchString(got) {
					t.Errorf("%s: leaks: %q, want %s", f.name, got, want)
				}
			})
		})
	}
	all.Wait()
}
