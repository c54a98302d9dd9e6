// SPDX-License-Identifier: Apache-2.0

// Command container installs the package in a container with a full systemd and shows
// that it does there what an operator expects: an orphan made a second later is in the
// journal with all its fields, an armed rule ends it, an upgrade under load loses
// nothing, a removal leaves nothing.
//
//	go run ./test/container [-short]
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/test/debian"
)

func main() {
	short := flag.Bool("short", false, "leave out the upgrade under load")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, 20*time.Minute)
	defer cancel()
	if err := run(ctx, *short); err != nil {
		fmt.Fprintln(os.Stderr, "container:", err)
		os.Exit(1)
	}
}

func progress(s string) { fmt.Fprintln(os.Stderr, "container:", s) }

// The versions that are installed and upgraded to.
const (
	firstVersion  = "v0.0.1"
	secondVersion = "v0.0.2"
)

func run(ctx context.Context, short bool) (err error) {
	if os.Geteuid() != 0 {
		return errors.New("needs root")
	}
	cache, err := debian.CacheDir()
	if err != nil {
		return err
	}
	base, err := baseRoot(ctx, cache)
	if err != nil {
		return err
	}
	m, err := newMachine(base)
	if err != nil {
		return err
	}
	defer func() {
		// Also after an interrupt.
		stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		err = errors.Join(err, m.stop(stop))
	}()
	versions := []string{firstVersion, secondVersion}
	if short {
		versions = versions[:1]
	}
	for _, v := range versions {
		if err := buildPackage(ctx, v, m.path("/root/"+v+".deb")); err != nil {
			return err
		}
	}
	progress("booting")
	if err := m.boot(ctx); err != nil {
		return err
	}
	t := &trial{m: m}
	for _, s := range t.steps(short) {
		began := time.Now()
		if err := s.do(ctx); err != nil {
			fmt.Printf("FAIL  %s\n", s.name)
			return fmt.Errorf("%s: %w\n%s", s.name, err, t.serviceLog(ctx))
		}
		fmt.Printf("ok    %-60s %.1fs\n", s.name, time.Since(began).Seconds())
	}
	return nil
}

// buildPackage puts this machine's .deb of a version at path.
func buildPackage(ctx context.Context, version, path string) error {
	progress("building the package " + version)
	dist, err := os.MkdirTemp("", "abot-trace-dist-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dist)
	out, err := exec.CommandContext(ctx, "make", "package", "VERSION="+version, "DIST="+dist, "ARCHES=amd64").CombinedOutput()
	if err != nil {
		return fmt.Errorf("make package: %w\n%s", err, tail(out))
	}
	debs, err := filepath.Glob(filepath.Join(dist, "*.deb"))
	if err != nil || len(debs) != 1 {
		return fmt.Errorf("make package made %d packages, want 1", len(debs))
	}
	deb, err := os.ReadFile(debs[0])
	if err != nil {
		return err
	}
	return os.WriteFile(path, deb, 0o644)
}
