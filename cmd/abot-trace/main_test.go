// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

var update = flag.Bool("update", false, "rewrite the expectations in testdata")

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"abot-trace": func() {
			os.Exit(run(context.Background(), os.Args, os.Stdout, os.Stderr))
		},
	})
}

// TestScripts runs the commands as a user would: one script per behaviour.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       *update,
		Condition:           condition,
	})
}

// condition knows "root", for what needs its powers. Where CI runs, the proof is owed.
func condition(name string) (bool, error) {
	if name != "root" {
		return false, fmt.Errorf("unknown condition %q", name)
	}
	if os.Geteuid() != 0 && os.Getenv("CI") != "" {
		return false, errors.New("needs root")
	}
	return os.Geteuid() == 0, nil
}
