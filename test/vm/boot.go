// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/abot-trace/abot-trace/test/debian"
)

// boot runs one guest to its end and returns what it reported. The guest is killed
// after timeout.
func boot(ctx context.Context, k *debian.Kernel, image string, timeout time.Duration) (*result, error) {
	dir, err := os.MkdirTemp(filepath.Dir(image), "guest-*")
	if err != nil {
		return nil, err
	}
	console, reports := filepath.Join(dir, "console"), filepath.Join(dir, "report")
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, "qemu-system-x86_64",
		// One host thread for both CPUs: with more, emulated kernels oops now and then.
		"-accel", "tcg,thread=single", "-cpu", "max", "-smp", "2", "-m", "1024",
		"-kernel", k.Image, "-initrd", image,
		"-append", "console=ttyS0 quiet loglevel=4 panic=-1 rdinit=/init",
		"-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-serial", "file:"+console, "-serial", "file:"+reports)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	began := time.Now()
	err = cmd.Run()
	if ctx.Err() != nil {
		err = fmt.Errorf("not finished after %v", timeout)
	}
	if err != nil {
		return nil, fmt.Errorf("%w\n%s\nthe report's end:\n%s\nthe console's end:\n%s", err, stderr.Bytes(), tail(reports), tail(console))
	}
	f, err := os.Open(reports)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := parseReport(f)
	if err != nil {
		return nil, fmt.Errorf("%w; the console's end:\n%s", err, tail(console))
	}
	r.kernel, r.took = k, time.Since(began)
	return r, nil
}

func tail(path string) []byte {
	b, err := os.ReadFile(path)
	if err != nil {
		return []byte(err.Error())
	}
	return b[max(0, len(b)-4000):]
}
