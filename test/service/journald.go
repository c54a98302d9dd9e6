// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/abot-trace/abot-trace/internal/notify"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// Waves of orphans, so that records come for some seconds and not all at once.
const (
	waves       = 20
	waveOrphans = 100
)

// Each wave is a process that leaves all of its children at once.
const waveScript = `import os, signal, sys, time
for wave in range(%d):
    pid = os.fork()
    if pid == 0:
        for i in range(%d):
            if os.fork() == 0:
                time.sleep(3600)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    time.sleep(0.1)
`

// makeWaves starts a service that makes them; it ends when it is stopped.
func (t *trial) makeWaves(ctx context.Context, unit string) error {
	if err := t.m.write(ctx, "/root/waves.py", fmt.Sprintf(waveScript, waves, waveOrphans)); err != nil {
		return err
	}
	return t.m.start(ctx, unit, "python3 -S /root/waves.py; exec sleep 3600")
}

// wavesJudged waits until the service has the verdict on all orphans of a unit, which
// it hands to the journal's queue in the same breath.
func (t *trial) wavesJudged(ctx context.Context, unit string) error {
	return t.m.await(ctx, "the verdicts on all orphans of "+unit, func() error {
		orphans, err := t.orphans(ctx)
		if err != nil {
			return err
		}
		judged := 0
		for _, o := range orphans {
			if o.Unit == unit+".service" && len(o.Orphan.Evidence) > 0 {
				judged++
			}
		}
		if judged != waves*waveOrphans {
			return fmt.Errorf("%d orphans have their verdict, want %d", judged, waves*waveOrphans)
		}
		return nil
	})
}

// orphansOf counts the journal's orphan records of a unit, and fails where one is there
// twice. It asks beside systemd's own way of running commands, which needs journald.
func (t *trial) orphansOf(ctx context.Context, unit string) (int, error) {
	out, _, err := t.m.enter(ctx, "", "journalctl", "--no-pager", "-o", "cat", "--output-fields=ABOT_EVENT_ID",
		"MESSAGE_ID="+notify.MessageIDs[wire.TypeOrphan], "OBJECT_SYSTEMD_UNIT="+unit+".service")
	if err != nil {
		return 0, fmt.Errorf("journalctl: %w", err)
	}
	seen := make(map[string]bool)
	for id := range strings.FieldsSeq(string(out)) {
		if seen[id] {
			return 0, fmt.Errorf("the orphan of event %s is in the journal twice", id)
		}
		seen[id] = true
	}
	return len(seen), nil
}

// journaldKills is how often journald is killed during one stream: fewer times than
// systemd starts a service anew in ten seconds.
const journaldKills = 3

// journaldKilled kills journald while records come. systemd keeps its sockets open and
// starts it anew, so that what waits in them is read later. A sender cannot know what
// became of the one record that journald had taken and not yet written: that many may
// be missing for each kill, and no more.
func (t *trial) journaldKilled(ctx context.Context) error {
	const unit = "waves-killed"
	before, err := t.toldDropped(ctx)
	if err != nil {
		return err
	}
	if err := t.makeWaves(ctx, unit); err != nil {
		return err
	}
	for i := range journaldKills {
		err := t.m.await(ctx, "records between two kills of journald", func() error {
			n, err := t.orphansOf(ctx, unit)
			if err == nil && n <= i*waves*waveOrphans/(journaldKills+1) {
				err = errNotYet
			}
			return err
		})
		if err != nil {
			return err
		}
		if err := t.killJournald(ctx); err != nil {
			return err
		}
	}
	if err := t.wavesJudged(ctx, unit); err != nil {
		return err
	}
	const made = waves * waveOrphans
	written, dropped := 0, 0
	err = t.m.await(ctx, "all orphans in the journal, or told as dropped", func() (err error) {
		if written, err = t.orphansOf(ctx, unit); err != nil {
			return err
		}
		if dropped, err = t.toldDropped(ctx); err != nil {
			return err
		}
		if dropped -= before; written+dropped < made-journaldKills {
			return fmt.Errorf("%d in the journal and %d told as dropped of %d", written, dropped, made)
		}
		return nil
	})
	if err != nil {
		return err
	}
	progress(fmt.Sprintf("journald killed %d times: %d of %d orphans in the journal, %d told as dropped", journaldKills, written, made, dropped))
	_, err = t.m.run(ctx, "systemctl stop "+unit)
	return err
}

