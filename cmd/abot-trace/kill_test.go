// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/http"
	"testing"
)

// TestKillWithoutTerminal: who cannot be asked is told what would be ended, and how to have it.
func TestKillWithoutTerminal(t *testing.T) {
	const processes = `"processes":[{"pid":7,"start_ns":70,"comm":"python3","cmdline":["python3","train.py"],"user":"bob","rss_bytes":1048576},` +
		`{"pid":8,"start_ns":80,"comm":"python3","user":"bob","rss_bytes":1048576}],"spared":[{"pid":9,"comm":"tmux: server","user":"bob","reason":"protected"}]`
	const plan = "" +
		"PID  USER   MEMORY  COMMAND\n" +
		"  7  bob   1.0 MiB  python3 train.py\n" +
		"  8  bob   1.0 MiB  python3\n" +
		"left alone: 9 tmux: server of bob: protected\n"
	for _, test := range []struct {
		name, answer string
		args         []string
		says         string
	}{
		{"a tree", `{"schema":1,"pid":7,"start_ns":70,"scope":"tree",` + processes + `}`, []string{"7"},
			"To be ended: the tree of 7, 2 processes, 2.0 MiB of bob\n" + plan +
				"abot-trace: kill: standard input is no terminal: --yes ends it without a question\n"},
		{"a leak", `{"schema":1,"leak":"L0123456789ab","scope":"tree",` + processes + `}`, []string{"--json", "L0123456789ab"},
			"To be ended: everything that leak L0123456789ab left, 2 processes, 2.0 MiB of bob\n" + plan +
				"abot-trace: kill: standard input is no terminal: --yes ends it without a question\n"},
		{"despite the stop file", `{"schema":1,"pid":7,"start_ns":70,"scope":"tree","stop":{"path":"/run/stop","in_force":true},` + processes + `}`,
			[]string{"--yes", "7"}, "To be ended: the tree of 7, 2 processes, 2.0 MiB of bob\n" + plan +
				"abot-trace: kill: the stop file /run/stop has called off all kills: that wants an answer at a terminal, --yes does not suffice\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			code, said := serveHostile(t, http.StatusOK, test.answer).run(t, append([]string{"kill"}, test.args...)...)
			if want := test.says + "hint: abot-trace kill --help explains it\n"; code != exitUsage || said != want {
				t.Errorf("exit %d, want %d; said\n%s\nwant\n%s", code, exitUsage, said, want)
			}
		})
	}
}
