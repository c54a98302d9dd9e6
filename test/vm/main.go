// SPDX-License-Identifier: Apache-2.0

// Command vm runs the packages' own tests, and doctor, in QEMU guests on Debian's
// kernels, and prints a table of kernel by check. It needs no KVM and no network in
// the guest; kernels come from the mirror that this machine's apt already uses.
//
//	go run ./test/vm -kernels 6.1
//	go run ./test/vm -kernels arm64/6.12
//	go run ./test/vm -write docs/kernels.md
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/test/debian"
)

// families are the kernels of the whole matrix.
const families = "5.10,6.1,6.12,newest,arm64/6.1,arm64/6.12"

// packages whose tests run in the guests: those that depend on the kernel. Their tests
// need nothing there but themselves, abot-trace and busybox.
var packages = []string{"internal/probe", "internal/procfs", "internal/enforce", "internal/descend", "test/vm/live"}

func main() {
	kernels := flag.String("kernels", families, "comma-separated kernel `versions`, of another architecture as ARCH/VERSION")
	write := flag.String("write", "", "write the table as markdown to `FILE`")
	only := flag.String("packages", strings.Join(packages, ","), "comma-separated `packages` whose tests run")
	timeout := flag.Duration("timeout", 30*time.Minute, "for each guest")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
	packages = strings.Split(*only, ",")
	if err := run(ctx, strings.Split(*kernels, ","), *write, *timeout); err != nil {
		fmt.Fprintln(os.Stderr, "vm:", err)
		os.Exit(1)
	}
}

// run boots one guest after the other, never two: emulation takes a whole CPU.
func run(ctx context.Context, kernels []string, write string, timeout time.Duration) error {
	cache, err := debian.CacheDir()
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "abot-trace-vm-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	hosts := map[string]*host{}
	var results []*result
	for _, name := range kernels {
		arch, family, found := strings.Cut(name, "/")
		if !found {
			arch, family = runtime.GOARCH, name
		}
		if hosts[arch] == nil {
			if hosts[arch], err = newHost(ctx, cache, work, arch); err != nil {
				return fmt.Errorf("%s: %w", arch, err)
			}
		}
		r, err := hosts[arch].try(ctx, family, timeout)
		if err != nil {
			return fmt.Errorf("kernel %s: %w", name, err)
		}
		progress(r.summary())
		results = append(results, r)
	}
	fmt.Print(table(results))
	if write != "" {
		if err := os.WriteFile(write, []byte(document(results)), 0o644); err != nil {
			return err
		}
	}
	return verdict(results)
}

// A host has what the guests of one architecture boot.
type host struct {
	apt   *debian.Apt
	image string // the initramfs
}

func newHost(ctx context.Context, cache, work, arch string) (*host, error) {
	apt, err := debian.NewApt(ctx, cache, arch, progress)
	if err != nil {
		return nil, err
	}
	progress("building the guest's programs for " + arch)
	dir := filepath.Join(work, arch)
	if err := os.Mkdir(dir, 0o755); err != nil {
		return nil, err
	}
	h := &host{apt, filepath.Join(dir, "initramfs")}
	return h, buildImage(ctx, apt, dir, arch, h.image)
}

func (h *host) try(ctx context.Context, family string, timeout time.Duration) (*result, error) {
	k, err := h.apt.Kernel(ctx, family)
	if err != nil {
		return nil, err
	}
	progress("booting " + k.Release)
	return boot(ctx, k, h.image, timeout)
}

func progress(s string) { fmt.Fprintln(os.Stderr, "vm:", s) }
