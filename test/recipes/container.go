// SPDX-License-Identifier: Apache-2.0

package recipes

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/test/debian"
)

// An Installation is a Debian with the program in it, which containers are laid over.
type Installation struct{ layer *debian.Layer }

// Install builds the program from the tree at source and installs it, with what recipes
// ask for: jq and curl from this machine, and a sudo that is none, because all is root there.
func Install(ctx context.Context, source string, progress func(string)) (*Installation, error) {
	cache, err := debian.CacheDir()
	if err != nil {
		return nil, err
	}
	base, err := debian.Root(ctx, cache, progress)
	if err != nil {
		return nil, err
	}
	layer, err := debian.NewLayer(base)
	if err != nil {
		return nil, err
	}
	in := &Installation{layer}
	if err := in.fill(ctx, source); err != nil {
		return nil, errors.Join(err, layer.Remove())
	}
	return in, nil
}

// Remove forgets the installation.
func (in *Installation) Remove() error { return in.layer.Remove() }

func (in *Installation) fill(ctx context.Context, source string) error {
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", in.layer.Path("/usr/bin/abot-trace"), "./cmd/abot-trace")
	build.Dir, build.Env = source, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w\n%s", err, out)
	}
	for from, to := range map[string]string{
		"deploy/systemd/*.*":            "/usr/lib/systemd/system",
		"deploy/sysusers.d/*.conf":      "/usr/lib/sysusers.d",
		"deploy/tmpfiles.d/*.conf":      "/usr/lib/tmpfiles.d",
		"deploy/config.yaml":            "/etc/abot-trace",
		"test/recipes/testdata/root/*":  "/usr/local/bin",
		"test/recipes/testdata/work/*":  "/work",
		"test/recipes/testdata/recipe*": "/recipe",
	} {
		if err := in.copy(filepath.Join(source, from), to); err != nil {
			return err
		}
	}
	for _, program := range []string{"jq", "curl"} {
		if err := in.copyProgram(ctx, program); err != nil {
			return err
		}
	}
	for _, dir := range []string{"/etc/abot-trace/conf.d", "/work/deploy", "/work/logs", "/srv/app", "/var/lib/shipper"} {
		if err := os.MkdirAll(in.layer.Path(dir), 0o755); err != nil {
			return err
		}
	}
	setUp := `systemd-sysusers && cp /etc/abot-trace/config.yaml /work/deploy/ && cp /usr/local/bin/job /srv/app/run-workers &&
		ln -s /usr/lib/systemd/system/abot-trace.service /etc/systemd/system/multi-user.target.wants/`
	if out, err := exec.CommandContext(ctx, "chroot", in.layer.Path(""), "/bin/sh", "-ec", setUp).CombinedOutput(); err != nil {
		return fmt.Errorf("set up: %w\n%s", err, out)
	}
	return nil
}

// copy copies the files that match into a directory of the installation, with their modes.
func (in *Installation) copy(pattern, dir string) error {
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) == 0 {
		return fmt.Errorf("%s: %d files: %w", pattern, len(files), err)
	}
	if err := os.MkdirAll(in.layer.Path(dir), 0o755); err != nil {
		return err
	}
	for _, file := range files {
		if err := copyFile(file, in.layer.Path(filepath.Join(dir, filepath.Base(file)))); err != nil {
			return err
		}
	}
	return nil
}

func copyFile(from, to string) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	info, err := src.Stat()
	if err != nil {
		return err
	}
	dst, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, info.Mode().Perm())
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, dst.Close())
}

var library = regexp.MustCompile(`/\S+\.so\S*`)

// copyProgram copies a program of this machine with the libraries that it needs.
func (in *Installation) copyProgram(ctx context.Context, name string) error {
	path, err := exec.LookPath(name)
	if err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, "ldd", path).Output()
	if err != nil {
		return fmt.Errorf("ldd %s: %w", path, err)
	}
	for _, file := range append(library.FindAllString(string(out), -1), path) {
		to := in.layer.Path(file)
		if _, err := os.Stat(to); err == nil {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
			return err
		}
		if err := copyFile(file, to); err != nil {
			return err
		}
	}
	return nil
}

// A Run is what is to be done in one container.
type Run struct {
	Commands []string // shell commands, one after the other, in /work
	Files    map[string]string
	Systemd  bool // with a service manager, and the daemon as its service
	Daemon   bool // with a daemon, where there is no service manager
}

// A Result is how one command ended.
type Result struct {
	Command string
	Code    int
	Output  string // standard output and error
}

// Do runs the commands in a container made for them. It sees no process but its own, has a
// network of its own, and is gone afterwards.
func (in *Installation) Do(ctx context.Context, run Run) (results []Result, err error) {
	layer, err := debian.NewLayer(in.layer.Path(""))
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, layer.Remove()) }()
	for path, text := range run.Files {
		if err := layer.Write(path, text); err != nil {
			return nil, err
		}
	}
	for i, command := range run.Commands {
		if err := layer.Write(fmt.Sprintf("/recipe/commands/%03d", i), command+"\n"); err != nil {
			return nil, err
		}
	}
	args := []string{"--quiet", "--keep-unit", "--register=no", "--capability=all", "--system-call-filter=bpf perf_event_open",
		"--bind-ro=/sys/kernel/btf", "--private-network", "--link-journal=no", "--console=pipe",
		"--machine=" + filepath.Base(layer.Dir), "--directory=" + layer.Path("")}
	if run.Systemd {
		args = append(args, "--boot")
	} else {
		args = append(args, "--as-pid2", "--setenv=DAEMON="+strconv.FormatBool(run.Daemon), "/bin/bash", "/recipe/recipe.sh")
	}
	cmd := exec.CommandContext(ctx, "systemd-nspawn", args...)
	cmd.Env = append(os.Environ(), "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: unix.SIGTERM}
	runtime.LockOSThread() // the parent of Pdeathsig is a thread
	defer runtime.UnlockOSThread()
	if run.Systemd {
		if err := os.Symlink("/recipe/recipe.service", layer.Path("/etc/systemd/system/multi-user.target.wants/recipe.service")); err != nil {
			return nil, err
		}
		if err := os.Symlink("/recipe/recipe.service", layer.Path("/etc/systemd/system/recipe.service")); err != nil {
			return nil, err
		}
	}
	console, err := cmd.CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("container: %w\n%s", err, console)
	}
	return read(layer, run.Commands, console)
}

// read collects what the script of the container has noted.
func read(layer *debian.Layer, commands []string, console []byte) ([]Result, error) {
	results := make([]Result, 0, len(commands))
	for i, command := range commands {
		at := layer.Path(fmt.Sprintf("/recipe/commands/%03d", i))
		code, err := os.ReadFile(at + ".code")
		if err != nil {
			return results, fmt.Errorf("%s: it did not come to that: %w\n%s", command, err, console[max(0, len(console)-4000):])
		}
		out, err := os.ReadFile(at + ".out")
		if err != nil {
			return results, err
		}
		r := Result{Command: command, Output: string(out)}
		if r.Code, err = strconv.Atoi(strings.TrimSpace(string(code))); err != nil {
			return results, err
		}
		results = append(results, r)
	}
	return results, nil
}
