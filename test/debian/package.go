// SPDX-License-Identifier: Apache-2.0

package debian

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
)

// Package makes the tracer and its package for this machine from the tree, which is the
// working directory, into dir.
func Package(ctx context.Context, dir string) (program, deb string, err error) {
	out, err := exec.CommandContext(ctx, "make", "build", "package", "VERSION=v0.0.1", "DIST="+dir, "ARCHES="+runtime.GOARCH).CombinedOutput()
	if err != nil {
		return "", "", fmt.Errorf("make package: %w\n%s", err, out[max(0, len(out)-4000):])
	}
	debs, err := filepath.Glob(filepath.Join(dir, "*.deb"))
	if err != nil || len(debs) != 1 {
		return "", "", fmt.Errorf("make package made %d packages, want 1", len(debs))
	}
	built, err := os.ReadFile("abot-trace")
	if err != nil {
		return "", "", err
	}
	program = filepath.Join(dir, "abot-trace")
	return program, debs[0], os.WriteFile(program, built, 0o755)
}
