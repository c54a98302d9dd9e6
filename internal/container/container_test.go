// SPDX-License-Identifier: Apache-2.0

package container

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/procfs"
	"github.com/abot-trace/abot-trace/internal/proctest"
)

var id = strings.Repeat("0123456789abcdef", 4)

// Layouts as the engines leave them, shortened; the environment is what must not be kept.
const (
	dockerConfig = `{"StreamConfig":{},"State":{"Running":true,"Pid":4242},"ID":"ID","Args":["86400"],"Path":"sleep",
"Config":{"Hostname":"b0x","Env":["TOKEN=secret"],"Cmd":["sleep","86400"],"Image":"registry.example/team/box:1.2","Labels":{"maintainer":"x"}},
"Image":"sha256:7e4d58f0e5f3b60077e9a5d96b4be1b974b5a484f54f9393000a99f3b6816e3d","Name":"/web-1","Driver":"overlay2"}`
	dockershimConfig = `{"Name":"/k8s_web_web-0_shop_0f1e_0","Config":{"Image":"nginx@sha256:1","Labels":{
"io.kubernetes.container.name":"web","io.kubernetes.pod.name":"web-0","io.kubernetes.pod.namespace":"shop","io.kubernetes.pod.uid":"0f1e"}}}`
	containerdBundle = `{"ociVersion":"1.2.0","process":{"args":["/pause"],"env":["PASSWORD=secret"]},"root":{"path":"rootfs"},"annotations":{
"io.kubernetes.cri.container-name":"web","io.kubernetes.cri.container-type":"container","io.kubernetes.cri.image-name":"docker.io/library/nginx:1.27",
"io.kubernetes.cri.sandbox-id":"x","io.kubernetes.cri.sandbox-name":"web-0","io.kubernetes.cri.sandbox-namespace":"shop","io.kubernetes.cri.sandbox-uid":"0f1e"}}`
	crioBundle = `{"ociVersion":"1.0.2","process":{"env":["PASSWORD=secret"]},"annotations":{"io.container.manager":"cri-o","io.kubernetes.container.name":"web",
"io.kubernetes.cri-o.ContainerType":"container","io.kubernetes.cri-o.ImageName":"quay.io/shop/web:3","io.kubernetes.cri-o.Image":"9f",
"io.kubernetes.pod.name":"web-0","io.kubernetes.pod.namespace":"shop","io.kubernetes.pod.uid":"0f1e"}}`
	podmanBundle  = `{"ociVersion":"1.1.0","annotations":{"io.container.manager":"libpod","org.opencontainers.image.stopSignal":"15"}}`
	podmanStorage = `[{"id":"ffff","names":["other"]},{"id":"ID","names":["web-1"],"image":"9f",
"metadata":"{\"image-name\":\"localhost/box:latest\",\"image-id\":\"9f\",\"name\":\"web-1\",\"created-at\":1700000000}"}]`
)

// A machine is a file system of a test's own.
type machine struct {
	*testing.T
	root string
}

func newMachine(t *testing.T) *machine {
	proctest.NeedRoot(t)
	m := &machine{t, t.TempDir()}
	m.group("/docker/" + id)
	return m
}

func (m *machine) group(path string) {
	m.Helper()
	if err := os.MkdirAll(filepath.Join(m.root, cgroupRoot, path), 0o755); err != nil {
		m.Fatal(err)
	}
}

func (m *machine) file(path, text string) string {
	m.Helper()
	path = filepath.Join(m.root, path)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		m.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(strings.ReplaceAll(text, "ID", id)), 0o600); err != nil {
		m.Fatal(err)
	}
	return path
}

// ask is what the book says of the group, when it has looked.
func (m *machine) ask(cgroup string) Info {
	m.Helper()
	info, known := NewBook(m.root).Await(procfs.ContainerGroupOf(cgroup), time.Minute)
	if !known {
		m.Fatalf("%s: not known", cgroup)
	}
	return info
}

