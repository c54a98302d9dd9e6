// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/abot-trace/abot-trace/internal/wire"
)

// A trial is one run through an installation's life.
type trial struct {
	m        *machine
	emulated bool
	orphan   string // the pid of the first leak

	controls int    // leaks made to see that a rule works
	unclear  string // of the storm's orphans, one whose verdict is not leaked
}

type step struct {
	name string
	do   func(context.Context) error
}

func (t *trial) steps(short bool) []step {
	steps := []step{
		{"the units' exposure is 1.6 or lower", t.exposure},
		{"installed, the service is up, by itself", t.install},
		{"an orphan made then is in the journal with all its fields", t.record},
		{"no rule has ended it: they only observe", t.observed},
		{"doctor finds nothing that keeps it from tracing", t.doctor},
		{"an ordinary user learns no more than ps shows", t.unprivileged},
		{"armed by a drop-in and a reload, a rule ends the leaked tree", t.armed},
		{"an invalid configuration keeps the one that runs", t.invalid},
		{"a crash comes back by itself, leaves a record and is told", t.crashed},
		{"only a refused configuration is not started again", t.refused},
	}
	if !short {
		steps = append(steps,
			step{"what KillMode=process leaves is unknown, and stays", t.leftByUnit},
			step{"the widest rule spares what systemd owns, and ends leaks", t.ownedBySystemd},
			step{"the records of an orphan and its end have every field", t.fullRecords},
			step{"a reload lifts a warm-up that runs", t.warmedUp},
		)
		if !t.emulated { // thousands of processes are too many for an emulated machine
			steps = append(steps,
				step{"journald stopped: nothing waits, what is dropped is told", t.journalStopped},
				step{"journald killed under way: what may be missing is one record each", t.journaldKilled},
				step{"the journal's rate limit spares the service; where not, doctor says so", t.rateLimited},
			)
		}
		steps = append(steps,
			step{"upgraded under load, it misses nothing", t.upgraded},
		)
	}
	return append(steps,
		step{"killed for good, it leaves nobody stopped", t.thawed},
		step{"removed, nothing is left", t.removed},
	)
}

// serviceLog is for failures.
func (t *trial) serviceLog(ctx context.Context) string {
	out, err := t.m.run(ctx, "journalctl --no-pager -n 40 -u abot-trace -u abot-trace-notify; systemctl status --no-pager abot-trace || :")
	if err != nil {
		return err.Error()
	}
	return out
}

func (t *trial) exposure(ctx context.Context) error {
	if _, err := t.m.run(ctx, "mkdir /run/x && dpkg-deb -x /root/packages/"+firstVersion+".deb /run/x"); err != nil {
		return err
	}
	// The tracer's alone may lower its threads' priority, which systemd counts as 0.1: else the
	// history would be sealed with the priority of the reader.
	_, err := t.m.run(ctx, `for unit in abot-trace abot-trace-notify abot-trace-cleanup; do
		most=15; [ $unit != abot-trace ] || most=16
		systemd-analyze security --no-pager --offline=yes --threshold=$most /run/x/usr/lib/systemd/system/$unit.service | tail -n 1
	done; rm -r /run/x`)
	return err
}

// install makes the orphan a second after the installation, as a host would.
func (t *trial) install(ctx context.Context) error {
	// Kills are held for a minute after the start; the test need not wait so long.
	if err := t.m.write(ctx, "/etc/abot-trace/conf.d/test.yaml", "budget: {warm_up: 0s, respawn: 0s}\nnotify: {per_user: 1000000}\n"); err != nil {
		return err
	}
	if _, err := t.m.run(ctx, "apt-get install -y /root/packages/"+firstVersion+".deb"); err != nil {
		return err
	}
	state, err := t.m.run(ctx, "systemctl is-active abot-trace; systemctl is-enabled abot-trace; abot-trace version; stat -c %U:%a /var/lib/abot-trace; "+
		"cat /proc/$(systemctl show --value -p MainPID abot-trace)/task/*/status | grep CapEff | sort -u")
	if err != nil {
		return err
	}
	for _, want := range []string{"active\nenabled\n", "abot-trace " + firstVersion, "abot-trace:700"} {
		if !strings.Contains(state, want) {
			return fmt.Errorf("got %q, want %q in it", state, want)
		}
	}
	// BPF, KILL, SYS_PTRACE, DAC_READ_SEARCH: the same of every thread, and no PERFMON.
	if want := "700\nCapEff:\t0000008000080024\n"; !strings.HasSuffix(state, want) {
		return fmt.Errorf("got %q, want %q at its end", state, want)
	}
	t.orphan, err = t.leak(ctx, "leak-one")
	return err
}

