// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"embed"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

//go:embed testdata/storm.c testdata/nothing.S
var stormSources embed.FS

// A storm is a workload of one kind: jobs processes, each pinned to a processor of its
// own, count rounds each.
type storm struct {
	kind   string // see testdata/storm.c
	jobs   int
	count  int
	events int // records that one round makes in a tracer of processes
}

// buildStorm compiles the workload, and what it executes, into dir.
func buildStorm(dir string) (string, error) {
	if err := os.CopyFS(dir, stormSources); err != nil {
		return "", err
	}
	for _, cc := range [][]string{
		{"-O2", "-static", "-pthread", "-o", "storm", "testdata/storm.c"},
		{"-nostdlib", "-static", "-o", "nothing", "testdata/nothing.S"},
	} {
		cmd := exec.Command("cc", cc...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("compile the workload: %w: %s", err, out)
		}
	}
	return filepath.Join(dir, "storm"), nil
}

// run returns how long the slowest of the jobs took.
func (b *bench) run(s storm) (time.Duration, error) {
	times := make([]time.Duration, s.jobs)
	errs := make([]error, s.jobs)
	var all sync.WaitGroup
	for i := range s.jobs {
		all.Go(func() { times[i], errs[i] = b.runJob(s, i) })
	}
	all.Wait()
	longest := time.Duration(0)
	for i, err := range errs {
		if err != nil {
			return 0, err
		}
		longest = max(longest, times[i])
	}
	return longest, nil
}

func (b *bench) runJob(s storm, cpu int) (time.Duration, error) {
	cmd := exec.Command("taskset", "-c", strconv.Itoa(cpu), b.storm, s.kind, strconv.Itoa(s.count))
	cmd.Dir, cmd.Stderr = b.dir, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return 0, fmt.Errorf("storm %s: %w", s.kind, err)
	}
	ns, err := strconv.ParseInt(strings.TrimSpace(string(out)), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("storm %s: %w", s.kind, err)
	}
	return time.Duration(ns), nil
}

// idle starts n processes that do nothing; the function that it returns ends them.
func (b *bench) idle(n int) (stop func(), err error) {
	cmd := exec.Command(b.storm, "idle", strconv.Itoa(n))
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ready := make([]byte, 6)
	if _, err := io.ReadFull(stdout, ready); err != nil || !bytes.Equal(ready, []byte("ready\n")) {
		_ = stdin.Close()
		_ = cmd.Wait()
		return nil, fmt.Errorf("%d idle processes: cannot be made", n)
	}
	return func() {
		_ = stdin.Close()
		_ = cmd.Wait()
	}, nil
}
