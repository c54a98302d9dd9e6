// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/abot-trace/abot-trace/internal/wire"
)

// A decoy is a process that systemd owns and that looks like a leak.
type decoy struct {
	what    string
	pid     string
	start   string // its start in /proc/PID/stat, to tell it from another
	verdict string // what the service must say of it as an orphan; empty where it is none
	because string // the evidence that settles it
}

// prelude is for the scripts of decoys: born(pid) tells the test.
const prelude = `import os, signal, socket, time
def born(name, pid):
    open("/run/decoy-%s.partial" % name, "w").write(str(pid))
    os.rename("/run/decoy-%s.partial" % name, "/run/decoy-%s.pid" % name)
def until(path):
    while not os.path.exists(path):
        time.sleep(0.02)
`

// The first process hands the unit over to its child, as a server does that replaces
// itself, and is killed.
const mainScript = prelude + `
child = os.fork()
if child == 0:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    time.sleep(3600)
manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
manager.sendto(b"MAINPID=%d" % child, os.environ["NOTIFY_SOCKET"])
born("main", child)
until("/run/decoy-main.go")
os.kill(os.getpid(), signal.SIGKILL)
`

// The first process of a Type=forking unit leaves before its daemon has written the
// PID file: the unit is still starting. The daemon shows no sign of detaching.
const forkingScript = prelude + `
child = os.fork()
if child == 0:
    until("/run/decoy-forking.go")
    open("/run/decoy-forking.main", "w").write("%d\n" % os.getpid())
    time.sleep(3600)
born("forking", child)
`

// The main process of a unit with KillMode=process dies, and its child stays.
const leftScript = prelude + `
child = os.fork()
if child == 0:
    time.sleep(3600)
born("left", child)
until("/run/decoy-left.go")
os.kill(os.getpid(), signal.SIGKILL)
`

const decoyUnit = "[Service]\nExecStart=/usr/bin/python3 -S /root/decoy-%s.py\nTimeoutStartSec=300\n%s\n"

func (t *trial) decoyUnits(ctx context.Context) error {
	for _, u := range []struct{ name, script, options string }{
		{"main", mainScript, "Type=simple\nNotifyAccess=all"},
		{"forking", forkingScript, "Type=forking\nPIDFile=/run/decoy-forking.main"},
		{"left", leftScript, "Type=simple\nKillMode=process"},
	} {
		if err := t.m.write(ctx, "/root/decoy-"+u.name+".py", u.script); err != nil {
			return err
		}
		unit := "/etc/systemd/system/decoy-" + u.name + ".service"
		if err := t.m.write(ctx, unit, fmt.Sprintf(decoyUnit, u.name, u.options)); err != nil {
			return err
		}
	}
	_, err := t.m.run(ctx, "systemctl daemon-reload && systemctl start --no-block decoy-main decoy-forking decoy-left")
	return err
}

// arm writes a rule that ends every orphan of these verdicts at once, wherever in the
// machine it is, and sees it loaded.
func (t *trial) arm(ctx context.Context, name, verdicts string) error {
	rule := fmt.Sprintf("budget: {pause: 0s, kills_per_minute: 100, respawn: 0s}\nenforce: [%s]\n"+
		"rules:\n  - {name: %[1]s, match: {verdict: [%s]}, orphaned_for: 0s, grace: 2s}\n", name, verdicts)
	if err := t.m.write(ctx, "/etc/abot-trace/conf.d/arm.yaml", rule); err != nil {
		return err
	}
	_, err := t.m.run(ctx, "abot-trace check /etc/abot-trace/config.yaml && systemctl reload abot-trace")
	return err
}

func (t *trial) disarm(ctx context.Context) error {
	_, err := t.m.run(ctx, "rm -f /etc/abot-trace/conf.d/arm.yaml && systemctl reload abot-trace")
	return err
}

// decoy waits for a decoy to be born.
func (t *trial) decoy(ctx context.Context, name, what, verdict, because string) (decoy, error) {
	d := decoy{what: what, verdict: verdict, because: because}
	err := t.m.await(ctx, what, func() error {
		out, err := t.m.run(ctx, "cat /run/decoy-"+name+".pid")
		d.pid = strings.TrimSpace(out)
		return err
	})
	if err != nil {
		return d, err
	}
	return t.identify(ctx, d)
}

func (t *trial) identify(ctx context.Context, d decoy) (decoy, error) {
	start, err := t.startOf(ctx, d.pid)
	d.start = start
	return d, err
}

