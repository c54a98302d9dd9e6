// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
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

// condition knows "root", for what needs its powers, and "shell:NAME", for a shell that
// not every machine has. Where CI runs, the proof is owed.
func condition(name string) (bool, error) {
	holds := false
	if shell, ok := strings.CutPrefix(name, "shell:"); ok {
		_, err := exec.LookPath(shell)
		holds = err == nil
	} else if name == "root" {
		holds = os.Geteuid() == 0
	} else {
		return false, fmt.Errorf("unknown condition %q", name)
	}
	if !holds && os.Getenv("CI") != "" {
		return false, fmt.Errorf("needs %s", name)
	}
	return holds, nil
}
