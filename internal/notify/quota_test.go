// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"fmt"
	"strings"
	"testing"

	"github.com/abot-trace/abot-trace/internal/wire"
)

func orphanOf(uid uint32, leaker string) *Event {
	return &Event{Type: wire.TypeOrphan, Process: &wire.Process{PID: 1, UID: &uid, User: fmt.Sprint("user", uid),
		Orphan: &wire.Orphan{Verdict: wire.VerdictLeaked, Leaker: &wire.Leaker{Comm: leaker}}}}
}

// TestQuota: one user's flood is told up to the user's share and counted beyond it, hides
// neither another's nor another program's, and never what the daemon does.
func TestQuota(t *testing.T) {
	var sink countingSink
	d := NewDispatcher(&sink, nil, Settings{Journald: SeverityInfo})
	const flood = 50000
	for range flood {
		d.Notify(orphanOf(1000, "bomb"))
	}
	if sink.n != DefaultPerUser {
		t.Errorf("%d records of a flood of %d, want %d", sink.n, flood, DefaultPerUser)
	}
	for what, e := range map[string]*Event{
		"another user's": orphanOf(1001, "bomb"), "another program's": orphanOf(1000, "gunicorn"),
		"the leak": {Type: wire.TypeLeak, Leak: &wire.Leak{Leaker: wire.LeakLeaker{UID: orphanOf(1000, "bomb").Process.UID, Comm: "bomb"}}},
		"a kill":   {Type: wire.TypeKill, Process: orphanOf(1000, "bomb").Process, Kill: &wire.Kill{Outcome: wire.KillDone}},
		"a loss":   {Type: wire.TypeLost, Lost: &wire.Lost{Records: 1}},
		"an alert": {Type: wire.TypeAlert, Alert: &wire.Alert{Name: "rule:x", State: wire.AlertWarning}},
	} {
		before := sink.n
		if !d.Notify(e) || sink.n != before+1 {
			t.Errorf("%s is left out", what)
		}
	}
	list := d.Digest()
	if len(list) != 1 || list[0].User != "user1000" || list[0].LeftOut != flood-DefaultPerUser ||
		!strings.Contains(list[0].Text, fmt.Sprint(flood-DefaultPerUser, " orphan")) {
		t.Errorf("digest: %+v", list)
	}
	if list := d.Digest(); len(list) != 0 {
		t.Errorf("again: %+v", list)
	}
	if before := sink.n; !d.Notify(orphanOf(1000, "bomb")) || sink.n != before+1 {
		t.Error("no new share after a digest")
	}
}

// TestQuotaIsBounded: neither user ids nor names of programs, which one user may have many
// of, get around it, nor take memory.
func TestQuotaIsBounded(t *testing.T) {
	var q quota
	told := 0
	for uid := range uint32(20000) {
		for i := range 3 {
			if q.admit(orphanOf(uid, fmt.Sprint("program", uid, i)), DefaultPerUser) {
				told++
			}
		}
	}
	if most := usersInAll*DefaultPerUser + (maxQuotaUsers+1)*maxQuotaPrograms*quotaOfProgram; told > most || told < 3*maxQuotaUsers {
		t.Errorf("%d told, want %d to %d", told, 3*maxQuotaUsers, most)
	}
	for i := range 20000 {
		q.admit(orphanOf(1, fmt.Sprint("program", i)), DefaultPerUser)
	}
	if len(q.users) > maxQuotaUsers+1 || len(q.users[1].programs[0]) > maxQuotaPrograms+1 {
		t.Errorf("%d users, %d programs of one", len(q.users), len(q.users[1].programs[0]))
	}
	if list := q.digest(); len(list) > maxDigests {
		t.Errorf("%d digests", len(list))
	}
}

// TestNotWantedCostsNothing: what nobody would be told of takes no share.
func TestNotWantedCostsNothing(t *testing.T) {
	var sink countingSink
	d := NewDispatcher(&sink, nil, Settings{Journald: SeverityInfo})
	uid := uint32(1000)
	for range 10 * DefaultPerUser {
		d.Notify(&Event{Type: wire.TypeExit, Process: &wire.Process{UID: &uid}})
	}
	if !d.Notify(orphanOf(1000, "x")) || sink.n != 1 {
		t.Errorf("%d told", sink.n)
	}
}

type countingSink struct{ n int }

func (s *countingSink) Send(Record) bool { s.n++; return true }
