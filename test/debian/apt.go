// SPDX-License-Identifier: Apache-2.0

// Package debian fetches Debian packages for tests: guest kernels, and a root file
// system. The mirror is the one that this machine's apt already uses; its own
// configuration stays as it is.
package debian

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"
)

// Apt fetches packages of several Debian releases with a configuration of its own.
type Apt struct {
	dir      string
	arch     string
	progress func(string)
}

// A Kernel is one unpacked kernel image.
type Kernel struct {
	Family  string // as asked for
	Arch    string // as Debian calls it
	Release string // as uname -r will have it
	Image   string // path of vmlinuz
}

// CacheDir is where downloads are kept between runs, outside the tree.
func CacheDir() (string, error) {
	dir := "/var/cache/abot-trace-test"
	if os.Geteuid() != 0 {
		user, err := os.UserCacheDir()
		if err != nil {
			return "", err
		}
		dir = filepath.Join(user, "abot-trace-test")
	}
	return dir, os.MkdirAll(dir, 0o755)
}

// releases to look in besides the one that is installed.
var releases = []string{"bullseye", "bookworm", "trixie"}

// NewApt prepares a folder of the cache for an architecture and refreshes its package
// lists once a day. It tells progress what takes long.
func NewApt(ctx context.Context, cache, arch string, progress func(string)) (*Apt, error) {
	dir := filepath.Join(cache, "apt")
	if arch != runtime.GOARCH {
		dir += "-" + arch
	}
	a := &Apt{dir: dir, arch: arch, progress: progress}
	for _, sub := range []string{"lists/partial", "archives/partial"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return nil, err
		}
	}
	stamp := filepath.Join(dir, "updated")
	if info, err := os.Stat(stamp); err == nil && time.Since(info.ModTime()) < 24*time.Hour {
		return a, nil
	}
	main, security, err := Mirrors(ctx)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "sources.list"), []byte(sourcesList(main, security)), 0o644); err != nil {
		return nil, err
	}
	if err := os.WriteFile(filepath.Join(dir, "apt.conf"), []byte(a.config()), 0o644); err != nil {
		return nil, err
	}
	a.progress("refreshing the package lists")
	// A release that the mirror has dropped is missing from the lists; what matters is
	// whether a kernel can be found, which is said where it is looked for.
	if out, err := a.command(ctx, "apt-get", "update").CombinedOutput(); err != nil {
		a.progress(fmt.Sprintf("apt-get update: %v (%s)", err, lastLine(out)))
	}
	return a, os.WriteFile(stamp, nil, 0o644)
}

// Mirrors returns the Debian mirror of this machine's apt sources, and its security
// archive, "" where there is none.
func Mirrors(ctx context.Context) (main, security string, err error) {
	targets, err := exec.CommandContext(ctx, "apt-get", "indextargets",
		"--format", "$(CREATED_BY) $(REPO_URI) $(RELEASE)").Output()
	if err != nil {
		return "", "", fmt.Errorf("apt-get indextargets: %w", err)
	}
	return mirrors(string(targets))
}

// mirrors finds the Debian mirror and its security archive in what apt-get
// indextargets prints of this machine's own sources.
func mirrors(targets string) (main, security string, err error) {
	for line := range strings.Lines(targets) {
		f := strings.Fields(line)
		if len(f) != 3 || f[0] != "Packages" {
			continue
		}
		base, isSecurity := strings.CutSuffix(f[2], "-security")
		if !isDebianRelease(base) {
			continue
		}
		if isSecurity && security == "" {
			security = f[1]
		} else if !isSecurity && base == f[2] && main == "" {
			main = f[1]
		}
	}
	if main == "" {
		return "", "", errors.New("no Debian mirror among this machine's apt sources")
	}
	return main, security, nil
}

func isDebianRelease(name string) bool {
	switch name {
	case "bullseye", "bookworm", "trixie", "forky", "oldoldstable", "oldstable", "stable", "testing", "sid":
		return true
	}
	return false
}

func sourcesList(main, security string) string {
	var b strings.Builder
	const keys = "[signed-by=/usr/share/keyrings/debian-archive-keyring.gpg]"
	for _, r := range releases {
		fmt.Fprintf(&b, "deb %s %s %s main\n", keys, main, r)
		if security != "" {
			fmt.Fprintf(&b, "deb %s %s %s-security main\n", keys, security, r)
		}
	}
	fmt.Fprintf(&b, "deb %s %s %s-backports main\n", keys, main, releases[len(releases)-1])
	return b.String()
}

func (a *Apt) config() string {
	return fmt.Sprintf(`Dir::State "%[1]s";
Dir::State::status "/dev/null";
Dir::Cache "%[1]s";
Dir::Etc::sourcelist "%[1]s/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
APT::Architecture "%[2]s";
APT::Architectures "";
APT::Architectures:: "%[2]s";
APT::Sandbox::User "";
Acquire::Languages "none";
Acquire::Retries "3";
`, a.dir, a.arch)
}

func (a *Apt) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "APT_CONFIG="+filepath.Join(a.dir, "apt.conf"), "LC_ALL=C")
	cmd.Dir = filepath.Join(a.dir, "archives")
	return cmd
}

