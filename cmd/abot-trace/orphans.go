// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/abot-trace/abot-trace/internal/nearest"
	"github.com/abot-trace/abot-trace/internal/render"
	"github.com/abot-trace/abot-trace/internal/wire"
)

func orphansCommand() *cli.Command {
	return &cli.Command{
		Name:  "orphans",
		Usage: "list orphans: who left them, since when, the verdict, what they hold",
		Description: `Lists, and never kills. TREE and MEMORY (resident and swapped) count the orphan with
its living descendants.

Examples:
   abot-trace orphans
   abot-trace orphans --verdict leaked
   abot-trace orphans --json | jq '.[] | {pid, verdict: .orphan.verdict}'`,
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "verdict", Usage: "only orphans with this `VERDICT`: leaked, deliberate or unknown; may be repeated"},
			jsonFlag(), colorFlag(), socketFlag(), noDaemonFlag(),
		},
		Action: showOrphans,
	}
}

var knownVerdicts = []string{wire.VerdictLeaked, wire.VerdictDeliberate, wire.VerdictUnknown}

func showOrphans(c *cli.Context) error {
	if err := noArgs(c); err != nil {
		return err
	}
	verdicts := c.StringSlice("verdict")
	for _, v := range verdicts {
		if !slices.Contains(knownVerdicts, v) {
			return usageError("--verdict %q%s: want leaked, deliberate or unknown", v, nearest.Hint(v, knownVerdicts...))
		}
	}
	ctx, stop := interruptible(c)
	defer stop()
	from, closer, err := openInspector(ctx, c)
	if err != nil {
		return err
	}
	defer closer()
	list, err := from.Orphans(ctx)
	if err != nil {
		return explained(err)
	}
	list = slices.DeleteFunc(list, func(p wire.Process) bool {
		return len(verdicts) > 0 && !slices.Contains(verdicts, p.Orphan.Verdict)
	})
	if c.Bool("json") {
		if list == nil {
			list = []wire.Process{}
		}
		return writeJSON(c.App.Writer, list)
	}
	if _, own := from.(*local); own && len(list) == 0 {
		_, err := fmt.Fprintln(c.App.Writer, "No orphans were seen since tracing began, a moment ago; older ones are not known.")
		return err
	}
	return render.Orphans(c.App.Writer, list, time.Now(), styleOf(c))
}