// killJournald waits until another process serves in its place.
func (t *trial) killJournald(ctx context.Context) error {
	main := func() (string, error) {
		out, _, err := t.m.enter(ctx, "", "systemctl", "show", "--value", "-p", "MainPID", "systemd-journald")
		return strings.TrimSpace(string(out)), err
	}
	old, err := main()
	if err != nil {
		return err
	}
	if _, _, err := t.m.enter(ctx, "", "kill", "-KILL", old); err != nil {
		return fmt.Errorf("kill journald: %w", err)
	}
	return t.m.await(ctx, "another journald", func() error {
		pid, err := main()
		if err == nil && (pid == old || pid == "0") {
			err = errNotYet
		}
		return err
	})
}

// The limit that is put upon the whole journal. journald allows some times as many where
// there is much room on the disk.
const (
	rateLimit     = 30
	journaldLimit = "[Journal]\nRateLimitIntervalSec=5min\nRateLimitBurst=30\n"
	// What seems to lift it does not: systemd does not tell journald of a 0.
	unitLimit = "[Service]\nLogRateLimitIntervalSec=0\n"
)

// rateLimited shows that the journal's limit does not reach the unit as it is packaged,
// and that doctor notices where it does, for it drops records and tells the sender
// nothing.
func (t *trial) rateLimited(ctx context.Context) error {
	const dropIn, unitDropIn = "/etc/systemd/journald.conf.d/limit.conf", "/etc/systemd/system/abot-trace.service.d/limit.conf"
	if err := t.m.write(ctx, dropIn, journaldLimit); err != nil {
		return err
	}
	if _, err := t.m.run(ctx, "systemctl restart systemd-journald"); err != nil {
		return err
	}
	if err := t.free(ctx); err != nil {
		return fmt.Errorf("as packaged: %w", err)
	}
	if err := t.m.write(ctx, unitDropIn, unitLimit); err != nil {
		return err
	}
	if _, err := t.m.run(ctx, "systemctl daemon-reload && systemctl restart abot-trace"); err != nil {
		return err
	}
	if err := t.limited(ctx); err != nil {
		return fmt.Errorf("with LogRateLimitIntervalSec=0: %w", err)
	}
	_, err := t.m.run(ctx, "rm "+dropIn+" "+unitDropIn+
		" && systemctl daemon-reload && systemctl restart systemd-journald abot-trace && systemctl stop 'waves-*'")
	return err
}

// free wants every record, and no advice.
func (t *trial) free(ctx context.Context) error {
	const unit = "waves-free"
	if err := t.throughLimit(ctx, unit, false); err != nil {
		return err
	}
	err := t.m.await(ctx, "all orphans in the journal", func() error {
		n, err := t.orphansOf(ctx, unit)
		if err == nil && n != waves*waveOrphans {
			err = fmt.Errorf("%d of %d", n, waves*waveOrphans)
		}
		return err
	})
	if err != nil {
		return err
	}
	n, err := t.suppressed(ctx)
	if err == nil && n > 0 {
		err = fmt.Errorf("journald suppressed %d messages of the service", n)
	}
	return err
}

// limited wants fewer records than there were, and doctor to say so.
func (t *trial) limited(ctx context.Context) error {
	const unit = "waves-limited"
	if err := t.throughLimit(ctx, unit, true); err != nil {
		return err
	}
	n, err := t.orphansOf(ctx, unit)
	if err != nil {
		return err
	}
	if n == 0 || n > 10*rateLimit {
		return fmt.Errorf("%d of %d orphans in the journal: its limit of %d shows nothing", n, waves*waveOrphans, rateLimit)
	}
	progress(fmt.Sprintf("under a limit: %d of %d orphans in the journal", n, waves*waveOrphans))
	return nil
}

// throughLimit asks doctor, then makes the records.
func (t *trial) throughLimit(ctx context.Context, unit string, told bool) error {
	if err := t.limitTold(ctx, told); err != nil {
		return err
	}
	if err := t.makeWaves(ctx, unit); err != nil {
		return err
	}
	return t.wavesJudged(ctx, unit)
}

// limitTold asks doctor.
func (t *trial) limitTold(ctx context.Context, want bool) error {
	out, err := t.m.run(ctx, "abot-trace doctor")
	if err != nil {
		return err
	}
	if told := strings.Contains(out, "journal rate limit"); told != want {
		return fmt.Errorf("doctor tells of a rate limit: %v, want %v:\n%s", told, want, out)
	}
	return nil
}

// suppressed sums what journald says to have dropped of the service.
func (t *trial) suppressed(ctx context.Context) (int, error) {
	out, err := t.m.run(ctx, `journalctl --no-pager -o cat -t systemd-journald | sed -n 's/^Suppressed \([0-9]*\) messages from abot-trace.service$/\1/p'`)
	if err != nil {
		return 0, err
	}
	sum := 0
	for number := range strings.FieldsSeq(out) {
		n, err := strconv.Atoi(number)
		if err != nil {
			return 0, err
		}
		sum += n
	}
	return sum, nil
}
