// SPDX-License-Identifier: Apache-2.0

// Command service installs the package on a Debian with a full systemd and shows that
// it does there what an operator expects: an orphan made a second later is in the
// journal with all its fields, an armed rule ends it, an upgrade under load loses
// nothing, a removal leaves nothing. The machine is a container under the kernel that
// runs here ("host"), or a virtual machine with a kernel of Debian's.
//
//	go run ./test/service -short
//	go run ./test/service -machines host,6.1 -write docs/kernels.md
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
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/test/debian"
)

func main() {
	machines := flag.String("machines", "host", "comma-separated kernel `versions`, or host")
	short := flag.Bool("short", false, "only what takes little time")
	write := flag.String("write", "", "write the table into the markdown `FILE`, at its end")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	if err := run(ctx, strings.Split(*machines, ","), *short, *write); err != nil {
		fmt.Fprintln(os.Stderr, "service:", err)
		os.Exit(1)
	}
}

func progress(s string) { fmt.Fprintln(os.Stderr, "service:", s) }

// The versions that are installed and upgraded to.
const (
	firstVersion  = "v0.0.1"
	secondVersion = "v0.0.2"
)

// limit bounds what one machine may take in all.
const limit = 30 * time.Minute

func run(ctx context.Context, machines []string, short bool, write string) error {
	if os.Geteuid() != 0 {
		return errors.New("needs root")
	}
	cache, err := debian.CacheDir()
	if err != nil {
		return err
	}
	base, err := debian.Root(ctx, cache, progress)
	if err != nil {
		return err
	}
	packages, err := os.MkdirTemp("", "abot-trace-packages-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(packages)
	versions := []string{firstVersion, secondVersion}
	if short {
		versions = versions[:1]
	}
	for _, v := range versions {
		if err := buildPackage(ctx, v, filepath.Join(packages, v+".deb")); err != nil {
			return err
		}
	}
	var results []result
	var errs []error
	for _, name := range machines {
		r, err := try(ctx, cache, base, packages, name, short)
		if err != nil {
			err = fmt.Errorf("%s: %w", name, err)
		}
		results, errs = append(results, r), append(errs, err)
	}
	if write != "" && ctx.Err() == nil {
		errs = append(errs, writeTable(write, results))
	}
	return errors.Join(errs...)
}

// try does all steps on one machine, up to the first that fails.
func try(ctx context.Context, cache, base, packages, name string, short bool) (r result, err error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	root, err := debian.NewLayer(base)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, root.Remove()) }()
	if err := os.CopyFS(root.Path("/root/packages"), os.DirFS(packages)); err != nil {
		return r, err
	}
	t := &trial{}
	if name == "host" {
		t.m = &machine{&container{debian.Container{Layer: root}}}
	} else {
		apt, err := debian.NewApt(ctx, cache, runtime.GOARCH, progress)
		if err != nil {
			return r, err
		}
		kernel, err := apt.Kernel(ctx, name)
		if err != nil {
			return r, err
		}
		t.m, t.emulated = &machine{&vm{Layer: root, kernel: kernel}}, true
	}
	// Also after an interrupt.
	defer t.m.stop(context.WithoutCancel(ctx))
	progress("booting " + name)
	if err := t.m.boot(ctx); err != nil {
		return r, err
	}
	return t.run(ctx, short)
}

// buildPackage puts this machine's .deb of a version at path.
func buildPackage(ctx context.Context, version, path string) error {
	progress("building the package " + version)
	dist, err := os.MkdirTemp("", "abot-trace-dist-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dist)
	out, err := exec.CommandContext(ctx, "make", "package", "VERSION="+version, "DIST="+dist, "ARCHES="+runtime.GOARCH).CombinedOutput()
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
