// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/http"
	"strings"
	"testing"
)

// TestLeaksSorted wants what matters first, and of that the first n; without an order the
// oldest first, and the latest n.
func TestLeaksSorted(t *testing.T) {
	const answer = `{"schema":1,"leaks":[` +
		`{"id":"L00000000000a","state":"open","opened_at":"2026-01-01T00:00:00Z","rss_bytes":100,"swap_bytes":900,"byte_seconds":5,"leaker":{"pid":6,"user":"carol"}},` +
		`{"id":"L00000000000b","state":"ended","opened_at":"2026-01-02T00:00:00Z","ended_at":"2999-01-01T00:00:00Z","rss_bytes":0,"peak_bytes":5000,"leaker":{"pid":6,"user":"bob"}},` +
		`{"id":"L00000000000c","state":"open","opened_at":"2026-01-03T00:00:00Z","rss_bytes":500,"byte_seconds":9,"leaker":{"pid":6,"user":"alice"}}]}`
	d := serveHostile(t, http.StatusOK, answer)
	for _, test := range []struct{ flags, want string }{
		{"", "a b c"},
		{"-n 2", "b c"},
		{"--sort age", "a b c"},
		{"--sort age -n 1", "a"},
		{"--sort memory", "b a c"},
		{"--sort memory -n 2", "b a"},
		{"--sort memory -n 9", "b a c"},
		{"--sort cost", "c a b"},
		{"--sort user", "c b a"},
		{"--sort memory --open", "a c"},
	} {
		code, said := d.run(t, strings.Fields("leaks --columns leak "+test.flags)...)
		var got []string
		for _, word := range strings.Fields(said) {
			if id, ok := strings.CutPrefix(word, "L00000000000"); ok {
				got = append(got, id)
			}
		}
		if code != 0 || strings.Join(got, " ") != test.want {
			t.Errorf("%s: exit %d, %v; want %s\n%s", test.flags, code, got, test.want, said)
		}
	}
	for _, test := range []struct{ flags, says string }{
		{"--sort memry", `--sort "memry", did you mean "memory"?: want age, cost, memory, user`},
		{"--sort memory --by program", "--sort cannot stand beside --by"},
	} {
		if code, said := d.run(t, strings.Fields("leaks "+test.flags)...); code != exitUsage || !strings.Contains(said, test.says) {
			t.Errorf("%s: exit %d: %s", test.flags, code, said)
		}
	}
}
