// SPDX-License-Identifier: Apache-2.0

package render

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/wire"
)

// server is a tree as a server's: a web server with equal workers, and what another left.
func server() *wire.Tree {
	doc := &wire.Tree{Time: now, Complete: true}
	add := func(pid, spawner int32, unit string, mib uint64, args ...string) *wire.Process {
		p := wire.Process{PID: pid, StartNS: uint64(pid), PPID: spawner, Comm: args[0], Cmdline: args, User: "www-data", Unit: unit,
			State: wire.StateRunning, Lineage: wire.LineageObserved, StartedAt: ago(time.Hour - time.Duration(pid)*time.Second),
			RSSBytes: ptr(mib << 20), SwapBytes: ptr(uint64(0))}
		if spawner != 0 {
			p.SpawnedBy = &wire.Ref{PID: spawner, StartNS: uint64(spawner)}
		}
		doc.Processes = append(doc.Processes, p)
		return &doc.Processes[len(doc.Processes)-1]
	}
	add(1, 0, "init.scope", 12, "systemd")
	add(10, 1, "nginx.service", 8, "nginx: master process")
	for i := range 12 {
		add(int32(11+i), 10, "nginx.service", 20, "nginx: worker process")
	}
	add(30, 10, "nginx.service", 4, "nginx: cache manager process")
	add(40, 1, "app.service", 60, "gunicorn", "app:wsgi")
	add(41, 40, "app.service", 300, "python3", "worker.py")
	dead := add(50, 1, "app.service", 0, "gunicorn", "app:wsgi")
	dead.State, dead.RSSBytes, dead.SwapBytes = wire.StateDead, nil, nil
	dead.Exit, dead.ExitedAt = &wire.Exit{Signal: "SIGKILL"}, ago(10*time.Minute)
	for i := range 3 {
		p := add(int32(51+i), 50, "app.service", 500, "python3", "/srv/app/worker.py")
		p.PPID = 1
		p.Orphan = &wire.Orphan{Since: ago(10 * time.Minute), Direct: true, Verdict: wire.VerdictLeaked,
			Leaker: &wire.Leaker{PID: 50, StartNS: 50, Comm: "gunicorn", Exit: dead.Exit}, Tree: &wire.Usage{Processes: 1}}
	}
	return doc
}

func TestTreeChoice(t *testing.T) {
	of := func(comm string) func(*wire.Process) bool {
		return func(p *wire.Process) bool { return p.Comm == comm }
	}
	for _, tt := range []struct {
		name string
		opt  TreeOptions
	}{
		{"folded", TreeOptions{Fold: true}},
		{"folded but for the one that is asked for", TreeOptions{Fold: true, Root: 13}},
		{"by unit", TreeOptions{ByUnit: true, Fold: true}},
		{"by unit in 60 columns", TreeOptions{ByUnit: true, Fold: true, Style: Style{Width: 60}}},
		{"wanted", TreeOptions{Wanted: of("python3")}},
		{"wanted by unit", TreeOptions{Wanted: of("python3"), ByUnit: true}},
		{"wanted below one", TreeOptions{Wanted: of("python3"), Root: 40}},
		{"wanted orphans", TreeOptions{Wanted: of("python3"), Orphans: true}},
		{"six rows", TreeOptions{Rows: 6}},
		{"six rows folded", TreeOptions{Rows: 6, Fold: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var b bytes.Buffer
			if err := Tree(&b, server(), tt.opt); err != nil {
				t.Fatal(err)
			}
			golden(t, b.Bytes())
		})
	}
}

// What is folded or left out is still counted: nobody vanishes from a drawing.
func TestTreeCountsWhatItDoesNotDraw(t *testing.T) {
	for rows := range 30 {
		for _, fold := range []bool{false, true} {
			var b bytes.Buffer
			if err := Tree(&b, server(), TreeOptions{Rows: rows, Fold: fold}); err != nil {
				t.Fatal(err)
			}
			drawn, lines := 0, 0
			for line := range strings.Lines(b.String()) {
				var n int
				switch text := strings.TrimSpace(line); {
				case strings.HasPrefix(text, "PID"):
				case strings.Contains(text, " more"):
					_, _ = fmt.Sscanf(text, "%d", &n)
					drawn += n
				default:
					n = 1
					if at := strings.Index(text, " × "); at >= 0 {
						_, _ = fmt.Sscanf(text[strings.LastIndex(text[:at], " ")+1:], "%d", &n)
					}
					drawn += n
					lines++
				}
			}
			if want := len(server().Processes); drawn != want || rows > 0 && lines > rows {
				t.Errorf("%d rows, folded %v: %d of %d processes in %d lines:\n%s", rows, fold, drawn, want, lines, b.String())
			}
		}
	}
}

// deep is a tree of many levels and wide letters, whose last process was left behind.
func deep() *wire.Tree {
	doc := server()
	spawner := int32(41)
	for i := range 30 {
		pid := int32(4194200 + i)
		p := wire.Process{PID: pid, StartNS: uint64(pid), PPID: spawner, Comm: "sh", User: "管理者のユーザー",
			Cmdline: []string{"/usr/local/lib/深い/場所/bin/工作者", "--名前", "長い値長い値長い値長い値", "--level", fmt.Sprint(i)},
			State:   wire.StateRunning, StartedAt: ago(400 * 24 * time.Hour), RSSBytes: ptr(uint64(1) << 40), SwapBytes: ptr(uint64(0)),
			SpawnedBy: &wire.Ref{PID: spawner, StartNS: uint64(spawner)}}
		if i > 10 {
			p.Orphan = &wire.Orphan{Since: ago(time.Hour), Verdict: wire.VerdictDeliberate, Tree: &wire.Usage{Processes: 1},
				Leaker: &wire.Leaker{PID: 4194199, Comm: "工作者", Exit: &wire.Exit{Signal: "SIGKILL"}}}
		}
		doc.Processes = append(doc.Processes, p)
		spawner = pid
	}
	return doc
}

// No line is wider than the terminal, from 60 columns on, and no verdict is cut.
func TestTreeFits(t *testing.T) {
	for name, doc := range map[string]*wire.Tree{"sample": sample(), "server": server(), "deep": deep()} {
		for _, width := range []int{60, 61, 79, 80, 99, 100, 120, 200} {
			for _, opt := range []TreeOptions{{}, {Orphans: true}, {ByUnit: true, Fold: true}, {Kernel: true, Threads: true}} {
				opt.Width = width
				var b bytes.Buffer
				if err := Tree(&b, doc, opt); err != nil {
					t.Fatal(err)
				}
				orphans, verdicts := 0, 0
				for line := range strings.Lines(b.String()) {
					line = strings.TrimSuffix(line, "\n")
					if got := displayWidth(line); got > width {
						t.Errorf("%s, %+v: %d columns: %q", name, opt, got, line)
					}
					if strings.Contains(line, "  orphan ") || strings.Contains(line, "  stranded ") {
						orphans++
					}
					for _, v := range []string{"(leaked)", "(deliberate)", "(unknown)"} {
						verdicts += strings.Count(line, v)
					}
				}
				if orphans != verdicts || orphans == 0 {
					t.Errorf("%s, %+v: %d orphans, %d verdicts:\n%s", name, opt, orphans, verdicts, b.String())
				}
			}
		}
	}
}
