// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/abot-trace/abot-trace/internal/notify"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// fullRecords wants every field of the contract that applies in the records of an
// orphan and of its end, as journalctl finds them by their kind.
func (t *trial) fullRecords(ctx context.Context) error {
	if err := t.arm(ctx, "recorded", "leaked"); err != nil {
		return err
	}
	pid, err := t.leak(ctx, "leak-recorded")
	if err != nil {
		return err
	}
	if err := t.endedBy(ctx, "recorded", pid); err != nil {
		return err
	}
	orphan := map[string]string{
		"ABOT_EVENT": "orphan", "ABOT_PID": pid, "OBJECT_PID": "", "ABOT_START_NS": "", "ABOT_COMM": "python3",
		"ABOT_CMDLINE": "", "ABOT_VERDICT": "leaked", "ABOT_EVIDENCE": "", "ABOT_LEAKER_PID": "", "ABOT_LEAKER_COMM": "python3",
		"ABOT_LEAKER_EXIT": "", "ABOT_ADOPTER_PID": "1", "OBJECT_SYSTEMD_UNIT": "leak-recorded.service",
	}
	kill := map[string]string{
		"ABOT_EVENT": "kill", "ABOT_PID": pid, "OBJECT_PID": "", "ABOT_START_NS": "", "ABOT_COMM": "python3",
		"ABOT_CMDLINE": "", "ABOT_VERDICT": "leaked", "ABOT_RULE": "recorded", "ABOT_MODE": "enforce",
		"ABOT_KILL_ID": "", "ABOT_OUTCOME": wire.KillDone, "ABOT_FREED_BYTES": "", "OBJECT_SYSTEMD_UNIT": "leak-recorded.service",
	}
	return errors.Join(
		t.holds(ctx, wire.TypeOrphan, pid, orphan),
		t.holds(ctx, wire.TypeKill, pid, kill),
		t.disarm(ctx))
}

// holds wants these values in a process's record of a kind; an empty one may be any.
func (t *trial) holds(ctx context.Context, kind, pid string, want map[string]string) error {
	records, err := t.records(ctx, kind, "MESSAGE_ID="+notify.MessageIDs[kind]+" ABOT_PID="+pid)
	if err != nil {
		return err
	}
	if len(records) != 1 {
		return fmt.Errorf("%d records of kind %s about %s, want 1", len(records), kind, pid)
	}
	want["SYSLOG_IDENTIFIER"], want["PRIORITY"], want["ABOT_EVENT_ID"] = notify.Identifier, "", ""
	for field, value := range want {
		got := values(records[0][field])
		if len(got) == 0 || got[0] == "" || value != "" && got[0] != value {
			return fmt.Errorf("%s: %s is %q, want %q; the record: %v", kind, field, got, value, records[0])
		}
	}
	return nil
}

// warmedUp reloads into a warm-up that holds a kill back, and out of it.
func (t *trial) warmedUp(ctx context.Context) error {
	const file = "/etc/abot-trace/conf.d/test.yaml"
	if err := t.m.write(ctx, file, "budget: {warm_up: 1h}\n"); err != nil {
		return err
	}
	if err := t.arm(ctx, "warm", "leaked"); err != nil {
		return err
	}
	pid, err := t.leak(ctx, "leak-warm")
	if err != nil {
		return err
	}
	held, err := t.await(ctx, "kill", "ABOT_RULE=warm ABOT_OUTCOME="+wire.KillBudget)
	if err != nil {
		return err
	}
	if message := fmt.Sprint(held["MESSAGE"]); !strings.Contains(message, "warming up") || strings.Contains(message, "used up") {
		return fmt.Errorf("got %q, want the warm-up as the reason", message)
	}
	if _, err := t.startOf(ctx, pid); err != nil {
		return err
	}
	if err := t.m.write(ctx, file, "budget: {warm_up: 0s}\n"); err != nil {
		return err
	}
	if _, err := t.m.run(ctx, "systemctl reload abot-trace"); err != nil {
		return err
	}
	return errors.Join(t.endedBy(ctx, "warm", pid), t.disarm(ctx))
}

// As many orphans as fill the daemon's queue for journald, and some more.
const (
	storms       = 6
	stormOrphans = 1000
)

// One process leaves all of its children at once.
const stormScript = `import os, signal, time
while not os.path.exists("/run/storm.go"):
    time.sleep(0.02)
for i in range(%d):
    if os.fork() == 0:
        time.sleep(3600)
os.kill(os.getpid(), signal.SIGKILL)
`

