// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/abot-trace/abot-trace/test/debian"
)

// inside is what the container finds in /test/inside.
//
//go:embed inside
var inside embed.FS

// A world is a running container with the daemon at work in it.
type world struct {
	place place
	c     *debian.Container
	watch *watch
	dir   string // /test of the container, as this machine names it
	stop  context.CancelFunc
}

// armed ends every tree that is called leaked, two seconds after its orphaning. The daemon
// lives in the container's pid namespace: nothing outside has a pid for it to signal.
const armed = `budget: {warm_up: 0s, pause: 0s, kills_per_minute: 100000, respawn: 0s}
rules:
  - {name: ` + armedRule + `, mode: enforce, match: {verdict: [leaked]}, orphaned_for: 2s, grace: 1s}
`

// bootPlain runs below tini, as the programs of a container do that is started with an
// init: the daemon, and a listener that starts the cases.
const bootPlain = `mkdir -p /run/abot-trace /run/sshd /run/lock
abot-trace daemon --config /etc/abot-trace/config.yaml >/test/daemon.log 2>&1 </dev/null &
exec socat UNIX-LISTEN:/run/start,fork EXEC:"/bin/bash /test/inside/start"
`

// socket is the daemon's, in every place. The commands of this test name it: without a daemon
// they would else trace by themselves, and the test would look at them.
const socket = "/run/abot-trace/abot-trace.sock"

// openWorld boots a place. program is the tracer's, deb its package. The world ends by
// close.
func openWorld(ctx context.Context, p place, base, program, deb string) (*world, error) {
	root, err := debian.NewLayer(base)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	w := &world{place: p, dir: filepath.Join(root.Dir, "test"), stop: cancel}
	w.c = &debian.Container{Layer: root, Options: []string{"--bind=" + w.dir + ":/test",
		"--system-call-filter=@keyring"}} // container runtimes make keyrings
	if err := w.open(ctx, program, deb); err != nil {
		return nil, errors.Join(err, w.close())
	}
	return w, nil
}

func (w *world) open(ctx context.Context, program, deb string) error {
	if err := w.furnish(program, deb); err != nil {
		return err
	}
	if group := memoryGroup(); group != "" {
		w.c.Options = append(w.c.Options, "--bind="+group+":/run/memory")
	}
	if w.place == plain {
		w.c.Init = []string{"/usr/bin/tini", "--", "/bin/sh", "-c", bootPlain}
	}
	if err := w.c.Start(ctx); err != nil {
		return err
	}
	if err := w.awaitDaemon(ctx); err != nil {
		return err
	}
	var err error
	if w.watch, err = follow(ctx, w.c); err != nil {
		return err
	}
	// A process of our own is in the stream: nothing of the cases will be missed.
	return w.await(ctx, "the first event", func() error {
		if _, err := w.enter(ctx, "/bin/true"); err != nil {
			return err
		}
		select {
		case <-w.watch.fed:
			return w.watch.trouble()
		default:
			return errors.New("none")
		}
	})
}

// memoryGroup is where this machine has its memory controller, for the cases of the OOM
// killer: empty where that is in the one hierarchy that the container sees anyway.
func memoryGroup() string {
	const v1 = "/sys/fs/cgroup/memory"
	if _, err := os.Stat(v1 + "/memory.limit_in_bytes"); err != nil {
		return ""
	}
	return v1
}