// TestLayouts wants names, image and pod out of the files of each engine.
func TestLayouts(t *testing.T) {
	pod := Pod{Namespace: "shop", Name: "web-0", UID: "0f1e"}
	for _, tt := range []struct {
		name, file, text string
		want             Info
	}{
		{"docker", "/var/lib/docker/containers/" + id + "/config.v2.json", dockerConfig,
			Info{Name: "web-1", Image: "registry.example/team/box:1.2"}},
		{"docker of a kubelet", "/var/lib/docker/containers/" + id + "/config.v2.json", dockershimConfig,
			Info{Name: "k8s_web_web-0_shop_0f1e_0", Image: "nginx@sha256:1", Pod: pod}},
		{"containerd", "/run/containerd/io.containerd.runtime.v2.task/k8s.io/" + id + "/config.json", containerdBundle,
			Info{Name: "web", Image: "docker.io/library/nginx:1.27", Pod: pod}},
		{"k3s", "/run/k3s/containerd/io.containerd.runtime.v2.task/k8s.io/" + id + "/config.json", containerdBundle,
			Info{Name: "web", Image: "docker.io/library/nginx:1.27", Pod: pod}},
		{"CRI-O", "/run/containers/storage/overlay-containers/" + id + "/userdata/config.json", crioBundle,
			Info{Name: "web", Image: "quay.io/shop/web:3", Pod: pod}},
		{"podman", "/var/lib/containers/storage/overlay-containers/containers.json", podmanStorage,
			Info{Name: "web-1", Image: "localhost/box:latest"}},
		{"podman's bundle", "/var/lib/containers/storage/overlay-containers/" + id + "/userdata/config.json", podmanBundle, Info{}},
		{"a log's name", "/var/log/containers/web-0_shop_web-" + id + ".log", "",
			Info{Name: "web", Pod: Pod{Namespace: "shop", Name: "web-0"}}},
		{"another's log", "/var/log/containers/web-0_shop_web-" + strings.Repeat("f", 64) + ".log", "", Info{}},
		{"nothing", "/var/lib/x", "", Info{}},
		{"no JSON", "/var/lib/docker/containers/" + id + "/config.v2.json", "Name: web-1", Info{}},
		{"values of other types", "/run/containerd/io.containerd.runtime.v2.task/k8s.io/" + id + "/config.json",
			`{"annotations":{"io.kubernetes.cri.container-name":7,"io.kubernetes.cri.image-name":"box"}}`, Info{Image: "box"}},
		{"a name without end", "/var/lib/docker/containers/" + id + "/config.v2.json", `{"Name":"/` + strings.Repeat("a", maxText+1) + `"}`, Info{}},
		{"a file without end", "/var/lib/docker/containers/" + id + "/config.v2.json", `{"Name":"/web-1","x":"` + strings.Repeat("a", maxFile) + `"}`, Info{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := newMachine(t)
			m.file(tt.file, tt.text)
			tt.want.Roots = true
			if got := m.ask("/docker/" + id); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

// TestFileGuards wants a file that another than root could have put there left alone, and one
// that is not a regular file.
func TestFileGuards(t *testing.T) {
	for name, spoil := range map[string]func(m *machine, path string) error{
		"another's file":      func(_ *machine, path string) error { return os.Chown(path, 1000, 0) },
		"others may write it": func(_ *machine, path string) error { return os.Chmod(path, 0o666) },
		"another's directory": func(_ *machine, path string) error { return os.Chown(filepath.Dir(path), 1000, 0) },
		"a link to it": func(m *machine, path string) error {
			if err := os.Rename(path, filepath.Join(m.root, "moved")); err != nil {
				return err
			}
			return os.Symlink(filepath.Join(m.root, "moved"), path)
		},
		"a FIFO": func(_ *machine, path string) error {
			if err := os.Remove(path); err != nil {
				return err
			}
			return unix.Mkfifo(path, 0o600)
		},
		"a directory": func(_ *machine, path string) error {
			if err := os.Remove(path); err != nil {
				return err
			}
			return os.Mkdir(path, 0o700)
		},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			path := m.file("/var/lib/docker/containers/"+id+"/config.v2.json", dockerConfig)
			if err := spoil(m, path); err != nil {
				t.Fatal(err)
			}
			if got := m.ask("/docker/" + id); got != (Info{Roots: true}) {
				t.Errorf("got %+v, want nothing", got)
			}
		})
	}
}

// TestWhoseGroup wants a group that another than root could have named to make nobody a
// container, whatever the engines' files say of that id.
func TestWhoseGroup(t *testing.T) {
	outer := strings.Repeat("f", 64)
	for _, tt := range []struct {
		name, path string
		owner      string // of this group: a user
		want       bool
	}{
		{"docker, cgroupfs", "/docker/" + id, "", true},
		{"docker, systemd", "/system.slice/docker-" + id + ".scope", "", true},
		{"what runs deeper in it", "/system.slice/docker-" + id + ".scope/init/x", "", true},
		{"a container's own root", "/system.slice/docker-" + id + ".scope", "/system.slice/docker-" + id + ".scope", true},
		{"kubernetes", "/kubepods.slice/kubepods-pod1.slice/cri-containerd-" + id + ".scope", "", true},
		{"a service with a group of its own", "/system.slice/ci.service/docker/" + id, "/system.slice/ci.service", false},
		{"its child", "/system.slice/ci.service/" + id, "/system.slice/ci.service", false},
		{"a session", "/user.slice/user-1000.slice/session-3.scope/docker-" + id + ".scope", "", false},
		{"a user's slice alone", "/user-1000.slice/docker-" + id + ".scope", "", false},
		{"a user manager", "/x.slice/user@1000.service/docker-" + id + ".scope", "", false},
		{"rootless podman", "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-" + id + ".scope/container", "", false},
		{"a container in a container", "/docker/" + outer + "/docker/" + id, "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := newMachine(t)
			m.file("/var/lib/docker/containers/"+id+"/config.v2.json", dockerConfig)
			m.group(tt.path)
			if tt.owner != "" {
				if err := os.Chown(filepath.Join(m.root, cgroupRoot, tt.owner), 1000, 1000); err != nil {
					t.Fatal(err)
				}
			}
			got := m.ask(tt.path)
			if got.Roots != tt.want || (got.Name == "web-1") != tt.want {
				t.Errorf("got %+v, want it to be a container: %v", got, tt.want)
			}
		})
	}
	t.Run("a group that is gone", func(t *testing.T) {
		m := newMachine(t)
		m.file("/var/lib/docker/containers/"+id+"/config.v2.json", dockerConfig)
		if got := m.ask("/gone/" + id); got != (Info{}) {
			t.Errorf("got %+v", got)
		}
	})
	t.Run("version 1, a user's in one hierarchy", func(t *testing.T) {
		m := newMachine(t)
		m.file("/var/lib/docker/containers/"+id+"/config.v2.json", dockerConfig)
		m.group("/memory/ci/" + id)
		m.group("/systemd/ci/" + id)
		if got := m.ask("/ci/" + id); got.Name != "web-1" {
			t.Errorf("got %+v", got)
		}
		if err := os.Chown(filepath.Join(m.root, cgroupRoot, "systemd/ci"), 1000, 1000); err != nil {
			t.Fatal(err)
		}
		if got := m.ask("/ci/" + id); got != (Info{}) {
			t.Errorf("got %+v", got)
		}
	})
}

// TestOtherBranch wants a path that leads out of our own control group namespace found from the
// place of this process in the hierarchy.
func TestOtherBranch(t *testing.T) {
	m := newMachine(t)
	m.file("/var/lib/docker/containers/"+id+"/config.v2.json", dockerConfig)
	m.group("/kubepods/pod1/" + id)
	m.file(cgroupRoot+"/kubepods/pod2/own/cgroup.procs", "1\n"+strconv.Itoa(os.Getpid())+"\n")
	for _, path := range []string{"/../../pod1/" + id, "/../../../kubepods/pod1/" + id} {
		if got := m.ask(path); got.Name != "web-1" {
			t.Errorf("%s: got %+v", path, got)
		}
	}
	if err := os.Chown(filepath.Join(m.root, cgroupRoot, "/kubepods/pod1"), 1000, 1000); err != nil {
		t.Fatal(err)
	}
	if got := m.ask("/../../pod1/" + id); got != (Info{}) {
		t.Errorf("another's group: got %+v", got)
	}
}

// TestGetDoesNotWait wants the first question answered at once, and what is known kept when the
// files are gone.
func TestGetDoesNotWait(t *testing.T) {
	m := newMachine(t)
	path := m.file("/var/lib/docker/containers/"+id+"/config.v2.json", dockerConfig)
	b, g := NewBook(m.root), procfs.ContainerGroupOf("/docker/"+id)
	if info, known := b.Get(procfs.ContainerGroup{}); !known || info != (Info{}) {
		t.Errorf("no container: got %+v, %v", info, known)
	}
	b.mu.Lock() // nobody can have read it yet
	e := b.entry(g)
	known := !e.readAt.IsZero()
	b.mu.Unlock()
	if known {
		t.Error("it was known before it was looked at")
	}
	if info, known := b.Await(g, time.Minute); !known || info.Name != "web-1" {
		t.Fatalf("got %+v, %v", info, known)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	b.mu.Lock()
	e.readAt = e.readAt.Add(-2 * refreshAfter)
	before := e.readAt
	b.mu.Unlock()
	proctest.Eventually(t, "the second look", func() bool {
		b.Get(g)
		b.mu.Lock()
		defer b.mu.Unlock()
		return e.readAt != before
	})
	if info, _ := b.Get(g); info.Name != "web-1" {
		t.Errorf("got %+v after the files were gone", info)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{dockerConfig, dockershimConfig, containerdBundle, crioBundle, podmanStorage, "web-0_shop_web-" + id + ".log"} {
		f.Add([]byte(strings.ReplaceAll(s, "ID", id)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		of := []Info{}
		for _, parse := range []func([]byte) (Info, error){parseDocker, parseBundle,
			func(b []byte) (Info, error) { return parseStorage(b, id) }} {
			if info, err := parse(b); err == nil {
				of = append(of, info)
			}
		}
		if got, info, ok := parseLogName(string(b)); ok {
			if of = append(of, info); len(got) != 64 {
				t.Errorf("%q: id %q", b, got)
			}
		}
		for _, info := range of {
			for _, s := range []string{info.Name, info.Image, info.Pod.Name, info.Pod.Namespace, info.Pod.UID} {
				if len(s) > maxText || !utf8.ValidString(s) {
					t.Errorf("%q: got %+v", b, info)
				}
			}
		}
	})
}
