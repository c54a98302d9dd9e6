// SPDX-License-Identifier: Apache-2.0

// Package packages tests what `make package` makes: the same bytes wherever and by whom,
// packages that their own tools accept, an .rpm that installs and goes, and a program
// for arm64 that runs.
package packages

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/abot-trace/abot-trace/test/debian"
)

var arches = flag.String("arches", runtime.GOARCH, "space-separated `ARCHES` to make packages for")

// As packages of a release would have them.
const (
	version = "v0.0.3"
	epoch   = "1760000000"
)

func TestPackages(t *testing.T) {
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("CI must run this as root")
		}
		t.Skip("installing packages needs root")
	}
	dist := makePackages(t, "umask 022")
	t.Run("reproducible", func(t *testing.T) {
		// Another folder, other modes, another day, another name of the machine.
		other := makePackages(t, "umask 077; export TZ=Pacific/Auckland LC_ALL=C.UTF-8; hostname elsewhere",
			"unshare", "--uts")
		if a, b := sums(t, dist), sums(t, other); a != b {
			t.Errorf("got\n%s\nand\n%s", a, b)
		}
	})
	t.Run("same files", func(t *testing.T) { testSameFiles(t, dist) })
	t.Run("lintian", func(t *testing.T) {
		command(t, "lintian", append([]string{"--fail-on", "error", "--allow-root"}, find(t, dist, "*.deb")...)...)
	})
	t.Run("python", func(t *testing.T) { testPython(t, find(t, dist, "*_"+runtime.GOARCH+".deb")[0]) })
	t.Run("rpm", func(t *testing.T) { testRPM(t, find(t, dist, "*"+rpmArch(runtime.GOARCH)+".rpm")[0]) })
	t.Run("programs", func(t *testing.T) {
		for _, arch := range strings.Fields(*arches) {
			testProgram(t, arch, find(t, dist, "*_"+arch+".deb")[0])
		}
	})
}

// makePackages makes them in a copy of the tree, after some shell commands, and returns
// their folder.
func makePackages(t *testing.T, first string, under ...string) string {
	t.Helper()
	tree := t.TempDir()
	copyTree := fmt.Sprintf("cd ../.. && git ls-files -z --cached --others --exclude-standard | "+
		"xargs -0 sh -c 'ls -d -- \"$@\" 2>/dev/null' ls | tar -c --files-from=- | tar -x -C %s", tree)
	command(t, "sh", "-c", copyTree)
	script := fmt.Sprintf("%s; cd %s && exec make package VERSION=%s SOURCE_DATE_EPOCH=%s ARCHES='%s'",
		first, tree, version, epoch, *arches)
	argv := append(under, "sh", "-c", script)
	command(t, argv[0], argv[1:]...)
	return filepath.Join(tree, "dist")
}

// command runs a program and returns what it printed.
func command(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", strings.Join(cmd.Args, " "), err, out, stderr.Bytes())
	}
	return string(out)
}

func find(t *testing.T, dir, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(found) == 0 {
		t.Fatalf("%s: no %s: %v", dir, pattern, err)
	}
	return found
}

func sums(t *testing.T, dist string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dist, "SHA256SUMS"))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Count(string(text), "\n"), 2*len(strings.Fields(*arches)); got != want {
		t.Errorf("%d packages, want %d", got, want)
	}
	return string(text)
}

// rpmArch is what rpm calls an architecture of Go's.
func rpmArch(arch string) string {
	return map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[arch]
}

// onlyInDeb are files that mean something to Debian alone.
var onlyInDeb = []string{
	"/usr/lib/python3/dist-packages/abot_trace.py",
	"/usr/share/doc/abot-trace/changelog.Debian.gz",
	"/usr/share/lintian/overrides/abot-trace",
	"/usr/share/zsh/vendor-completions/_abot-trace",
}

// documents are some of what people read and paste, beside the documents.
var documents = []string{"README.md", "docs/recipes.md", "examples/client.py", "deploy/grafana/abot-trace.json",
	"deploy/prometheus/abot-trace.rules.yml", "deploy/kubernetes/daemonset.yaml"}

func testSameFiles(t *testing.T, dist string) {
	for _, arch := range strings.Fields(*arches) {
		var deb, rpm []string
		for line := range strings.Lines(command(t, "dpkg-deb", "--contents", find(t, dist, "*_"+arch+".deb")[0])) {
			if f := strings.Fields(line); f[0][0] != 'd' && !slices.Contains(onlyInDeb, f[5][1:]) {
				deb = append(deb, f[5][1:])
			}
		}
		for line := range strings.Lines(command(t, "rpm", "-qp", "--queryformat", "[%{FILEMODES:perms} %{FILENAMES}\n]",
			find(t, dist, "*."+rpmArch(arch)+".rpm")[0])) {
			if mode, name, _ := strings.Cut(strings.TrimSpace(line), " "); mode[0] != 'd' {
				rpm = append(rpm, name)
			}
		}
		for _, name := range documents {
			if !slices.Contains(deb, "/usr/share/doc/abot-trace/"+name) {
				t.Errorf("%s: no %s", arch, name)
			}
		}
		slices.Sort(deb)
		slices.Sort(rpm)
		if len(deb) < 15 || !slices.Equal(deb, rpm) {
			t.Errorf("%s: the .deb has\n%s\nand the .rpm\n%s", arch, strings.Join(deb, "\n"), strings.Join(rpm, "\n"))
		}
	}
}

