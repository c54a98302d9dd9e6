// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/abot-trace/abot-trace/test/debian"
)

// applets are the shell tools that the packages' tests start.
var applets = []string{"sh", "sleep", "cat", "false", "setsid", "nohup", "kill", "ps", "mkdir", "rm", "ln", "test", "echo"}

// buildImage writes the guest's initramfs: its init, a static test binary for each
// package, abot-trace itself, and busybox.
func buildImage(ctx context.Context, apt *debian.Apt, work, arch, image string) (err error) {
	programs, err := buildPrograms(ctx, work, arch)
	if err != nil {
		return err
	}
	busybox, err := apt.Busybox(ctx)
	if err != nil {
		return err
	}
	f, err := os.Create(image)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	c := newCPIO(f)
	for _, dir := range []string{"proc", "sys", "dev", "tmp", "run", "root", "etc", "var/tmp"} {
		c.dir(dir)
	}
	c.char("dev/console", 5, 1)
	c.char("dev/null", 1, 3)
	c.text("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n", 0o644)
	c.text("etc/group", "root:x:0:\nnogroup:x:65534:\n", 0o644)
	c.file("bin/busybox", busybox, 0o755)
	for _, name := range applets {
		c.link("bin/"+name, "busybox")
	}
	c.file("bin/true", programs["init"], 0o755)
	c.link("usr/bin", "../bin")
	for name, path := range programs {
		c.file(name, path, 0o755)
	}
	for _, p := range packages {
		c.dir("src/" + p)
		c.tree("src/"+p+"/testdata", filepath.Join(p, "testdata"))
	}
	return c.close()
}

// buildPrograms builds what the guest runs, by its path there.
func buildPrograms(ctx context.Context, work, arch string) (map[string]string, error) {
	programs := map[string]string{}
	build := func(guest string, args ...string) error {
		path := filepath.Join(work, strings.ReplaceAll(guest, "/", "-"))
		cmd := exec.CommandContext(ctx, "go", append([]string{args[0], "-o", path}, args[1:]...)...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOARCH="+arch)
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, out)
		}
		programs[guest] = path
		return nil
	}
	if err := build("init", "build", "-ldflags=-s -w", "./test/vm/guest"); err != nil {
		return nil, err
	}
	if err := build("bin/abot-trace", "build", "-ldflags=-s -w", "./cmd/abot-trace"); err != nil {
		return nil, err
	}
	for _, p := range packages {
		if err := build("tests/"+strings.ReplaceAll(p, "/", "@")+".test", "test", "-c", "-tags=vm", "-ldflags=-s -w", "./"+p); err != nil {
			return nil, err
		}
	}
	return programs, nil
}
