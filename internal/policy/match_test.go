// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/verdict"
)

// TestConditions holds each condition alone against one leaked tree, 200 s after boot.
func TestConditions(t *testing.T) {
	type test struct {
		name   string
		rule   Rule
		change func(*Process)
		host   func(*Host)
		acts   bool
		reason string // the last reason, or why it does not apply
	}
	tests := []test{
		{name: "no condition", acts: true, reason: "its verdict is leaked"},
		{name: "deliberate", change: func(p *Process) { p.Verdict = verdict.Deliberate },
			reason: "its verdict is deliberate, not leaked"},
		{name: "unknown", change: func(p *Process) { p.Verdict = verdict.Unknown },
			reason: "its verdict is unknown, not leaked"},
		{name: "unknown listed", rule: Rule{Verdict: []string{"leaked", "unknown"}},
			change: func(p *Process) { p.Verdict = verdict.Unknown }, acts: true, reason: "its verdict is unknown"},
		{name: "notify takes any verdict", rule: Rule{Action: ActionNotify},
			change: func(p *Process) { p.Verdict = verdict.Deliberate }, acts: true, reason: "its verdict is deliberate"},
		{name: "user", rule: Rule{Match: Match{"user": []string{"web", "app"}}}, acts: true, reason: "its user is app"},
		{name: "user by number", rule: Rule{Match: Match{"user": []string{"1000"}}}, acts: true, reason: "its user is app"},
		{name: "other user", rule: Rule{Match: Match{"user": []string{"web"}}}, reason: "its user is app, not web"},
		{name: "user without a name", rule: Rule{Match: Match{"user": []string{"web"}}}, change: func(p *Process) { p.User = "" },
			reason: "its user is 1000, not web"},
		{name: "unit glob", rule: Rule{Match: Match{"unit": []string{"web*.service"}}}, change: func(p *Process) { p.Unit = "web-1.service" },
			acts: true, reason: "its unit is web-1.service"},
		{name: "other unit", rule: Rule{Match: Match{"unit": []string{"web*.service"}}}, change: func(p *Process) { p.Unit = "db.service" },
			reason: "its unit is db.service, which does not match web*.service"},
		{name: "no unit", rule: Rule{Match: Match{"unit": []string{"web*.service"}}}, reason: "its unit is not known, or it has none"},
		{name: "container by name", rule: Rule{Match: Match{"container": []string{"web-*"}}}, change: inContainer, acts: true, reason: "its container is web-1"},
		{name: "container by id", rule: Rule{Match: Match{"container": []string{"0123*"}}}, change: inContainer, acts: true, reason: "its container is 0123abcd"},
		{name: "any container, of one without a name", rule: Rule{Match: Match{"container": []string{"*"}}}, acts: true, reason: "its container is 0123abcd",
			change: func(p *Process) { p.ContainerID = "0123abcd" }},
		{name: "other container", rule: Rule{Match: Match{"container": []string{"db", "web"}}}, change: inContainer,
			reason: "its container is web-1, which does not match db or web"},
		{name: "no container", rule: Rule{Match: Match{"container": []string{"*"}}}, reason: "its container is not known, or it has none"},
		{name: "pod across the slash", rule: Rule{Match: Match{"pod": []string{"shop*"}}}, change: inContainer, acts: true, reason: "its pod is shop/web-0"},
		{name: "pods of a namespace", rule: Rule{Match: Match{"pod": []string{"shop/*"}}}, change: inContainer, acts: true, reason: "its pod is shop/web-0"},
		{name: "other pod", rule: Rule{Match: Match{"pod": []string{"web-0"}}}, change: inContainer, reason: "its pod is shop/web-0, which does not match web-0"},
		{name: "image across slashes", rule: Rule{Match: Match{"image": []string{"registry.example/*:1.*"}}}, change: inContainer, acts: true,
			reason: "its image is registry.example/team/box:1.2"},
		{name: "image of several characters", rule: Rule{Match: Match{"image": []string{"registry.example?team[/]box:1.2"}}}, change: inContainer, acts: true,
			reason: "its image is registry.example/team/box:1.2"},
		{name: "image not known", rule: Rule{Match: Match{"image": []string{"*"}}}, change: func(p *Process) { p.ContainerID = "0123abcd" },
			reason: "its image is not known, or it has none"},
		{name: "listens", rule: Rule{Match: Match{"listens": []string{"5173", "8000-8099"}}}, change: holding(Held{At: 199e9, Ports: []uint16{22, 8042}}), acts: true,
			reason: "it listens on port 8042"},
		{name: "listens elsewhere", rule: Rule{Match: Match{"listens": []string{"5173", "8000-8099"}}}, change: holding(Held{At: 199e9, Ports: []uint16{8100, 7999}}),
			reason: "it listens on none of these ports"},
		{name: "listens, was not read", rule: Rule{Match: Match{"listens": []string{"1-65535"}}}, reason: "what it holds is not read yet, or cannot be"},
		{name: "listens, was read too long ago", rule: Rule{Match: Match{"listens": []string{"1-65535"}}}, change: holding(Held{At: 169e9, Ports: []uint16{1}}),
			reason: "what it holds is not read yet, or cannot be"},
		{name: "listens, was read just in time", rule: Rule{Match: Match{"listens": []string{"1-65535"}}}, change: holding(Held{At: 170e9, Ports: []uint16{1}}), acts: true,
			reason: "it listens on port 1"},
		{name: "holds a GPU", rule: Rule{Match: Match{"holds_gpu": true}}, change: holding(Held{At: 199e9, GPU: true}), acts: true, reason: "it has a GPU device open"},
		{name: "holds no GPU", rule: Rule{Match: Match{"holds_gpu": true}}, change: holding(Held{At: 199e9}), reason: "it has no GPU device open"},
		{name: "holds a GPU, was not read", rule: Rule{Match: Match{"holds_gpu": true}}, reason: "what it holds is not read yet, or cannot be"},
		{name: "exe glob", rule: Rule{Match: Match{"exe": []string{"/usr/bin/python3*"}}}, acts: true, reason: "its exe is /usr/bin/python3.11"},
		{name: "exe glob stays within its directory", rule: Rule{Match: Match{"exe": []string{"/usr/*"}}},
			reason: "its exe is /usr/bin/python3.11, which does not match /usr/*"},
		{name: "exe is the whole path", rule: Rule{Match: Match{"exe": []string{"/usr/bin/python3"}}},
			reason: "its exe is /usr/bin/python3.11, which does not match /usr/bin/python3"},
		{name: "cmdline", rule: Rule{Match: Match{"cmdline": `-c w\w+k$`}}, acts: true, reason: `its command line matches -c w\w+k$`},
		{name: "other cmdline", rule: Rule{Match: Match{"cmdline": "celery"}}, reason: "its command line does not match celery"},
		{name: "cmdline not known", rule: Rule{Match: Match{"cmdline": "celery"}}, change: func(p *Process) { p.Cmdline = "" },
			reason: "its command line is not known"},
		{name: "spawned by a dead ancestor", rule: Rule{Match: Match{"spawned_by": "gunicorn"}}, acts: true,
			reason: "the command line of its ancestor pid 10 (gunicorn) matches gunicorn"},
		{name: "spawned by someone else", rule: Rule{Match: Match{"spawned_by": "celery"}},
			reason: "no known ancestor's command line matches celery"},
		{name: "left by a gunicorn", rule: Rule{Match: Match{"leaker": "gunicorn"}}, change: func(p *Process) { p.LeakerCmdline = "gunicorn web" }, acts: true,
			reason: "the command line of its leaker matches gunicorn"},
		{name: "left by somebody else", rule: Rule{Match: Match{"leaker": "gunicorn"}}, change: func(p *Process) { p.LeakerCmdline = "celery" },
			reason: "the command line of its leaker does not match gunicorn"},
		{name: "left by nobody knows whom", rule: Rule{Match: Match{"leaker": "gunicorn"}}, reason: "the command line of its leaker is not known"},
		{name: "nobody at the other end", rule: Rule{Match: Match{"stdio": StdioAbandoned}}, change: func(p *Process) { p.Abandoned = true }, acts: true,
			reason: "nobody is at the other end of its standard input, output or error"},
		{name: "somebody at the other end", rule: Rule{Match: Match{"stdio": StdioAbandoned}},
			reason: "somebody is at the other ends of its standard input, output and error, or that is not known"},
		{name: "orphaned for long enough", rule: Rule{Match: Match{"orphaned_for": 100 * time.Second}}, acts: true,
			reason: "it has been an orphan for 1m40s, at least 1m40s"},
		{name: "not an orphan for long enough", rule: Rule{Match: Match{"orphaned_for": 101 * time.Second}},
			reason: "it will apply with time: it has been an orphan for 1m40s, less than 1m41s"},
		{name: "orphan since nobody knows", rule: Rule{Match: Match{"orphaned_for": time.Second}}, change: func(p *Process) { p.Since = 0 },
			reason: "since when it is an orphan is not known"},
		{name: "older", rule: Rule{Match: Match{"older_than": 180 * time.Second}}, acts: true, reason: "its age is 3m, at least 3m"},
		{name: "younger", rule: Rule{Match: Match{"older_than": time.Hour}}, reason: "it will apply with time: its age is 3m, less than 1h"},
		{name: "memory of the tree", rule: Rule{Match: Match{"memory_above": uint64(39 << 20)}}, acts: true,
			reason: "its tree holds 40 MiB, more than 39 MiB"},
		{name: "swap counts", rule: Rule{Match: Match{"memory_above": uint64(1 << 30)}}, change: func(p *Process) { p.Swap = 1 << 30 }, acts: true,
			reason: "its tree holds 1.04 GiB, more than 1 GiB"},
		{name: "little memory", rule: Rule{Match: Match{"memory_above": uint64(40 << 20)}}, reason: "its tree holds 40 MiB, not more than 40 MiB"},
		{name: "memory not known", rule: Rule{Match: Match{"memory_above": uint64(1)}}, change: func(p *Process) { p.MemoryKnown = false },
			reason: "the memory of its tree is not sampled"},
		{name: "memory of the leak", rule: Rule{Match: Match{"leak_memory_above": uint64(1 << 30)}}, change: inLeak("L1"), acts: true,
			reason: "its leak holds 2 GiB, more than 1 GiB"},
		{name: "a leak with little memory", rule: Rule{Match: Match{"leak_memory_above": uint64(3 << 30)}}, change: inLeak("L1"),
			reason: "its leak holds 2 GiB, not more than 3 GiB"},
		{name: "a leak that was not sampled", rule: Rule{Match: Match{"leak_memory_above": uint64(1)}}, change: inLeak("L2"),
			reason: "the memory of its leak is not sampled"},
		{name: "memory of no leak", rule: Rule{Match: Match{"leak_memory_above": uint64(1)}}, reason: "it belongs to no leak"},
		{name: "processes of the leak", rule: Rule{Match: Match{"leak_processes_above": 15}}, change: inLeak("L1"), acts: true,
			reason: "its leak has 16 processes, more than 15"},
		{name: "a leak of few processes", rule: Rule{Match: Match{"leak_processes_above": 16}}, change: inLeak("L1"),
			reason: "its leak has 16 processes, not more than 16"},
		{name: "processes of no leak", rule: Rule{Match: Match{"leak_processes_above": 1}}, reason: "it belongs to no leak"},
		{name: "host expression", rule: Rule{Match: Match{"when": "host.memory_percent > 85"}}, host: func(h *Host) { h.MemoryPercent = 90 },
			acts: true, reason: "the expression host.memory_percent > 85 holds"},
		{name: "host expression does not hold", rule: Rule{Match: Match{"when": "host.memory_percent > 85"}},
			reason: "the expression host.memory_percent > 85 does not hold"},
		{name: "host not known", rule: Rule{Match: Match{"when": "host.memory_percent < 85"}}, host: func(h *Host) { *h = UnknownHost() },
			reason: "the expression host.memory_percent < 85 cannot be told: host.memory_percent is not known"},
		{name: "a negation of the unknown", rule: Rule{Match: Match{"when": "not (host.load1 > 3)"}}, host: func(h *Host) { *h = UnknownHost() },
			reason: "the expression not (host.load1 > 3) cannot be told: host.load1 is not known"},
		{name: "unused figures may be unknown", rule: Rule{Match: Match{"when": "process.uid == 1000"}}, host: func(h *Host) { *h = UnknownHost() },
			acts: true, reason: "the expression process.uid == 1000 holds"},
		{name: "process expression", rule: Rule{Match: Match{"when": `process.orphan_seconds >= 100 and process.exe startsWith "/usr/" and process.tree_bytes > 3e7`}},
			acts: true, reason: `the expression process.orphan_seconds >= 100 and process.exe startsWith "/usr/" and process.tree_bytes > 3e7 holds`},
		{name: "expression that fails at run time", rule: Rule{Match: Match{"when": `process.pid % (process.uid - 1000) == 1`}},
			reason: `the expression process.pid % (process.uid - 1000) == 1 cannot be told: runtime error: integer divide by zero`},
		{name: "the first that fails is told", rule: Rule{Match: Match{"user": []string{"web"}, "memory_above": uint64(1 << 40)}},
			reason: "its user is app, not web"},
	}
	for i := range Fields {
		for _, acts := range []bool{true, false} {
			if name := Fields[i].Name(); !slices.ContainsFunc(tests, func(tt test) bool { return tt.acts == acts && tt.rule.Match[name] != nil }) {
				t.Errorf("the field %s has no row that acts: %v", name, acts)
			}
		}
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f, host := leakedTree(), idleHost()
			f.leaks["L1"], f.leaks["L2"] = Leak{Processes: 16, Bytes: 2 << 30, BytesKnown: true}, Leak{Processes: 1}
			if tt.change != nil {
				tt.change(f.processes[id(20)])
			}
			if tt.host != nil {
				tt.host(host)
			}
			tt.rule.Name = "rule"
			e, now := mustEngine(t, tt.rule), at(200*time.Second)
			explained := e.Explain(f, host, id(20), now)[0]
			decisions := e.Evaluate(f, host, now)
			if got := len(decisions) == 1; got != tt.acts {
				t.Fatalf("acts: got %v (%+v), want %v", got, explained, tt.acts)
			}
			why := explained.Why
			if tt.acts {
				why = decisions[0].Reasons[len(decisions[0].Reasons)-1]
				if explained.ActsAt != now || !strings.Contains(explained.Why, why) {
					t.Errorf("explain says %+v, want it to act now because %q", explained, why)
				}
			}
			if why != tt.reason {
				t.Errorf("reason: got %q, want %q", why, tt.reason)
			}
		})
	}
}

// inContainer puts a process into a container of a pod.
func inContainer(p *Process) {
	p.Container = Container{ContainerID: "0123abcd", ContainerName: "web-1", Image: "registry.example/team/box:1.2", Pod: "shop/web-0", RootsContainer: true}
}

// holding has a process read to hold something.
func holding(h Held) func(*Process) { return func(p *Process) { p.Held = &h } }