// testRPM installs the package in a root without a running systemd, as one that makes
// an image does, upgrades it, and removes it.
func testRPM(t *testing.T, rpm string) {
	for query, want := range map[string]string{
		"%{NAME}-%{VERSION}-%{RELEASE} %{ARCH} %{LICENSE} %{BUILDTIME}\n": fmt.Sprintf("abot-trace-%s-1 %s Apache-2.0 %s\n", version[1:], rpmArch(runtime.GOARCH), epoch),
		"[%{REQUIRENAME} %{REQUIREFLAGS:depflags} %{REQUIREVERSION}\n]":   "systemd >= 247\n",
		"[%{FILENAMES} %{FILEFLAGS:fflags}\n]":                            "/etc/abot-trace/config.yaml cn\n",
	} {
		if got := command(t, "rpm", "-qp", "--queryformat", query, rpm); !strings.Contains(got, want) {
			t.Errorf("%s: got %q, want %q in it", query, got, want)
		}
	}
	root := newRoot(t)
	inRoot := func(args ...string) {
		command(t, "rpm", append([]string{"--root", root.Path(""), "--nodeps"}, args...)...)
	}
	has := func(want bool, paths ...string) {
		t.Helper()
		for _, path := range paths {
			if _, err := os.Lstat(root.Path(path)); (err == nil) != want {
				t.Errorf("%s is there: %t, want %t", path, !want, want)
			}
		}
	}
	const enabled = "/etc/systemd/system/multi-user.target.wants/abot-trace.service"

	inRoot("--install", rpm)
	has(true, "/usr/bin/abot-trace", "/usr/share/abot-trace/python/abot_trace.py", "/usr/lib/systemd/system/abot-trace.service", "/etc/abot-trace/conf.d", enabled)
	if passwd, err := os.ReadFile(root.Path("/etc/passwd")); err != nil || !strings.Contains(string(passwd), "\nabot-trace:") {
		t.Errorf("no user was made: %v", err)
	}
	if got := command(t, "chroot", root.Path(""), "abot-trace", "version"); !strings.HasPrefix(got, "abot-trace "+version) {
		t.Errorf("it says %q", got)
	}

	// What the operator changed and disabled stays so in an upgrade.
	const own = "rules: []\n"
	if err := root.Write("/etc/abot-trace/config.yaml", own); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(root.Path(enabled)); err != nil {
		t.Fatal(err)
	}
	inRoot("--upgrade", "--force", rpm)
	has(false, enabled)
	if got, err := os.ReadFile(root.Path("/etc/abot-trace/config.yaml")); string(got) != own {
		t.Errorf("the configuration was replaced: %v", err)
	}

	inRoot("--erase", "abot-trace")
	has(false, "/usr/bin/abot-trace", "/usr/lib/systemd/system/abot-trace.service", "/var/lib/abot-trace", "/etc/abot-trace/conf.d", enabled)
	// As rpm does with what was changed.
	has(true, "/etc/abot-trace/config.yaml.rpmsave")
}

// testPython has the system's Python import the module where the package puts it.
func testPython(t *testing.T, deb string) {
	root := newRoot(t)
	command(t, "dpkg-deb", "--extract", deb, root.Path(""))
	for path, env := range map[string]string{
		"/usr/lib/python3/dist-packages/abot_trace.py": "PYTHONPATH=",
		"/usr/share/abot-trace/python/abot_trace.py":   "PYTHONPATH=/usr/share/abot-trace/python",
	} {
		got := command(t, "chroot", root.Path(""), "env", env, "python3", "-c", "import abot_trace; print(abot_trace.__file__)")
		if strings.TrimSpace(got) != path {
			t.Errorf("%s: imported from %q, want %s", env, got, path)
		}
	}
}

func newRoot(t *testing.T) *debian.Layer {
	t.Helper()
	cache, err := debian.CacheDir()
	if err != nil {
		t.Fatal(err)
	}
	base, err := debian.Root(t.Context(), cache, func(s string) { t.Log(s) })
	if err != nil {
		t.Fatal(err)
	}
	root, err := debian.NewLayer(base)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := root.Remove(); err != nil {
			t.Error(err)
		}
	})
	return root
}

// testProgram runs what needs no kernel of its own: of another architecture under
// qemu's user mode.
func testProgram(t *testing.T, arch, deb string) {
	dir := t.TempDir()
	command(t, "dpkg-deb", "--extract", deb, dir)
	program := []string{filepath.Join(dir, "usr/bin/abot-trace")}
	if arch != runtime.GOARCH {
		if arch != "arm64" {
			t.Fatalf("no emulator of %s", arch)
		}
		program = append([]string{"qemu-aarch64-static"}, program...)
	}
	for _, tt := range []struct{ args, want string }{
		{"version", "abot-trace " + version + " ("},
		{"--help", "see, judge and end leaked process trees"},
		{"check " + shippedConfig(t, dir), "config.yaml: ok"},
		{"completion bash", "complete -o bashdefault"},
		{"complete-words tree --orph", "--orphans\t"},
	} {
		argv := append(slices.Clone(program), strings.Fields(tt.args)...)
		if got := command(t, argv[0], argv[1:]...); !strings.Contains(got, tt.want) {
			t.Errorf("%s: %s: got %q, want %q in it", arch, tt.args, got, tt.want)
		}
	}
	if got := command(t, program[0], append(program[1:], "version")...); !strings.Contains(got, "linux/"+arch) {
		t.Errorf("%s: it says %q", arch, got)
	}
}

// shippedConfig is the configuration of the package that was extracted to dir, with a group
// that exists here: its own is made by the package's installation.
func shippedConfig(t *testing.T, dir string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "etc/abot-trace/config.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(b), "group: abot-trace", "group: root", 1)
	if changed == string(b) {
		t.Fatal("the shipped configuration names no group")
	}
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(path, []byte(changed), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
