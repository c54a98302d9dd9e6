// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/abot-trace/abot-trace/internal/config"
)

func checkCommand() *cli.Command {
	return &cli.Command{
		Name:      "check",
		Usage:     "validate a configuration",
		ArgsUsage: "FILE",
		Description: "Reads FILE and conf.d/*.yaml beside it as the daemon would, and lists every fault\n" +
			"with file, line and column. Exits 2 if there is one. Who may write the files does\n" +
			"not matter here; the daemon refuses what others than root can write.\n\n" +
			"Examples:\n\n" +
			"   abot-trace check /etc/abot-trace/config.yaml\n" +
			"   abot-trace check --json deploy/config.yaml",
		Flags: []cli.Flag{jsonFlag()},
		Action: func(c *cli.Context) error {
			if c.NArg() != 1 {
				return usageError("check wants one file, got %d", c.NArg())
			}
			cfg, err := config.Load(c.Args().First(), config.Options{})
			if c.Bool("json") {
				return checkJSON(c.App.Writer, cfg, err)
			}
			if err != nil {
				return invalidConfig(err)
			}
			return printChecked(c.App.Writer, cfg)
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
	armed := 0
	for _, r := range rules {
		if r.Mode == "enforce" {
			armed++
		}
	}
	for _, name := range cfg.Files {
		if _, err := fmt.Fprintf(w, "%s: ok\n", name); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "%d rules, %d of them armed\n", len(rules), armed)
	return err
}

// checkFault is one fault of a configuration in JSON.
type checkFault struct {
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`
	Column  int    `json:"column,omitempty"`
	Message string `json:"message"`
}

func checkJSON(w io.Writer, cfg *config.Config, err error) error {
	document := struct {
		Valid  bool         `json:"valid"`
		Files  []string     `json:"files"`
		Errors []checkFault `json:"errors"`
	}{Valid: err == nil, Files: []string{}, Errors: []checkFault{}}
	if cfg != nil {
		document.Files = cfg.Files
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
