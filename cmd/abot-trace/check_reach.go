// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/abot-trace/abot-trace/internal/api"
	"github.com/abot-trace/abot-trace/internal/config"
	"github.com/abot-trace/abot-trace/internal/policy"
	"github.com/abot-trace/abot-trace/internal/quantity"
	"github.com/abot-trace/abot-trace/internal/render"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// ruleReach is what a rule would end now, whether it is armed or observes.
type ruleReach struct {
	Rule      string `json:"rule"`
	Mode      string `json:"mode"`
	Processes int    `json:"processes"`
	RSSBytes  uint64 `json:"rss_bytes"`
	SwapBytes uint64 `json:"swap_bytes"`
}

// reachPatience is how long check waits for the daemon to try the rules.
const reachPatience = 10 * time.Second

// rulesReach has the daemon try the rules of a configuration that was loaded without
// fault. Nothing is ended, and nobody is told. Other rules than the daemon's own are
// root's to try. Without a daemon nothing is known; unknown says what else is the reason.
func rulesReach(c *cli.Context, cfg *config.Config, fault error) (reach []ruleReach, unknown error) {
	if fault != nil || os.Geteuid() != 0 {
		return nil, nil
	}
	file, err := filepath.Abs(c.Args().First())
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(c.Context, reachPatience)
	defer cancel()
	kills, err := api.NewClient(c.String("socket")).Cleanup(ctx, api.CleanupRequest{Config: file})
	if errors.Is(err, api.ErrNoDaemon) && !c.IsSet("socket") {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	rules, _ := cfg.Policy()
	for _, rule := range rules {
		if cmp.Or(rule.Action, policy.ActionKill) == policy.ActionKill {
			reach = append(reach, reachOf(rule.Name, cmp.Or(rule.Mode, wire.ModeObserve), kills))
		}
	}
	return reach, nil
}

func reachOf(rule, mode string, kills []wire.Kill) ruleReach {
	r := ruleReach{Rule: rule, Mode: mode}
	for i := range kills {
		if kills[i].Rule != rule {
			continue
		}
		r.Processes += len(kills[i].Processes)
		for j := range kills[i].Processes {
			p := &kills[i].Processes[j]
			r.RSSBytes += sumOf(p.RSSBytes)
			r.SwapBytes += sumOf(p.SwapBytes)
		}
	}
	return r
}

// printReach says what each rule would end now.
func printReach(w io.Writer, reach []ruleReach, unknown error) error {
	if unknown != nil {
		_, err := fmt.Fprintf(w, "warning: what the rules would end now is not known: %v\n", unknown)
		return err
	}
	var parts []string
	for _, r := range reach {
		if r.Processes == 0 {
			parts = append(parts, r.Rule+" nothing")
			continue
		}
		parts = append(parts, fmt.Sprintf("%s %s, %s", r.Rule, quantity.Count(r.Processes, "process"), render.Bytes(r.RSSBytes+r.SwapBytes)))
	}
	if len(parts) == 0 {
		return nil
	}
	_, err := fmt.Fprintf(w, "would end now: %s\n", strings.Join(parts, "; "))
	return err
}
