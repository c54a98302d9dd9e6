// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/wire"
)

// explained waits until explain says all of parts of a process.
func (d *daemon) explained(p *process, parts ...string) {
	d.t.Helper()
	var text string
	d.await("explain says "+strings.Join(parts, ", "), func() bool {
		x, err := d.client.Explain(d.t.Context(), int32(p.pid), "")
		if err != nil {
			return false
		}
		text = ""
		for _, r := range x.Rules {
			text += r.Why + "\n"
		}
		for _, part := range parts {
			if !strings.Contains(text, part) {
				return false
			}
		}
		return true
	})
}

// trustOf waits for the event of a decision about a fingerprint.
func (d *daemon) trustOf(action, fingerprint string) *wire.Trust {
	d.t.Helper()
	var found *wire.Trust
	d.await(action+" of "+fingerprint, func() bool {
		e := d.find(func(e *wire.Event) bool {
			return e.Trust != nil && e.Trust.Action == action && e.Trust.Fingerprint == fingerprint
		})
		if e != nil {
			found = e.Trust
		}
		return e != nil
	})
	return found
}

// decided is what status says of decisions.
func (d *daemon) decided() wire.StatusDecided {
	d.t.Helper()
	s, err := d.client.Status(d.t.Context())
	if err != nil {
		d.t.Fatal(err)
	}
	return s.Decided
}

// TestIgnore: leaks whose fingerprint root ignores are ended by no rule, are shown as such,
// also by a successor, until root forgets that.
func TestIgnore(t *testing.T) {
	d := newKept(t, unhurried+ruleless)
	d.start()
	f := startFamily(t, "parent", "leaf")
	leaf := f.await("leaf", 1)[0]
	f.killMain()
	l := d.leakOf(leaf, wire.LeakOpened)
	wantRun(t, 2, "leaks", "ignore", l.Fingerprint, "--socket", d.socket()) // why?
	out, _ := wantRun(t, 0, "leaks", "ignore", l.ID, "--reason", "the agent uses them again", "--socket", d.socket())
	wantText(t, out, l.Fingerprint, "ignored", "the agent uses them again")
	if by := d.trustOf(wire.TrustIgnore, l.Fingerprint).By; by == nil || by.UID != 0 {
		t.Errorf("decided by %+v", by)
	}
	d.endBy(unix.SIGTERM)
	d.configure(armed)
	d.start()
	d.explained(leaf, "is ignored by", "the agent uses them again")
	out, _ = wantRun(t, 0, "leaks", "-o", "wide", "--socket", d.socket())
	wantText(t, out, l.ID, "ignored")
	out, _ = wantRun(t, 0, "leaks", "export", "--socket", d.socket())
	wantText(t, out, "action: ignore", "fingerprint: "+l.Fingerprint, "reason: the agent uses them again")

	if s := d.decided(); s.Ignored != 1 || len(s.List) != 1 || s.List[0].Fingerprint != l.Fingerprint {
		t.Errorf("status: %+v", s)
	}

	file := filepath.Join(t.TempDir(), "decisions.yaml")
	if err := os.WriteFile(file, []byte(out), 0o644); err != nil {
		t.Fatal(err)
	}
	leaf.mustLive()
	wantRun(t, 0, "leaks", "forget", l.Fingerprint, "--socket", d.socket())
	leaf.mustDie()
	wantRun(t, 1, "leaks", "forget", l.Fingerprint, "--socket", d.socket()) // nothing is left
	out, _ = wantRun(t, 0, "leaks", "import", file, "--socket", d.socket())
	wantText(t, out, l.Fingerprint, "ignored")
	g := startFamily(t, "parent", "leaf")
	second := g.await("leaf", 1)[0]
	g.killMain()
	d.explained(second, "is ignored by")
	second.mustLive()
}

