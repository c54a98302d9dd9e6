// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/http"
	"strings"
	"testing"
)

// TestFilterThatMatchesNothing: an empty list because of a filter does not look like one of a
// host where nothing is wrong. Documents for programs, and exit codes, are as they were.
func TestFilterThatMatchesNothing(t *testing.T) {
	const (
		orphan  = `{"pid":7,"start_ns":70,"comm":"x","user":"bob","state":"running","orphan":{"direct":true,"verdict":"leaked","evidence":[]}}`
		plain   = `{"pid":8,"start_ns":80,"comm":"y","user":"bob","state":"running"}`
		dead    = `{"pid":6,"start_ns":60,"comm":"z","user":"bob","state":"dead"}`
		tree    = `{"schema":1,"complete":true,"processes":[` + dead + "," + orphan + "," + plain + `]}`
		leaks   = `{"schema":1,"leaks":[{"id":"L0123456789ab","state":"open","verdict":"leaked","leaker":{"pid":6,"user":"bob"}}]}`
		events  = `{"schema":1,"id":"1","type":"orphan","process":` + orphan + "}\n" + `{"schema":1,"id":"2","type":"exit","process":` + plain + "}\n"
		nothing = ""
	)
	for _, test := range []struct{ command, answer, says string }{
		{"orphans --user nobody", "[" + orphan + "]", "No orphans match: --user nobody; 1 other is there\n"},
		{"orphans --verdict unknown --verdict deliberate --min-age 1d", "[" + orphan + "," + orphan + "]",
			"No orphans match: --verdict unknown --verdict deliberate --min-age 1d; 2 others are there\n"},
		{"orphans --program \x1bc", "[" + orphan + "]", `No orphans match: --program $'\x1bc'; 1 other is there` + "\n"},
		{"orphans --user nobody", "[]", "No orphans.\n"},
		{"orphans --user nobody --json", "[" + orphan + "]", "[]\n"},
		{"tree --user nobody", tree, "No processes match: --user nobody; 2 others are there\n"},
		{"tree --orphans --user nobody", tree, "No orphans match: --user nobody; 1 other is there\n"},
		{"leaks --user nobody", leaks, "No leaks match: --user nobody; 1 other is there\n"},
		{"leaks --open --verdict unknown --by program", leaks, "No leaks match: --open --verdict unknown; 1 other is there\n"},
		{"leaks --user nobody", `{"schema":1,"leaks":[]}`, "No leaks.\n"},
		{"events --user nobody", events, "No events match: --user nobody; 2 others are there\n"},
		{"events --user nobody --type orphan,exit", events, "No events match: --type orphan,exit --user nobody; 2 others are there\n"},
		{"events --user nobody --json", events, nothing},
		{"events --user nobody", "", nothing},
	} {
		t.Run(test.command, func(t *testing.T) {
			code, said := serveHostile(t, http.StatusOK, test.answer).run(t, strings.Split(test.command, " ")...)
			if code != 0 || said != test.says {
				t.Errorf("exit %d; said\n%q\nwant\n%q", code, said, test.says)
			}
		})
	}
}
