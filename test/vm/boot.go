// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/abot-trace/abot-trace/test/debian"
	"github.com/abot-trace/abot-trace/test/qemu"
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
	cmd := qemu.Machine{Kernel: k, MiB: 1024, Console: console, Port: qemu.File(reports),
		Append: "rdinit=/init", Args: []string{"-initrd", image}}.Command(ctx)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	began := time.Now()
	err = cmd.Run()
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
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