// Kernel fetches and unpacks the newest image of a family, "6.1" say; "newest" is
// whatever is newest in the newest release's backports.
func (a *Apt) Kernel(ctx context.Context, family string) (*Kernel, error) {
	out, err := a.command(ctx, "apt-cache", "search", "--names-only", `^linux-image-[0-9].*cloud-`+a.arch+`$`).Output()
	if err != nil {
		return nil, fmt.Errorf("apt-cache search: %w", err)
	}
	name, err := newestKernel(string(out), family)
	if err != nil {
		return nil, err
	}
	k := &Kernel{Family: family, Arch: a.arch, Release: strings.TrimPrefix(name, "linux-image-")}
	k.Image = filepath.Join(a.dir, "vmlinuz-"+k.Release)
	if _, err := os.Stat(k.Image); err == nil {
		return k, nil
	}
	err = a.unpack(ctx, name, "./boot/vmlinuz-"+k.Release, k.Image)
	if errors.Is(err, errNoMember) {
		// Newer packages have it in a part of its own.
		err = a.unpack(ctx, "linux-binary-"+k.Release, "./usr/lib/modules/"+k.Release+"/vmlinuz", k.Image)
	}
	return k, err
}

// errNoMember says that a package does not hold a file.
var errNoMember = errors.New("not in the package")

// imageName matches "linux-image-6.1.0-50-cloud-amd64" and, for newer ones,
// "linux-image-6.12.117+deb12-cloud-amd64". Meta packages have no third number.
var imageName = regexp.MustCompile(`^linux-image-(\d+\.\d+)\.\d+.*-cloud-\w+$`)

// newestKernel picks from apt-cache search's list.
func newestKernel(list, family string) (string, error) {
	best := ""
	for line := range strings.Lines(list) {
		name, _, _ := strings.Cut(line, " ")
		m := imageName.FindStringSubmatch(name)
		if m == nil || family != "newest" && m[1] != family {
			continue
		}
		if best == "" || compareVersions(name, best) > 0 {
			best = name
		}
	}
	if best == "" {
		return "", errors.New("no such kernel in the mirror")
	}
	return best, nil
}

// compareVersions compares digits as numbers and the rest as text.
func compareVersions(a, b string) int {
	split := regexp.MustCompile(`\d+|\D+`)
	as, bs := split.FindAllString(a, -1), split.FindAllString(b, -1)
	for i := range min(len(as), len(bs)) {
		x, y := as[i], bs[i]
		if x[0] >= '0' && x[0] <= '9' && y[0] >= '0' && y[0] <= '9' {
			x, y = fmt.Sprintf("%20s", x), fmt.Sprintf("%20s", y)
		}
		if c := strings.Compare(x, y); c != 0 {
			return c
		}
	}
	return len(as) - len(bs)
}

// Busybox fetches the static one and returns its path. Where the program lies in its
// package depends on the release.
func (a *Apt) Busybox(ctx context.Context) (string, error) {
	path := filepath.Join(a.dir, "busybox")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	err := a.unpack(ctx, "busybox-static", "./bin/busybox", path)
	if errors.Is(err, errNoMember) {
		err = a.unpack(ctx, "busybox-static", "./usr/bin/busybox", path)
	}
	return path, err
}

// Promtool fetches Prometheus's tool and returns its path. It is Debian 12's, which runs
// on later releases, too.
func (a *Apt) Promtool(ctx context.Context) (string, error) {
	path := filepath.Join(a.dir, "promtool")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	return path, a.unpack(ctx, "prometheus/bookworm", "./usr/bin/promtool", path)
}

// unpack downloads a package, of a release if the name says NAME/RELEASE, and writes one
// of its files to path.
func (a *Apt) unpack(ctx context.Context, name, member, path string) error {
	a.progress("fetching " + name)
	archives := filepath.Join(a.dir, "archives")
	if out, err := a.command(ctx, "apt-get", "download", name).CombinedOutput(); err != nil {
		return fmt.Errorf("apt-get download %s: %w (%s)", name, err, lastLine(out))
	}
	base, _, _ := strings.Cut(name, "/")
	debs, err := filepath.Glob(filepath.Join(archives, base+"_*.deb"))
	if err != nil || len(debs) == 0 {
		return fmt.Errorf("apt-get download %s left no file", name)
	}
	defer func() {
		for _, deb := range debs {
			os.Remove(deb)
		}
	}()
	cmd := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", debs[0])
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	extractErr := extract(out, member, path)
	_, _ = io.Copy(io.Discard, out)
	if err := cmd.Wait(); err != nil && extractErr == nil {
		return fmt.Errorf("dpkg-deb %s: %w", debs[0], err)
	}
	return extractErr
}

// extract writes one member of a tar archive to path, whole or not at all.
func extract(r io.Reader, member, path string) error {
	archive := tar.NewReader(r)
	for {
		hdr, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("%s: %w", member, errNoMember)
		}
		if err != nil {
			return fmt.Errorf("read package: %w", err)
		}
		if hdr.Name != member {
			continue
		}
		partial := path + ".partial"
		f, err := os.OpenFile(partial, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o755)
		if err != nil {
			return err
		}
		_, err = io.Copy(f, archive)
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
		return os.Rename(partial, path)
	}
}

func lastLine(out []byte) string {
	last := ""
	for s := bufio.NewScanner(bytes.NewReader(out)); s.Scan(); {
		if strings.TrimSpace(s.Text()) != "" {
			last = s.Text()
		}
	}
	return last
}
