// SPDX-License-Identifier: Apache-2.0

// Command vm runs the packages' own tests, and doctor, in QEMU guests on Debian's
// kernels, and prints a table of kernel by check. It needs no KVM and no network in
// the guest; kernels come from the mirror that this machine's apt already uses.
//
//	go run ./test/vm -kernels 6.1
//	go run ./test/vm -write docs/kernels.md
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/test/debian"
)

// families are the kernels of the whole matrix.
const families = "5.10,6.1,6.12,newest"

// packages whose tests run in the guests: those that depend on the kernel. Their tests
// need nothing there but themselves and busybox.
var packages = []string{"internal/probe", "internal/procfs", "internal/enforce", "internal/descend"}

func main() {
	kernels := flag.String("kernels", families, "comma-separated kernel `versions`")
	write := flag.String("write", "", "write the table as markdown to `FILE`")
	timeout := flag.Duration("timeout", 15*time.Minute, "for each guest")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM)
	defer stop()
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
	apt, err := debian.NewApt(ctx, cache, progress)
	if err != nil {
		return err
	}
	work, err := os.MkdirTemp("", "abot-trace-vm-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	progress("building the guest's programs")
	image := filepath.Join(work, "initramfs")
	if err := buildImage(ctx, apt, work, image); err != nil {
		return err
	}
	var results []*result
	for _, family := range kernels {
		k, err := apt.Kernel(ctx, family)
		if err != nil {
			return fmt.Errorf("kernel %s: %w", family, err)
		}
		progress("booting " + k.Release)
		r, err := boot(ctx, k, image, timeout)
		if err != nil {
			return fmt.Errorf("kernel %s: %w", k.Release, err)
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

func progress(s string) { fmt.Fprintln(os.Stderr, "vm:", s) }
