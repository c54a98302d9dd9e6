// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"strings"
)

// crashed has the Go runtime crash, which ends the process with 2, and wants the service
// back, with a notice and the stacks of all goroutines.
func (t *trial) crashed(ctx context.Context) error {
	before, err := t.property(ctx, "MainPID")
	if err != nil {
		return err
	}
	if _, err := t.m.run(ctx, "systemctl kill --kill-whom=main --signal=ABRT abot-trace"); err != nil {
		return err
	}
	err = t.m.await(ctx, "the service is back", func() error {
		out, err := t.m.run(ctx, "for p in MainPID NRestarts ActiveState; do systemctl show -p $p --value abot-trace; done")
		if f := strings.Fields(out); err != nil || len(f) != 3 || f[0] == before || f[1] == "0" || f[2] != "active" {
			return fmt.Errorf("%w: %q (%v)", errNotYet, out, err)
		}
		return nil
	})
	if err != nil {
		return err
	}
	err = t.m.await(ctx, "the notice of the crash", func() error {
		records, err := t.records(ctx, "alert", "")
		if err != nil {
			return err
		}
		for _, r := range records {
			if message := fmt.Sprint(r["MESSAGE"]); strings.Contains(message, "SIGABRT") {
				return nil
			}
		}
		return errNotYet
	})
	if err != nil {
		return err
	}
	_, err = t.m.run(ctx, "grep -l '^goroutine ' /var/lib/abot-trace/crash-* && journalctl --no-pager -u abot-trace | grep -q 'goroutine 1 '")
	return err
}

// refused starts the service with a configuration that cannot be meant: it does not heal
// by repetition.
func (t *trial) refused(ctx context.Context) error {
	if err := t.m.write(ctx, "/etc/abot-trace/conf.d/wrong.yaml", "rulse: []\n"); err != nil {
		return err
	}
	out, err := t.m.run(ctx, `systemctl reset-failed abot-trace
systemctl restart abot-trace || :
for p in ExecMainStatus NRestarts ActiveState; do systemctl show -p $p --value abot-trace; done`)
	if err != nil {
		return err
	}
	if got := strings.Join(strings.Fields(out), " "); got != "78 0 failed" {
		return fmt.Errorf("exit code, restarts and state: got %q, want 78, 0, failed", got)
	}
	_, err = t.m.run(ctx, "rm /etc/abot-trace/conf.d/wrong.yaml && systemctl reset-failed abot-trace && systemctl start abot-trace && systemctl is-active abot-trace")
	return err
}
