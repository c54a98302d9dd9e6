// SPDX-License-Identifier: Apache-2.0

package remedy

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/abot-trace/abot-trace/internal/wire"
)

func members(direct bool, cmdlines ...string) (list []wire.LeakMember) {
	for _, c := range cmdlines {
		words := strings.Fields(c)
		list = append(list, wire.LeakMember{Comm: words[0], Cmdline: words, Direct: direct})
	}
	return list
}

func TestKindOf(t *testing.T) {
	killed := &wire.Exit{Signal: "SIGKILL"}
	code := 0
	for name, test := range map[string]struct {
		cmdline, unit, container, killMode string
		exit                               *wire.Exit
		members                            []wire.LeakMember
		want                               Kind
	}{
		"ended for memory in a container": {cmdline: "java -jar x.jar", container: "0123", exit: &wire.Exit{Signal: "SIGKILL", OOM: true},
			members: members(true, "java -jar x.jar"), want: Memory},
		"container":           {cmdline: "node server.js", container: "0123", exit: killed, members: members(true, "node worker.js"), want: Container},
		"job of cron":         {cmdline: "sh -c backup", unit: "cron.service", killMode: "process", exit: killed, members: members(true, "rsync a b"), want: Cron},
		"unit that keeps":     {cmdline: "python3 app.py", unit: "app.service", killMode: "process", exit: killed, members: members(true, "python3 app.py"), want: KillMode},
		"unit of none":        {cmdline: "/srv/app", unit: "app.service", killMode: "none", exit: killed, want: KillMode},
		"asked before":        {cmdline: "/srv/app", exit: &wire.Exit{Signal: "SIGKILL", AskedBy: &wire.Asked{PID: 1, Signal: "SIGTERM"}}, want: Patience},
		"forked workers":      {cmdline: "python3.11 /srv/train.py", exit: killed, members: members(true, "python3.11 /srv/train.py"), want: PythonPool},
		"spawned workers":     {cmdline: "/usr/bin/python3 train.py", unit: "train.service", killMode: "control-group", exit: killed, members: members(true, "/usr/bin/python3.11 -c spawn_main()"), want: PythonPool},
		"workers in C":        {cmdline: "/usr/sbin/squid -N", exit: killed, members: members(true, "/usr/sbin/squid -N"), want: Pool},
		"workers of node":     {cmdline: "node cluster.js", exit: killed, members: members(true, "node cluster.js", "sh -c x"), want: Pool},
		"another script":      {cmdline: "python3 boss.py", exit: killed, members: members(true, "python3 worker.py"), want: Python},
		"wrapper":             {cmdline: "sh /usr/local/bin/start", exit: &wire.Exit{Signal: "SIGTERM"}, members: append(members(true, "gunicorn app"), members(false, "gunicorn app")...), want: Wrapper},
		"login shell":         {cmdline: "-bash", exit: &wire.Exit{Signal: "SIGHUP"}, members: members(true, "make"), want: Wrapper},
		"shell of two":        {cmdline: "bash run-all", exit: killed, members: members(true, "redis-server", "node x.js"), want: Shell},
		"background command":  {cmdline: "sh -c server&", exit: &wire.Exit{Code: &code}, members: members(true, "server"), want: Shell},
		"shell below a shell": {cmdline: "sh a", exit: killed, members: members(true, "sh b"), want: Wrapper},
		"python's commands":   {cmdline: "python3 -m invoke", exit: killed, members: members(true, "ffmpeg -i x"), want: Python},
		"any other":           {cmdline: "/usr/bin/make test", exit: killed, members: members(true, "chrome"), want: Program},
		"deeper ones alone":   {cmdline: "/srv/app", exit: killed, members: members(false, "/srv/app"), want: Program},
		"nothing is known":    {want: Program},
	} {
		t.Run(name, func(t *testing.T) {
			l := &wire.Leak{Members: test.members, Leaker: wire.LeakLeaker{Comm: "x", Cmdline: strings.Fields(test.cmdline),
				Unit: test.unit, Container: test.container, Exit: test.exit}}
			if got := KindOf(l, test.killMode); got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
		})
	}
}

// TestLinks: each remedy is one sentence, and the section that it leads to is there.
func TestLinks(t *testing.T) {
	text, err := os.ReadFile("../../" + page)
	if err != nil {
		t.Fatal(err)
	}
	sections := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^##+ (.*)$`).FindAllStringSubmatch(string(text), -1) {
		sections[strings.ReplaceAll(regexp.MustCompile(`[^a-z0-9 -]`).ReplaceAllString(strings.ToLower(m[1]), ""), " ", "-")] = true
	}
	for kind := range remedies {
		r := Of(kind)
		if _, section, _ := strings.Cut(r.Link, "#"); !sections[section] {
			t.Errorf("%s: %s has no section %q", kind, page, section)
		}
		if strings.Contains(r.Text, ". ") || strings.HasSuffix(r.Text, ".") {
			t.Errorf("%s: more than a sentence: %s", kind, r.Text)
		}
	}
	if Of("") != nil || Of("x") != nil {
		t.Error("a kind that is none has a remedy")
	}
}