// leak starts a service whose main process lives on while a worker is orphaned by the
// SIGKILL of the process that had started it. It returns the worker's pid.
func (t *trial) leak(ctx context.Context, unit string) (string, error) {
	const script = `python3 -c '
import subprocess, time
worker = subprocess.Popen(["python3", "-c", "import time #UNIT\ntime.sleep(3600)"])
open("/run/UNIT.partial", "w").write(str(worker.pid))
import os; os.rename("/run/UNIT.partial", "/run/UNIT.pid")
time.sleep(3600)' &
while ! [ -e /run/UNIT.pid ]; do sleep 0.05; done
kill -9 $!
exec sleep 3600`
	if err := t.m.start(ctx, unit, strings.ReplaceAll(script, "UNIT", unit)); err != nil {
		return "", err
	}
	pid := ""
	err := t.m.await(ctx, "the worker of "+unit, func() error {
		out, err := t.m.run(ctx, "cat /run/"+unit+".pid")
		pid = strings.TrimSpace(out)
		return err
	})
	return pid, err
}

// records returns the journal's records of one kind about a process, in order.
func (t *trial) records(ctx context.Context, kind, match string) ([]map[string]any, error) {
	out, err := t.m.run(ctx, "journalctl --no-pager -o json -u abot-trace ABOT_EVENT="+kind+" "+match)
	if err != nil {
		return nil, err
	}
	var records []map[string]any
	for line := range strings.Lines(out) {
		var r map[string]any
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			return nil, fmt.Errorf("journalctl -o json: %w: %q", err, line)
		}
		records = append(records, r)
	}
	return records, nil
}

// await waits for the first record of a kind about a process.
func (t *trial) await(ctx context.Context, kind, match string) (map[string]any, error) {
	var found map[string]any
	err := t.m.await(ctx, kind+" "+match+" in the journal", func() error {
		records, err := t.records(ctx, kind, match)
		if err != nil || len(records) == 0 {
			return fmt.Errorf("%w (%v)", errNotYet, err)
		}
		found = records[0]
		return nil
	})
	return found, err
}

func (t *trial) record(ctx context.Context) error {
	r, err := t.await(ctx, "orphan", "ABOT_PID="+t.orphan)
	if err != nil {
		return err
	}
	for field, want := range map[string]string{
		"SYSLOG_IDENTIFIER": "abot-trace", "ABOT_EVENT": "orphan", "ABOT_VERDICT": "leaked", "ABOT_PID": t.orphan,
		"ABOT_COMM": "python3", "ABOT_LEAKER_COMM": "python3", "ABOT_ADOPTER_PID": "1",
		"OBJECT_PID": "", "OBJECT_SYSTEMD_UNIT": "leak-one.service", "MESSAGE_ID": "", "PRIORITY": "",
		"ABOT_EVENT_ID": "", "ABOT_START_NS": "", "ABOT_CMDLINE": "", "ABOT_EVIDENCE": "",
		"ABOT_LEAKER_PID": "", "ABOT_LEAKER_EXIT": "",
	} {
		got, ok := r[field]
		if !ok || want != "" && got != want {
			return fmt.Errorf("%s: got %v, want %q; the record: %v", field, got, want, r)
		}
	}
	if exit := fmt.Sprint(r["ABOT_LEAKER_EXIT"]); !strings.Contains(exit, "SIGKILL") {
		return fmt.Errorf("ABOT_LEAKER_EXIT: got %q, want SIGKILL in it", exit)
	}
	explained, err := t.m.run(ctx, "journalctl --no-pager -x -u abot-trace ABOT_EVENT=orphan ABOT_PID="+t.orphan)
	if err != nil {
		return err
	}
	if !strings.Contains(explained, "lost its parent") {
		return fmt.Errorf("the catalog explains nothing: %q", explained)
	}
	return nil
}

func (t *trial) observed(ctx context.Context) error {
	_, err := t.m.run(ctx, "kill -0 "+t.orphan)
	return err
}

func (t *trial) doctor(ctx context.Context) error {
	out, err := t.m.run(ctx, "abot-trace doctor")
	if err != nil {
		return err
	}
	for line := range strings.Lines(out) {
		// In a container it is not the host's, and that is said.
		if strings.HasPrefix(line, "missing") || strings.HasPrefix(line, "degraded") && !strings.Contains(line, "pid namespace") {
			return fmt.Errorf("doctor: %s", out)
		}
	}
	return nil
}

func (t *trial) unprivileged(ctx context.Context) error {
	out, err := t.m.run(ctx, `! setpriv --reuid=nobody --regid=nogroup --clear-groups abot-trace tree 2>&1`)
	if err != nil {
		return err
	}
	if !strings.Contains(out, "permission denied") {
		return fmt.Errorf("got %q, want a refusal", out)
	}
	return nil
}

