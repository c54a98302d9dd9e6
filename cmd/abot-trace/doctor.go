// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/abot-trace/abot-trace/internal/config"
	"github.com/abot-trace/abot-trace/internal/doctor"
	"github.com/abot-trace/abot-trace/internal/safetext"
	"github.com/abot-trace/abot-trace/internal/wire"
)

func doctorCommand() *cli.Command {
	return &cli.Command{
		Name:  "doctor",
		Usage: "say what this kernel, these capabilities and this service can do",
		Description: "Loads each program by itself and forgets it again, looks at the daemon, its unit,\n" +
			"the journal and the configuration, and says what to do about what is not well.\n" +
			"Exits 1 if this host cannot be traced.\n\n" +
			"Examples:\n\n" +
			"   sudo abot-trace doctor\n" +
			"   sudo abot-trace doctor --json | jq '.checks[] | select(.status != \"ok\")'",
		Flags: []cli.Flag{
			socketFlag(),
			&cli.StringFlag{Name: "config", Value: config.DefaultPath, Usage: "configuration `FILE`"},
			jsonFlag(),
		},
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return err
			}
			report := doctor.Examine(c.Context, doctor.Settings{
				Socket: c.String("socket"), Config: c.String("config"), Unit: "abot-trace",
			})
			if err := printReport(c, report); err != nil {
				return err
			}
			if !report.CanTrace() {
				return &exitError{exitFailed, errors.New("this host cannot be traced from here")}
			}
			return nil
		},
	}
}

func printReport(c *cli.Context, report *doctor.Report) error {
	if c.Bool("json") {
		return json.NewEncoder(c.App.Writer).Encode(wire.Doctor{Checks: report.Checks})
	}
	return printChecks(c.App.Writer, report.Checks)
}

// printChecks writes a line for each check, and what to do below those not well.
func printChecks(w io.Writer, checks []wire.DoctorCheck) error {
	width := 0
	for _, check := range checks {
		width = max(width, len(check.Name))
	}
	for _, check := range checks {
		lines := strings.Split(strings.TrimRight(check.Detail, "\n"), "\n")
		if check.Hint != "" {
			lines = append(lines, "hint: "+check.Hint)
		}
		status, name := check.Status, check.Name
		for _, line := range lines {
			if _, err := fmt.Fprintf(w, "%-8s  %-*s  %s\n", status, width, name, safetext.Terminal(line)); err != nil {
				return err
			}
			status, name = "", ""
		}
	}
	return nil
}