// startOf returns when a process was started, in ticks.
func (t *trial) startOf(ctx context.Context, pid string) (string, error) {
	out, _, err := t.m.enter(ctx, "", "cat", "/proc/"+pid+"/stat")
	if err != nil {
		return "", fmt.Errorf("process %s is gone: %w", pid, err)
	}
	_, rest, _ := strings.Cut(string(out), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 20 || fields[0] == "Z" {
		return "", fmt.Errorf("process %s is dead: %s", pid, out)
	}
	return fields[19], nil
}

// leftByUnit is about what a unit with KillMode=process leaves: nobody can tell whether
// it is meant to stay.
func (t *trial) leftByUnit(ctx context.Context) error {
	if err := t.decoyUnits(ctx); err != nil {
		return err
	}
	left, err := t.decoy(ctx, "left", "what a unit with KillMode=process leaves",
		wire.VerdictUnknown, "KillMode=process")
	if err != nil {
		return err
	}
	if err := t.arm(ctx, "leaked", "leaked"); err != nil {
		return err
	}
	if _, err := t.m.run(ctx, "touch /run/decoy-left.go"); err != nil {
		return err
	}
	if err := t.stayed(ctx, "leaked", left); err != nil {
		return err
	}
	// It is only unknown: the next rule would end it.
	_, err = t.m.run(ctx, "kill "+left.pid)
	return errors.Join(err, t.disarm(ctx))
}

// ownedBySystemd shows the widest rule what belongs to units and to a user's manager.
func (t *trial) ownedBySystemd(ctx context.Context) error {
	main, err := t.decoy(ctx, "main", "the main process of a unit, whose starter was killed",
		wire.VerdictDeliberate, "main process of the active unit decoy-main.service")
	if err != nil {
		return err
	}
	forking, err := t.decoy(ctx, "forking", "the daemon of a unit that is still starting",
		wire.VerdictDeliberate, "decoy-forking.service is still starting")
	if err != nil {
		return err
	}
	err = t.m.await(ctx, "decoy-main's new main process", func() error {
		_, err := t.m.run(ctx, "test $(systemctl show --value -p MainPID decoy-main) = "+main.pid)
		return err
	})
	if err != nil {
		return err
	}
	if _, err := t.m.run(ctx, "test $(systemctl show --value -p ActiveState decoy-forking) = activating"); err != nil {
		return err
	}
	decoys := []decoy{main, forking}
	for _, find := range []func(context.Context) ([]decoy, error){t.userManager, t.ownServices} {
		more, err := find(ctx)
		if err != nil {
			return err
		}
		decoys = append(decoys, more...)
	}
	if err := t.arm(ctx, "wide", "leaked, unknown"); err != nil {
		return err
	}
	if _, err := t.m.run(ctx, "touch /run/decoy-main.go"); err != nil {
		return err
	}
	if err := t.leakOfUser(ctx); err != nil {
		return err
	}
	if err := t.stayed(ctx, "wide", decoys...); err != nil {
		return err
	}
	// Its start goes on as if nothing had been.
	if _, err := t.m.run(ctx, "touch /run/decoy-forking.go"); err != nil {
		return err
	}
	return errors.Join(t.m.await(ctx, "the end of decoy-forking's start", func() error {
		_, err := t.m.run(ctx, "systemctl is-active decoy-forking decoy-main && test $(systemctl show --value -p MainPID decoy-forking) = "+forking.pid)
		return err
	}), t.stayed(ctx, "wide", decoys...), t.disarm(ctx))
}

// lingerer is a user whose manager runs without a login.
const lingerer = "lingerer"

func (t *trial) userManager(ctx context.Context) ([]decoy, error) {
	const make = "useradd --create-home " + lingerer + " && loginctl enable-linger " + lingerer
	if _, err := t.m.run(ctx, make); err != nil {
		return nil, err
	}
	pids := map[string]string{}
	err := t.m.await(ctx, "the user's manager", func() error {
		out, err := t.m.run(ctx, "systemctl is-active user@$(id -u "+lingerer+").service >&2 && ps -o pid=,comm= -u "+lingerer)
		for line := range strings.Lines(out) {
			if f := strings.Fields(line); len(f) == 2 {
				pids[f[1]] = f[0]
			}
		}
		if err == nil && (pids["systemd"] == "" || pids["(sd-pam)"] == "") {
			err = fmt.Errorf("%w: %s", errNotYet, out)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	manager, err := t.identify(ctx, decoy{what: "a lingering user's manager", pid: pids["systemd"]})
	if err != nil {
		return nil, err
	}
	pam, err := t.identify(ctx, decoy{what: "its (sd-pam)", pid: pids["(sd-pam)"]})
	return []decoy{manager, pam}, err
}

// leakOfUser leaks a worker below the user's manager, which adopts it, and wants it
// ended: PPID 1 is not what makes an orphan, nor is an adopter its owner.
func (t *trial) leakOfUser(ctx context.Context) error {
	const script = `import os, signal, time
pid = os.fork()
if pid == 0:
    time.sleep(3600)
open("/home/lingerer/leak.pid", "w").write(str(pid))
os.kill(os.getpid(), signal.SIGKILL)
`
	if err := t.m.write(ctx, "/home/"+lingerer+"/leak.py", script); err != nil {
		return err
	}
	_, err := t.m.run(ctx, `uid=$(id -u lingerer)
setpriv --reuid=$uid --regid=$(id -g lingerer) --init-groups env HOME=/home/lingerer XDG_RUNTIME_DIR=/run/user/$uid \
	systemd-run --user --quiet --unit=leak-of-user /bin/sh -c 'python3 -S ~/leak.py; exec sleep 3600'`)
	if err != nil {
		return err
	}
	pid := ""
	err = t.m.await(ctx, "the user's leak", func() error {
		out, err := t.m.run(ctx, "cat /home/lingerer/leak.pid")
		if pid = strings.TrimSpace(out); err == nil && pid == "" {
			err = errNotYet
		}
		return err
	})
	if err != nil {
		return err
	}
	return t.endedBy(ctx, "wide", pid)
}

// ownServices are the processes of the service itself.
func (t *trial) ownServices(ctx context.Context) ([]decoy, error) {
	pid, err := t.property(ctx, "MainPID")
	if err != nil {
		return nil, err
	}
	d, err := t.identify(ctx, decoy{what: "the service", pid: pid})
	return []decoy{d}, err
}

// stayed waits until the service has judged the decoys, ends a leak made after them,
// which shows that the rule works, and wants every decoy as it was.
func (t *trial) stayed(ctx context.Context, rule string, decoys ...decoy) error {
	for _, d := range decoys {
		if err := t.judged(ctx, d); err != nil {
			return err
		}
	}
	t.controls++
	control, err := t.leak(ctx, fmt.Sprintf("leak-control-%d", t.controls))
	if err != nil {
		return err
	}
	if err := t.endedBy(ctx, rule, control); err != nil {
		return err
	}
	for _, d := range decoys {
		start, err := t.startOf(ctx, d.pid)
		if err != nil || start != d.start {
			return fmt.Errorf("%s: started at %s, was %s: %w", d.what, start, d.start, err)
		}
	}
	return t.namedInNoKill(ctx, decoys)
}

// judged waits until a decoy is an orphan with its verdict.
func (t *trial) judged(ctx context.Context, d decoy) error {
	if d.verdict == "" {
		return nil
	}
	return t.m.await(ctx, "the verdict on "+d.what, func() error {
		orphans, err := t.orphans(ctx)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(orphans, func(o wire.Process) bool { return strconv.Itoa(int(o.PID)) == d.pid })
		if i < 0 || len(orphans[i].Orphan.Evidence) == 0 {
			return errNotYet
		}
		if o := orphans[i].Orphan; o.Verdict != d.verdict || !strings.Contains(o.Evidence[0], d.because) {
			return fmt.Errorf("it is %q (%s), want %q (%s)", o.Verdict, strings.Join(o.Evidence, "; "), d.verdict, d.because)
		}
		return nil
	})
}

func (t *trial) namedInNoKill(ctx context.Context, decoys []decoy) error {
	kills, err := t.records(ctx, "kill", "ABOT_MODE=enforce")
	if err != nil {
		return err
	}
	for _, k := range kills {
		for _, killed := range values(k["ABOT_KILLED"]) {
			pid, _, _ := strings.Cut(killed, " ")
			if i := slices.IndexFunc(decoys, func(d decoy) bool { return d.pid == pid }); i >= 0 {
				return fmt.Errorf("%s is in a kill: %v", decoys[i].what, k)
			}
		}
	}
	return nil
}

// values are those of a field, which may occur more than once in a record.
func values(field any) []string {
	switch v := field.(type) {
	case string:
		return []string{v}
	case []any:
		var out []string
		for _, item := range v {
			out = append(out, fmt.Sprint(item))
		}
		return out
	}
	return nil
}