func (t *trial) armed(ctx context.Context) error {
	const rule = "rules:\n  - name: marked\n    match: {verdict: [leaked], cmdline: '#leak-'}\n    grace: 2s\nenforce: [marked]\n"
	if err := t.m.write(ctx, "/etc/abot-trace/conf.d/arm.yaml", rule); err != nil {
		return err
	}
	if _, err := t.m.run(ctx, "abot-trace check /etc/abot-trace/config.yaml && systemctl reload abot-trace"); err != nil {
		return err
	}
	if err := t.ended(ctx, t.orphan); err != nil {
		return err
	}
	// The next one does not wait for a reload.
	pid, err := t.leak(ctx, "leak-two")
	if err != nil {
		return err
	}
	if err := t.ended(ctx, pid); err != nil {
		return err
	}
	_, err = t.m.run(ctx, "systemctl is-active leak-one leak-two && rm /etc/abot-trace/conf.d/arm.yaml && systemctl reload abot-trace")
	return err
}

// ended waits until a rule has ended a process, and looks at what it says about it.
func (t *trial) ended(ctx context.Context, pid string) error { return t.endedBy(ctx, "marked", pid) }

func (t *trial) endedBy(ctx context.Context, rule, pid string) error {
	err := t.m.await(ctx, "the end of "+pid, func() error {
		_, err := t.m.run(ctx, "! kill -0 "+pid)
		return err
	})
	if err != nil {
		return err
	}
	return t.m.await(ctx, "a record of the kill of "+pid, func() error {
		kills, err := t.records(ctx, "kill", "ABOT_RULE="+rule+" ABOT_MODE=enforce ABOT_OUTCOME=done")
		if err != nil {
			return err
		}
		for _, k := range kills {
			if strings.Contains(fmt.Sprint(k["ABOT_KILLED"]), pid+" died") {
				return nil
			}
		}
		return errNotYet
	})
}

func (t *trial) invalid(ctx context.Context) error {
	if err := t.m.write(ctx, "/etc/abot-trace/conf.d/wrong.yaml", "rulse: []\n"); err != nil {
		return err
	}
	before, err := t.property(ctx, "MainPID")
	if err != nil {
		return err
	}
	if _, err := t.m.run(ctx, "systemctl reload abot-trace || :"); err != nil {
		return err
	}
	if _, err := t.await(ctx, "alert", ""); err != nil {
		return err
	}
	after, err := t.property(ctx, "MainPID")
	if err != nil {
		return err
	}
	if before != after {
		return fmt.Errorf("the main process was %s and is %s", before, after)
	}
	_, err = t.m.run(ctx, "rm /etc/abot-trace/conf.d/wrong.yaml && systemctl reload abot-trace && systemctl is-active abot-trace")
	return err
}

func (t *trial) property(ctx context.Context, name string) (string, error) {
	out, err := t.m.run(ctx, "systemctl show --value -p "+name+" abot-trace")
	return strings.TrimSpace(out), err
}

// upgraded installs the next version while processes come and go and one is leaked
// every moment. Every one of them must be known with its lineage, before, during and
// after.
func (t *trial) upgraded(ctx context.Context) error {
	// Bounded: it ends by itself after 3,000 processes.
	const load = `i=0; while [ $i -lt 3000 ]; do /bin/true; i=$((i+1)); done; exec sleep 3600`
	if err := t.m.start(ctx, "load", load); err != nil {
		return err
	}
	const leaks = `i=0; while [ $i -lt 40 ]; do
	python3 -S -c 'import os, signal
pid = os.fork()
if pid == 0:
    os.execvp("sleep", ["sleep", "3600"])
print(pid, flush=True)
os.kill(os.getpid(), signal.SIGKILL)' >>/run/leaks || :
	i=$((i+1)); sleep 0.1
done; touch /run/leaks.done; exec sleep 3600`
	if err := t.m.start(ctx, "leaks", leaks); err != nil {
		return err
	}
	before, err := t.property(ctx, "MainPID")
	if err != nil {
		return err
	}
	if _, err := t.m.run(ctx, "apt-get install -y /root/packages/"+secondVersion+".deb"); err != nil {
		return err
	}
	after, err := t.property(ctx, "MainPID")
	if err != nil {
		return err
	}
	if before == after {
		return fmt.Errorf("main process %s was not replaced", before)
	}
	err = t.m.await(ctx, "the last leak", func() error { _, err := t.m.run(ctx, "test -e /run/leaks.done"); return err })
	if err != nil {
		return err
	}
	return t.m.await(ctx, "all leaks known", func() error { return t.leaksKnown(ctx) })
}

