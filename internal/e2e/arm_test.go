// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/abot-trace/abot-trace/internal/wire"
)

// TestArm: a rule that only observes is tried, armed with a daily limit, which holds, and
// disarmed, by root only, and not where nobody could say yes.
func TestArm(t *testing.T) {
	d := startDaemon(t, strings.ReplaceAll(armed, "mode: enforce", "mode: observe"))
	leave := func() *process {
		f := startFamily(t, "parent", "leaf")
		p := f.await("leaf", 1)[0]
		f.killMain()
		return p
	}
	first := leave()
	d.kill(first.pid, outcomeIs(wire.KillObserved))
	dropIn := filepath.Join(d.dir, "conf.d", "armed-all.yaml")
	notWritten := func() {
		t.Helper()
		if _, err := os.Lstat(dropIn); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", dropIn, err)
		}
	}
	for _, name := range []string{"arm", "disarm"} {
		cmd := exec.Command(binary(), name, "all", "--socket", d.socket())
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65533, Gid: 65533}}
		out, err := cmd.CombinedOutput()
		if cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), "only root may "+name) {
			t.Errorf("%s by a stranger: %v: %s", name, err, out)
		}
	}
	out, said := wantRun(t, 2, "arm", "all", "--config", d.config(), "--socket", d.socket())
	wantText(t, out, "rule all would have ended 1 leak", "1 still open", "at most 10 within 24 hours", dropIn)
	wantText(t, said, "no terminal", "--yes")
	// At a terminal it asks.
	ask := exec.Command("script", "-qec", binary()+" arm all --config "+d.config()+" --socket "+d.socket(), "/dev/null")
	ask.Stdin = strings.NewReader("no\n")
	answered, err := ask.CombinedOutput()
	if ask.ProcessState == nil || ask.ProcessState.ExitCode() != 1 {
		t.Errorf("no, says a person: %v", err)
	}
	wantText(t, string(answered), "Arm rule all?", "the answer was no")
	_, said = wantRun(t, 2, "arm", "al", "--yes", "--config", d.config(), "--socket", d.socket())
	wantText(t, said, `no rule is named "al"`)
	_, said = wantRun(t, 1, "disarm", "all", "--config", d.config(), "--socket", d.socket())
	wantText(t, said, "is not armed")
	notWritten()
	first.mustLive()

	out, _ = wantRun(t, 0, "arm", "all", "--per-day", "1", "--yes", "--reason", "tried for two weeks", "--config", d.config(), "--socket", d.socket())
	wantText(t, out, "at most 1 within 24 hours", "Rule all is armed.")
	first.mustDie()
	if by := d.toldOfRule(wire.TrustArm, "tried for two weeks").By; by == nil || by.UID != 0 {
		t.Errorf("armed by %+v", by)
	}
	wantRun(t, 1, "arm", "all", "--yes", "--config", d.config(), "--socket", d.socket()) // already
	second := leave()
	d.kill(second.pid, outcomeIs(wire.KillBudget))
	var list []wire.RuleStatus
	out, _ = wantRun(t, 0, "arm", "--list", "--json", "--socket", d.socket())
	if err := json.Unmarshal([]byte(out), &list); err != nil || len(list) != 1 {
		t.Fatalf("%v: %s", err, out)
	}
	if r := list[0]; r.Name != "all" || r.Mode != wire.ModeEnforce || r.ArmedBy == "" || r.ArmedAt == nil || r.LeaksPerDay != 1 || r.Today != 1 || r.Leaks != 1 {
		t.Errorf("listed: %+v", r)
	}
	out, _ = wantRun(t, 0, "arm", "--list", "--socket", d.socket())
	wantText(t, out, "all", "1/1")

	wantRun(t, 0, "disarm", "all", "--config", d.config(), "--socket", d.socket())
	d.toldOfRule(wire.TrustDisarm, "")
	notWritten()
	out, _ = wantRun(t, 0, "arm", "--list", "--socket", d.socket())
	wantText(t, out, "No rule is armed.")
	d.kill(second.pid, outcomeIs(wire.KillObserved))
	second.mustLive()
}

// TestArmRefused: where the daemon refuses the configuration, arm leaves no drop-in behind; one
// of a rule that is gone is removed all the same.
func TestArmRefused(t *testing.T) {
	const observing = unhurried + "rules: [{name: one, match: {verdict: [leaked]}, orphaned_for: 1h}]\n"
	d := startDaemon(t, observing)
	dropIn := filepath.Join(d.dir, "conf.d", "armed-one.yaml")
	d.configure(observing + "nonsense: 1\n")
	_, said := wantRun(t, 2, "arm", "one", "--yes", "--config", d.config(), "--socket", d.socket())
	wantText(t, said, "nonsense")
	d.configure(observing)
	wantRun(t, 0, "arm", "one", "--yes", "--config", d.config(), "--socket", d.socket())
	d.configure(ruleless)
	wantRun(t, 2, "disarm", "one", "--config", d.config(), "--socket", d.socket()) // the rule is not there, nor is the drop-in any more
	if _, err := os.Lstat(dropIn); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s: %v", dropIn, err)
	}
	out, _ := wantRun(t, 0, "arm", "--list", "--json", "--socket", d.socket())
	if strings.TrimSpace(out) != "[]" {
		t.Errorf("listed: %s", out)
	}
}

// toldOfRule waits for the event that a rule was armed or disarmed.
func (d *daemon) toldOfRule(action, reason string) *wire.Trust {
	d.t.Helper()
	var found *wire.Trust
	d.await("an event of "+action, func() bool {
		e := d.find(func(e *wire.Event) bool {
			return e.Trust != nil && e.Trust.Action == action && e.Trust.Rule == "all" && e.Trust.Reason == reason
		})
		if e != nil {
			found = e.Trust
		}
		return e != nil
	})
	return found
}
