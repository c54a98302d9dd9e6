// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/user"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/abot-trace/abot-trace/internal/config"
	"github.com/abot-trace/abot-trace/internal/daemon"
	"github.com/abot-trace/abot-trace/internal/quantity"
	"github.com/abot-trace/abot-trace/internal/wire"
)

func checkCommand() *cli.Command {
	return &cli.Command{
		Name:      "check",
		Usage:     "validate a configuration",
		ArgsUsage: "FILE",
		Description: "Reads FILE and conf.d/*.yaml beside it as the daemon would, and lists every fault\n" +
			"with file, line and column. Exits 2 if there is one. Run by root it also refuses\n" +
			"files that others than root can write, as the daemon does, and a group that does\n" +
			"not exist. A secret that cannot be read is a warning: only its webhook suffers. So are\n" +
			"matches that never hold, and armed rules that match on verdicts alone.\n" +
			"Root is told what each rule would end now, where a daemon answers; cleanup --config\n" +
			"FILE shows it process by process.\n\n" +
			"Examples:\n\n" +
			"   abot-trace check /etc/abot-trace/config.yaml\n" +
			"   abot-trace check --json deploy/config.yaml",
		Flags: []cli.Flag{jsonFlag(), socketFlag()},
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return usageError("check wants one file, got %d", c.NArg())
			}
			load := func(path string) (*config.Config, error) { return config.Load(path, config.Options{}) }
			if os.Geteuid() == 0 { // as strictly as the daemon: what is accepted, that takes
				load = daemon.LoadConfig
			}
			cfg, err := load(c.Args().First())
			reach, unknown := rulesReach(c, cfg, err)
			if c.Bool("json") {
				return checkJSON(c.App.Writer, cfg, reach, err)
			}
			if err != nil {
				return invalidConfig(err)
			}
			if err := printChecked(c.App.Writer, cfg); err != nil {
				return err
			}
			return printReach(c.App.Writer, reach, unknown)
		},
	}
}

// invalidConfig is exit 2, with each fault on lines of its own.
func invalidConfig(err error) error {
	return &exitError{exitUsage, fmt.Errorf("invalid configuration\n%w", err)}
}

// printChecked says what a valid configuration amounts to.
func printChecked(w io.Writer, cfg *config.Config) error {
	rules, _ := cfg.Policy()
	var armed, observing []string
	for _, r := range rules {
		if r.Mode == wire.ModeEnforce {
			armed = append(armed, r.Name)
		} else {
			observing = append(observing, r.Name)
		}
	}
	for _, name := range cfg.Files {
		if _, err := fmt.Fprintf(w, "%s: ok\n", name); err != nil {
			return err
		}
	}
	if _, err := fmt.Fprintf(w, "%s, %d of them armed\n", quantity.Count(len(rules), "rule"), len(armed)); err != nil {
		return err
	}
	for _, group := range []struct {
		word  string
		names []string
	}{{"armed", armed}, {"observing", observing}} {
		if len(group.names) == 0 {
			continue
		}
		if _, err := fmt.Fprintf(w, "%s: %s\n", group.word, strings.Join(group.names, ", ")); err != nil {
			return err
		}
	}
	for _, problem := range append(cfg.Problems(), cfg.Warnings(knowsUser)...) {
		if _, err := fmt.Fprintf(w, "warning: %s\n", problem); err != nil {
			return err
		}
	}
	if targets := cfg.NotToldOfOrphans(); len(targets) > 0 {
		_, err := fmt.Fprintf(w, "%s: told of %s; no more of every orphan, OOM kill, verdict and resync: name these in events to have them\n",
			strings.Join(targets, ", "), strings.Join(config.DefaultNotifyEvents, ", "))
		if err != nil {
			return err
		}
	}
	return printCommands(w, cfg)
}

// printCommands says who would run the commands of a configuration, which depends on how
// the daemon is started.
func printCommands(w io.Writer, cfg *config.Config) error {
	if len(cfg.Notify.Exec) == 0 {
		return nil
	}
	_, err := fmt.Fprintf(w, "%d commands of notify.exec: run by the service's helper as its user; without systemd as nobody "+
		"or the user that they name, and refused where the daemon lacks CAP_SETUID or CAP_SETGID\n", len(cfg.Notify.Exec))
	return err
}

// knowsUser reports whether there is a user of that name.
func knowsUser(name string) bool {
	_, err := user.Lookup(name)
	var unknown user.UnknownUserError
	return !errors.As(err, &unknown) // who cannot be asked may know
}

// checkFault is one fault of a configuration in JSON.
type checkFault struct {
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`
	Column  int    `json:"column,omitempty"`
	Message string `json:"message"`
}

func checkJSON(w io.Writer, cfg *config.Config, reach []ruleReach, err error) error {
	document := struct {
		Valid    bool         `json:"valid"`
		Files    []string     `json:"files"`
		Errors   []checkFault `json:"errors"`
		Warnings []string     `json:"warnings,omitempty"`
		Reach    []ruleReach  `json:"reach,omitempty"`
	}{Valid: err == nil, Reach: reach, Files: []string{}, Errors: []checkFault{}}
	if cfg != nil {
		document.Files = cfg.Files
		document.Warnings = append(cfg.Problems(), cfg.Warnings(knowsUser)...)
	}
	var faults config.Errors
	if errors.As(err, &faults) {
		for _, f := range faults {
			document.Errors = append(document.Errors, checkFault{f.File(), f.Line, f.Column, f.Message})
		}
	} else if err != nil {
		document.Errors = append(document.Errors, checkFault{Message: err.Error()})
	}
	if err := json.NewEncoder(w).Encode(document); err != nil {
		return err
	}
	if !document.Valid {
		return &exitError{code: exitUsage}
	}
	return nil
}