// furnish puts into the layer what the world needs.
func (w *world) furnish(program, deb string) error {
	files, err := fs.Sub(inside, "inside")
	if err != nil {
		return err
	}
	if err := os.CopyFS(filepath.Join(w.dir, "inside"), files); err != nil {
		return err
	}
	names, err := filepath.Glob(filepath.Join(w.dir, "inside", "*"))
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := os.Chmod(name, 0o755); err != nil {
			return err
		}
	}
	if err := os.Chmod(w.dir, 0o755); err != nil {
		return err
	}
	// No package of the small form brings it.
	if err := w.c.Write("/etc/hosts", "127.0.0.1 localhost\n"); err != nil {
		return err
	}
	if w.place == systemd {
		if err := w.c.Write("/etc/abot-trace/conf.d/test.yaml", armed); err != nil {
			return err
		}
		return copyFile(deb, w.c.Path("/root/abot-trace.deb"), 0o644)
	}
	if err := w.c.Write("/etc/abot-trace/config.yaml", armed); err != nil {
		return err
	}
	return copyFile(program, w.c.Path("/usr/bin/abot-trace"), 0o755)
}

// awaitDaemon returns when the daemon has looked at every process.
func (w *world) awaitDaemon(ctx context.Context) error {
	if w.place == systemd {
		err := w.await(ctx, "systemd", func() error {
			out, err := w.enter(ctx, "systemctl", "is-system-running", "--wait")
			if state := strings.TrimSpace(out); state != "running" && state != "degraded" {
				return fmt.Errorf("%q: %w", state, err)
			}
			return nil
		})
		if err != nil {
			return err
		}
		if _, err := w.enter(ctx, "systemd-run", "--quiet", "--wait", "--pipe", "--collect",
			"/usr/bin/env", "DEBIAN_FRONTEND=noninteractive", "dpkg", "-i", "/root/abot-trace.deb"); err != nil {
			return err
		}
	}
	return w.await(ctx, "the daemon", func() error {
		_, err := w.enter(ctx, "abot-trace", "tree", "--json", "--socket", socket)
		return err
	})
}

// await tries until it works.
func (w *world) await(ctx context.Context, what string, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-w.c.Done():
			return fmt.Errorf("%s: the container has ended (%w)", what, err)
		case <-ctx.Done():
			return fmt.Errorf("%s: %w\n%s", what, err, w.daemonLog(context.WithoutCancel(ctx)))
		}
	}
}

// enter runs a command in the container, below none of its processes.
func (w *world) enter(ctx context.Context, argv ...string) (string, error) {
	out, stderr, err := w.c.Enter(ctx, "", argv...)
	if err != nil {
		return string(out), fmt.Errorf("%s: %w\n%s", strings.Join(argv, " "), err, stderr)
	}
	return string(out), nil
}

// command starts a script of the container's as somebody there would: below pid 1, as a
// unit where there is systemd.
func (w *world) command(ctx context.Context, unit, script string) *exec.Cmd {
	if w.place == systemd {
		return w.c.Command(ctx, "systemd-run", "--quiet", "--wait", "--pipe", "--collect", "--unit="+unit, "/bin/bash", script)
	}
	cmd := w.c.Command(ctx, "socat", "-t3600", "-", "UNIX-CONNECT:/run/start")
	return cmd
}

func (w *world) daemonLog(ctx context.Context) string {
	if w.place == systemd {
		out, _ := w.enter(ctx, "journalctl", "--no-pager", "-n", "30", "-u", "abot-trace")
		return out
	}
	log, _ := os.ReadFile(filepath.Join(w.dir, "daemon.log"))
	return string(log[max(0, len(log)-4000):])
}

// proc is a file of the container's procfs.
func (w *world) proc(id identity, name string) string {
	return filepath.Join(w.c.Root(), "proc", fmt.Sprint(id.pid), name)
}

// alive reports whether a process of the container lives.
func (w *world) alive(id identity) bool {
	stat, err := os.ReadFile(w.proc(id, "stat"))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat[strings.LastIndexByte(string(stat), ')'):]), " ")
	f := strings.Fields(rest)
	return len(f) > 19 && f[0] != "Z" && f[19] == fmt.Sprint(id.start)
}

// close ends the container and forgets it.
func (w *world) close() error {
	w.c.Stop(context.Background())
	w.stop()
	return w.c.Remove()
}

func copyFile(from, to string, mode fs.FileMode) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
