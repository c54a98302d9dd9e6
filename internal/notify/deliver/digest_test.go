// SPDX-License-Identifier: Apache-2.0

package deliver

import (
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/notify"
	"github.com/abot-trace/abot-trace/internal/wire"
)

func leakNotice(id, change, program string) *notify.Notice {
	rss := uint64(1 << 20)
	return &notify.Notice{Host: "h", Text: change, Event: notify.Event{ID: id, Type: wire.TypeLeak, Leak: &wire.Leak{ID: id, Change: change,
		Program: program, RSSBytes: &rss, Processes: wire.LeakCount{Now: 2}}}}
}

// TestDigest: of more than five leaks a minute the others are one message, which counts them,
// and nobody is told of the ends of those. The next minute begins anew.
func TestDigest(t *testing.T) {
	var d digest
	now := time.Now()
	admitted := 0
	for i := range 20 {
		program := "gunicorn"
		if i%4 == 0 {
			program = "a\x1b\nb"
		}
		if d.admit(leakNotice(fmt.Sprint("L", i), wire.LeakOpened, program), now) {
			admitted++
		}
	}
	if admitted != digestAfter {
		t.Errorf("%d openings are told one by one, want %d", admitted, digestAfter)
	}
	if !d.admit(&notify.Notice{Event: notify.Event{Type: wire.TypeKill, Kill: &wire.Kill{}}}, now) {
		t.Error("a kill is left out")
	}
	for id, want := range map[string]bool{"L0": true, "L19": false} {
		if got := d.admit(leakNotice(id, wire.LeakEnded, "x"), now); got != want {
			t.Errorf("the end of %s: told %v, want %v", id, got, want)
		}
	}
	if d.due() == nil {
		t.Fatal("no digest is due")
	}
	n := d.take()
	if want := `15 more leaks were opened within a minute: 12 of gunicorn, 3 of a\x1b\nb: 30 processes, 15 MiB; see abot-trace leaks --by program`; n.Text != want ||
		n.Event.Alert == nil || *n.Event.Alert.Value != 15 {
		t.Errorf("got  %s\nwant %s", n.Text, want)
	}
	if d.due() != nil || d.take() != nil {
		t.Error("and again")
	}
	later := now.Add(2 * digestPeriod)
	if !d.admit(leakNotice("L99", wire.LeakOpened, "x"), later) {
		t.Error("the next minute begins with nothing left")
	}
}

// TestDigestIsDelivered: what is left out of one target's messages reaches it when the helper
// ends at the latest, and another target gets its own.
func TestDigestIsDelivered(t *testing.T) {
	dir := t.TempDir()
	s := notify.Settings{}
	for i := range 2 {
		s.Exec = append(s.Exec, notify.Exec{Name: fmt.Sprintf("exec[%d]", i), Command: shell(`cat >>"$0"`, fmt.Sprint(dir, "/", i)), Timeout: 20 * time.Second})
	}
	ownCommands(&s)
	link := notify.NewLink(notify.Spawn(nil, "notify-helper"), s, slog.New(slog.DiscardHandler))
	for i := range 9 {
		link.Send(leakNotice(fmt.Sprint("L", i), wire.LeakOpened, "gunicorn"))
	}
	await(t, link, handled(9))
	link.Close(t.Context())
	for i := range 2 {
		text := read(t, fmt.Sprint(dir, "/", i))
		if n := strings.Count(text, "\n"); n != digestAfter+1 || !strings.Contains(text, "4 more leaks were opened within a minute") {
			t.Errorf("target %d: %d messages:\n%s", i, n, text)
		}
	}
}