// TestUnreadableDecisions: where nobody can tell what was to be ignored, no rule ends anything,
// by a successor either, until root decides anew.
func TestUnreadableDecisions(t *testing.T) {
	d := newKept(t, armed)
	if err := os.MkdirAll(d.state(), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(d.state(), "trust"), []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	d.start()
	f := startFamily(t, "parent", "leaf")
	leaf := f.await("leaf", 1)[0]
	f.killMain()
	l := d.leakOf(leaf, wire.LeakOpened)
	d.explained(leaf, "what was decided about leaks could not be read")
	d.endBy(unix.SIGTERM)
	d.start()
	d.explained(leaf, "what was decided about leaks could not be read")
	leaf.mustLive()
	wantRun(t, 0, "leaks", "forget", l.Fingerprint, "--socket", d.socket())
	leaf.mustDie()
}

// TestTrustRights: the group may ack, and nothing else; everybody else nothing at all.
func TestTrustRights(t *testing.T) {
	d := newDaemon(t, "socket: {group: \"65534\"}\n"+ruleless)
	d.start()
	const fingerprint = "F0123456789ab"
	ask := func(member bool, code int, args ...string) string {
		t.Helper()
		command := append([]string{"leaks"}, args...)
		cmd := exec.Command(binary(), append(command, "--socket", d.socket())...)
		who := &syscall.Credential{Uid: 65533, Gid: 65533}
		if member {
			who.Groups = []uint32{65534}
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: who}
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != code {
			t.Errorf("leaks %s: %v, want exit %d: %s", strings.Join(args, " "), err, code, out)
		}
		return string(out)
	}
	ask(true, 0, "ack", fingerprint, "--reason", "known", "--for", "1h")
	if by := d.trustOf(wire.TrustAck, fingerprint).By; by == nil || by.UID != 65533 {
		t.Errorf("acked by %+v", by)
	}
	wantText(t, ask(true, 1, "ignore", fingerprint, "--reason", "known"), "permission denied", "root")
	wantText(t, ask(true, 1, "forget", fingerprint), "permission denied", "root")
	file := filepath.Join(t.TempDir(), "decisions.yaml")
	text := "decisions:\n- {action: ignore, fingerprint: " + fingerprint + ", reason: known}\n"
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	for dir := filepath.Dir(file); dir != "/tmp" && dir != "/"; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	wantText(t, ask(true, 1, "import", file), "permission denied", "root")
	wantText(t, ask(false, 1, "ack", fingerprint, "--reason", "known"), "permission denied")
	wantText(t, ask(false, 1, "export"), "permission denied")
	list, err := d.client.Trust(t.Context())
	if err != nil || len(list) != 1 || list[0].Kind != wire.TrustAck {
		t.Errorf("decided: %+v, %v", list, err)
	}
}

// TestVictimsComeBack: a rule whose victims come back ends no more of their kind, says so, and
// goes on when somebody says that it may.
func TestVictimsComeBack(t *testing.T) {
	d := startDaemon(t, strings.ReplaceAll(armed, "respawn: 0s", "respawn: 1m"))
	f := startFamily(t, "parent", "leaf")
	first := f.await("leaf", 1)[0]
	f.killMain()
	first.mustDie()
	fingerprint := d.kill(first.pid, outcomeIs(wire.KillDone)).Fingerprint
	if fingerprint == "" {
		t.Fatal("the kill names no fingerprint")
	}
	g := startFamily(t, "parent", "leaf") // the same again
	second := g.await("leaf", 1)[0]
	g.killMain()
	told := d.trustOf(wire.TrustSuspend, fingerprint)
	if told.Rule != "all" || told.By != nil || !strings.Contains(told.Reason, "came back") {
		t.Errorf("suspended: %+v", told)
	}
	d.await("an alert", func() bool {
		return d.find(func(e *wire.Event) bool {
			return e.Alert != nil && e.Alert.Name == "suspended:all" && e.Alert.State == wire.AlertWarning
		}) != nil
	})
	d.explained(second, "suspended for its leak's fingerprint "+fingerprint)
	l := d.leakOf(second, wire.LeakOpened)
	out, _ := wantRun(t, 0, "explain", "--socket", d.socket(), l.ID)
	wantText(t, out, "rule all is suspended")
	if s := d.decided(); s.Suspended != 1 || len(s.List) != 1 || s.List[0].Rule != "all" {
		t.Errorf("status: %+v", s)
	}
	second.mustLive()
	other := startFamily(t, "parent", "tree") // of another fingerprint: the rule goes on
	root := other.await("root", 1)[0]
	other.await("leaf", 3)
	other.killMain()
	root.mustDie()

	wantRun(t, 0, "leaks", "forget", fingerprint, "--socket", d.socket())
	second.mustDie()
	d.await("the alert goes", func() bool {
		return d.find(func(e *wire.Event) bool {
			return e.Alert != nil && e.Alert.Name == "suspended:all" && e.Alert.State == wire.AlertOK
		}) != nil
	})
}

// TestAckMutes: of leaks that somebody has acknowledged nobody is sent a notice; they are
// counted and told in the stream as before.
func TestAckMutes(t *testing.T) {
	dir, _ := hooked(t, "")
	said := filepath.Join(dir, "said")
	d := startDaemon(t, ruleless+"notify: {exec: [{command: [/bin/sh, -c, 'cat >>"+said+"'], min_severity: notice}]}\n")
	leave := func(kind, role string) *wire.Leak {
		f := startFamily(t, "parent", kind)
		p := f.await(role, 1)[0]
		f.killMain()
		return d.leakOf(p, wire.LeakOpened)
	}
	sent := func(l *wire.Leak) bool {
		b, _ := os.ReadFile(said)
		return strings.Contains(string(b), l.ID)
	}
	first := leave("leaf", "leaf")
	d.await("a notice", func() bool { return sent(first) })
	wantRun(t, 0, "leaks", "ack", first.ID, "--for", "1h", "--reason", "known since Monday", "--socket", d.socket())
	second := leave("leaf", "leaf")
	if second.Fingerprint != first.Fingerprint {
		t.Fatalf("%s and %s are of two kinds", first.Name, second.Name)
	}
	third := leave("tree", "root")
	d.await("a notice of another", func() bool { return sent(third) })
	if sent(second) {
		t.Error("a notice of a leak that was acknowledged")
	}
	out, _ := wantRun(t, 0, "leaks", "-o", "wide", "--socket", d.socket())
	wantText(t, out, second.ID, "acked", "3 leaks, 3 open")
}