// journalStopped makes more orphans than can wait while journald does not read, then
// restarts it. Each orphan must be in the journal or be counted as dropped there.
func (t *trial) journalStopped(ctx context.Context) error {
	if err := t.m.write(ctx, "/root/storm.py", fmt.Sprintf(stormScript, stormOrphans)); err != nil {
		return err
	}
	for i := range storms {
		unit := fmt.Sprintf("storm-%d", i)
		if err := t.m.start(ctx, unit, "python3 -S /root/storm.py || :; exec sleep 3600"); err != nil {
			return err
		}
	}
	journald, err := t.m.run(ctx, "systemctl show --value -p MainPID systemd-journald")
	if err != nil {
		return err
	}
	err = t.whileStopped(ctx, strings.TrimSpace(journald), func() error {
		if _, _, err := t.m.enter(ctx, "", "touch", "/run/storm.go"); err != nil {
			return err
		}
		return t.m.await(ctx, "the verdicts on all orphans", func() error { return t.stormKnown(ctx) })
	})
	if err != nil {
		return err
	}
	if t.unclear != "" {
		return errors.New(t.unclear)
	}
	if _, err := t.m.run(ctx, "systemctl restart systemd-journald && systemctl stop 'storm-*'"); err != nil {
		return err
	}
	return t.m.await(ctx, "all orphans in the journal, or told as dropped", func() error { return t.stormTold(ctx) })
}

// whileStopped does something while a process of the machine is stopped.
func (t *trial) whileStopped(ctx context.Context, pid string, do func() error) error {
	if _, _, err := t.m.enter(ctx, "", "kill", "-STOP", pid); err != nil {
		return err
	}
	err := do()
	_, _, contErr := t.m.enter(context.WithoutCancel(ctx), "", "kill", "-CONT", pid)
	return errors.Join(err, contErr)
}

// orphans are those that the service knows now.
func (t *trial) orphans(ctx context.Context) (orphans []wire.Process, err error) {
	out, _, err := t.m.enter(ctx, "", "abot-trace", "orphans", "--json")
	if err != nil {
		return nil, fmt.Errorf("orphans: %w", err)
	}
	if err := json.Unmarshal(out, &orphans); err != nil {
		return nil, fmt.Errorf("orphans --json: %w", err)
	}
	return orphans, nil
}

// stormKnown asks the service, which does not wait for journald.
func (t *trial) stormKnown(ctx context.Context) error {
	orphans, err := t.orphans(ctx)
	if err != nil {
		return err
	}
	told := 0
	for _, o := range orphans {
		// What has its verdict was handed to the journal's queue, or dropped from it.
		if !strings.HasPrefix(o.Unit, "storm-") || len(o.Orphan.Evidence) == 0 {
			continue
		}
		told++
		if o.Orphan.Verdict != wire.VerdictLeaked && !tooLate(o.Orphan) {
			t.unclear = fmt.Sprintf("%d is %s: %s", o.PID, o.Orphan.Verdict, strings.Join(o.Orphan.Evidence, "; "))
		}
	}
	if told != storms*stormOrphans {
		return fmt.Errorf("%d orphans have their verdict, want %d", told, storms*stormOrphans)
	}
	return nil
}

// tooLate reports whether an answer that the verdict hangs on came too late, as it may
// on a slow machine: then it is unknown.
func tooLate(o *wire.Orphan) bool {
	return o.Verdict == wire.VerdictUnknown &&
		strings.Contains(strings.Join(o.Evidence, "; "), context.DeadlineExceeded.Error())
}

func (t *trial) stormTold(ctx context.Context) error {
	out, err := t.m.run(ctx, "journalctl --no-pager -o cat --output-fields=OBJECT_SYSTEMD_UNIT -u abot-trace MESSAGE_ID="+
		notify.MessageIDs[wire.TypeOrphan]+" | grep -c '^storm-' || :")
	if err != nil {
		return err
	}
	written, err := strconv.Atoi(strings.TrimSpace(out))
	if err != nil {
		return err
	}
	told, err := t.toldDropped(ctx)
	if err != nil {
		return err
	}
	switch made := storms * stormOrphans; {
	case written >= made:
		return fmt.Errorf("all %d were written: journald was not stopped for long enough", written)
	case told == 0:
		return fmt.Errorf("%w: no dropped record", errNotYet)
	case written+told < made:
		return fmt.Errorf("%d in the journal and %d told as dropped, want %d", written, told, made)
	}
	progress(fmt.Sprintf("%d orphans in the journal, %d records told as dropped", written, told))
	return nil
}

// toldDropped is how many records the journal says were dropped.
func (t *trial) toldDropped(ctx context.Context) (int, error) {
	records, err := t.records(ctx, "dropped", "MESSAGE_ID="+notify.DroppedID)
	if err != nil {
		return 0, err
	}
	sum := 0
	for _, r := range records {
		n, err := strconv.Atoi(fmt.Sprint(r["ABOT_LOST"]))
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}