// leaksKnown compares who was leaked with what the journal and the tree say.
func (t *trial) leaksKnown(ctx context.Context) error {
	out, err := t.m.run(ctx, "cat /run/leaks; echo; abot-trace orphans --json")
	if err != nil {
		return err
	}
	list, document, _ := strings.Cut(out, "\n\n")
	var orphans []wire.Process
	if err := json.Unmarshal([]byte(document), &orphans); err != nil {
		return fmt.Errorf("orphans --json: %w", err)
	}
	pids := strings.Fields(list)
	if len(pids) != 40 {
		return fmt.Errorf("%d leaks were made, want 40", len(pids))
	}
	for _, text := range pids {
		pid, err := strconv.Atoi(text)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(orphans, func(o wire.Process) bool { return int(o.PID) == pid })
		switch {
		case i < 0:
			return fmt.Errorf("orphan %d is not known", pid)
		case orphans[i].Lineage != wire.LineageObserved:
			return fmt.Errorf("orphan %d: its lineage is %s, want observed", pid, orphans[i].Lineage)
		case orphans[i].Orphan.Verdict != wire.VerdictLeaked && !(t.emulated && tooLate(orphans[i].Orphan)):
			return fmt.Errorf("orphan %d is %s (%s), want leaked", pid, orphans[i].Orphan.Verdict,
				strings.Join(orphans[i].Orphan.Evidence, "; "))
		}
	}
	lost, err := t.records(ctx, "lost", "")
	if err == nil && len(lost) > 0 {
		err = fmt.Errorf("records were lost: %v", lost)
	}
	return err
}

// thawed has the service killed while a process is stopped that its notes name, and not
// started again. The process belongs to another user than the service. (The boot id is
// the one that the service sees: nspawn shows another.) The moment itself, in the
// middle of a kill, is in a test of the program.
func (t *trial) thawed(ctx context.Context) error {
	_, err := t.m.run(ctx, `mkdir -p /run/systemd/system/abot-trace.service.d
printf '[Service]\nRestart=no\n' >/run/systemd/system/abot-trace.service.d/once.conf
systemctl daemon-reload
systemd-run --quiet --unit=frozen --property=User=nobody sleep 3600
pid=$(systemctl show --value -p MainPID frozen)
read -r _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ _ ticks _ </proc/$pid/stat
kill -STOP $pid
printf '{"boot_id":"%s","kill_id":"k","processes":[{"pid":%d,"start_ns":%d0000000}]}' \
	$(nsenter -m -t $(systemctl show --value -p MainPID abot-trace) cat /proc/sys/kernel/random/boot_id) $pid $ticks >/run/abot-trace/stopped/k.stopped
chown --reference=/run/abot-trace/stopped /run/abot-trace/stopped/k.stopped
systemctl kill --kill-whom=main --signal=KILL abot-trace`)
	if err != nil {
		return err
	}
	err = t.m.await(ctx, "the process continues", func() error {
		_, err := t.m.run(ctx, `test "$(systemctl is-active abot-trace)" = failed
test ! -e /run/abot-trace/stopped/k.stopped
grep -q '^State:	S' /proc/$(systemctl show --value -p MainPID frozen)/status`)
		return err
	})
	if err != nil {
		return err
	}
	_, err = t.m.run(ctx, `systemctl stop frozen && rm -r /run/systemd/system/abot-trace.service.d
systemctl daemon-reload && systemctl start abot-trace && systemctl is-active abot-trace`)
	return err
}

func (t *trial) removed(ctx context.Context) error {
	if _, err := t.m.run(ctx, "apt-get purge -y abot-trace"); err != nil {
		return err
	}
	// systemd forgets a unit a moment after the last who asked for it.
	return t.m.await(ctx, "nothing left", func() error { return t.nothingLeft(ctx) })
}

func (t *trial) nothingLeft(ctx context.Context) error {
	// "! command" would not end a shell with -e.
	_, err := t.m.run(ctx, `
left() { if "$@" 2>/dev/null | grep .; then echo "left: $*" >&2; exit 1; fi; }
left pgrep -x abot-trace
left ls -d /run/abot-trace /run/abot-trace-notify /var/lib/abot-trace /etc/abot-trace /usr/bin/abot-trace \
	/usr/lib/systemd/catalog/abot-trace.catalog /sys/fs/bpf/abot-trace
left systemctl list-units --all --plain --no-legend 'abot-trace*'
left systemctl cat abot-trace.service
left sh -c 'journalctl --list-catalog | grep abot-trace'`)
	return err
}
