// SPDX-License-Identifier: Apache-2.0

package procfs

import (
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/event"
)

// statLine is a stat of the given name and state, as kernel 6.18 prints one.
func statLine(comm, state string) string {
	return "4711 (" + comm + ") " + state + " 1 4711 4710 34816 4711 4194560 100 0 0 0 1 2 0 0 20 0 3 0 " +
		"123456 2465792 259 18446744073709551615 94 94 140 0 0 0 0 1 16384 0 0 0 17 1 0 0 0 0 0 94 94 94 140 141 142 143 0\n"
}

func TestParseStat(t *testing.T) {
	want := Stat{PID: 4711, State: 'S', PPID: 1, PGrp: 4711, Session: 4710, TTY: 34816,
		Threads: 3, CPU: 30_000_000, RSS: 259 * uint64(os.Getpagesize()), StartTicks: 123456, SigIgn: 1, SigCgt: 16384, envStart: 142, envEnd: 143}
	for _, comm := range []string{"sleep", "foo) Z ", "(a b ) ( c d) ", "a\nb", "", ") S 1 1 1 1", "\xff\x00)"} {
		t.Run(comm, func(t *testing.T) {
			got, err := parseStat([]byte(statLine(comm, "S")))
			if err != nil {
				t.Fatal(err)
			}
			want.Comm = event.MakeComm(comm)
			if got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
			if !got.Ignores(unix.SIGHUP) || got.Ignores(unix.SIGTERM) {
				t.Errorf("ignored signals: got mask %#x, want SIGHUP only", got.SigIgn)
			}
		})
	}
}

func TestParseStatRefuses(t *testing.T) {
	whole := statLine("sleep", "S")
	for name, in := range map[string]string{
		"empty":            "",
		"no name":          "4711 S 1 1",
		"name not closed":  "4711 (sleep S 1 1",
		"cut short":        whole[:60],
		"pid not a number": strings.Replace(whole, "4711 (", "x711 (", 1),
		"pid too large":    strings.Replace(whole, "4711 (", "4294967297 (", 1),
		"negative start":   strings.Replace(whole, " 123456 ", " -3 ", 1),
		"long state":       statLine("sleep", "SS"),
		"no blank":         strings.Replace(whole, ") S", ")S", 1),
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := parseStat([]byte(in)); !errors.Is(err, errSyntax) {
				t.Errorf("got %+v, %v, want %v", got, err, errSyntax)
			}
		})
	}
}

func TestStatIs(t *testing.T) {
	st := Stat{PID: 7, StartTicks: 123}
	for name, tt := range map[string]struct {
		id   event.ID
		want bool
	}{
		"first ns of the tick": {event.ID{PID: 7, Start: 1_230_000_000}, true},
		"last ns of the tick":  {event.ID{PID: 7, Start: 1_239_999_999}, true},
		"next tick":            {event.ID{PID: 7, Start: 1_240_000_000}, false},
		"tick before":          {event.ID{PID: 7, Start: 1_229_999_999}, false},
		"start not given":      {event.ID{PID: 7}, true},
		"another pid":          {event.ID{PID: 8, Start: 1_230_000_000}, false},
	} {
		if got := st.Is(tt.id); got != tt.want {
			t.Errorf("%s: got %t, want %t", name, got, tt.want)
		}
	}
}

func TestStatDead(t *testing.T) {
	for name, tt := range map[string]struct {
		st   Stat
		want bool
	}{
		"sleeping":                     {Stat{State: 'S', Threads: 1}, false},
		"zombie":                       {Stat{State: 'Z', Threads: 1}, true},
		"leader ended, threads do not": {Stat{State: 'Z', Threads: 2}, false},
		"being reaped":                 {Stat{State: 'X'}, true},
		"stopped":                      {Stat{State: 'T', Threads: 1}, false},
	} {
		if got := tt.st.Dead(); got != tt.want {
			t.Errorf("%s: got %t, want %t", name, got, tt.want)
		}
	}
}

const statusText = "Name:\ta\\nUid: 7\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t99\nUid:\t1000\t0\t0\t0\n" +
	"Groups:\t \nNStgid:\t99\t1\nNSpid:\t99\t1\nVmRSS:\t    1496 kB\nVmSwap:\t       8 kB\n" +
	"SigIgn:\t0000000000000001\nSigCgt:\t0000000180004002\nSeccomp:\t0\n"

func TestParseStatus(t *testing.T) {
	got, err := parseStatus([]byte(statusText))
	want := Status{UID: 1000, SigIgn: 1, SigCgt: 0x180004002,
		NSPID: []int32{99, 1}, NSTGID: []int32{99, 1}, RSS: 1496 << 10, Swap: 8 << 10}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	if !got.NSInit() {
		t.Error("pid 1 of an inner namespace is not seen as its init")
	}
	if st := (Status{NSTGID: []int32{1}}); st.NSInit() {
		t.Error("init of the reader's own namespace is seen as an inner one")
	}
}

func TestParseStatusRefuses(t *testing.T) {
	for name, in := range map[string]string{
		"empty":        "",
		"no masks":     "Name:\tx\nUid:\t0\n",
		"bad uid":      strings.Replace(statusText, "1000", "-1", 1),
		"bad mask":     strings.Replace(statusText, "0000000000000001", "xyz", 1),
		"unit unknown": strings.Replace(statusText, "8 kB", "8 MB", 1),
		"no colon":     statusText + "what\n",
	} {
		t.Run(name, func(t *testing.T) {
			if got, err := parseStatus([]byte(in)); !errors.Is(err, errSyntax) {
				t.Errorf("got %+v, %v, want %v", got, err, errSyntax)
			}
		})
	}
}

func TestParseCgroups(t *testing.T) {
	for _, tt := range []struct {
		name, in, want string
	}{
		{"v2", "0::/system.slice/nginx.service\n", "/system.slice/nginx.service"},
		{"v2 root", "0::/\n", "/"},
		{"hybrid", "3:cpu,cpuacct:/x\n1:name=systemd:/user.slice/user-0.slice/session-1.scope\n0::/other\n",
			"/user.slice/user-0.slice/session-1.scope"},
		{"hybrid, systemd's not used", "4:memory:/m\n1:name=systemd:/\n0::/system.slice/a.service\n", "/system.slice/a.service"},
		{"v1 with systemd", "4:memory:/m\n1:name=systemd:/system.slice/a.service\n", "/system.slice/a.service"},
		{"v1 without systemd", "4:memory:/\n2:pids:/docker/abc\n", "/docker/abc"},
		{"colons in the path", "0::/kubepods:cri-containerd:1\n", "/kubepods:cri-containerd:1"},
		{"removed", "0::/system.slice/a.service (deleted)\n", "/system.slice/a.service"},
		{"no final newline", "0::/a", "/a"},
		{"none", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c, err := parseCgroups([]byte(tt.in))
			if got := c.Path(); err != nil || got != tt.want {
				t.Errorf("got %q, %v, want %q", got, err, tt.want)
			}
		})
	}
	for _, in := range []string{"0:/x\n", "nonsense\n", "0::relative\n", "\n"} {
		if c, err := parseCgroups([]byte(in)); !errors.Is(err, errSyntax) {
			t.Errorf("%q: got %+v, %v, want %v", in, c, err, errSyntax)
		}
	}
}

func TestUnitOf(t *testing.T) {
	id := strings.Repeat("0123456789abcdef", 4)
	outer := strings.Repeat("f", 64)
	for _, tt := range []struct {
		name, path string
		want       Unit
	}{
		{"root", "/", Unit{}},
		{"empty", "", Unit{}},
		{"init", "/init.scope", Unit{Name: "init.scope"}},
		{"service", "/system.slice/nginx.service", Unit{Name: "nginx.service", Slice: "system.slice"}},
		{"instance", "/system.slice/system-getty.slice/getty@tty1.service",
			Unit{Name: "getty@tty1.service", Slice: "system-getty.slice"}},
		{"escaped name", `/system.slice/dev-disk-by\x2duuid-1.swap`,
			Unit{Name: `dev-disk-by\x2duuid-1.swap`, Slice: "system.slice"}},
		{"cgroup escape", "/system.slice/_cgroup.service", Unit{Name: "cgroup.service", Slice: "system.slice"}},
		{"delegated below", "/system.slice/a.service/b.service/x", Unit{Name: "a.service", Slice: "system.slice"}},
		{"slice only", "/system.slice", Unit{Slice: "system.slice"}},
		{"login session", "/user.slice/user-1000.slice/session-3.scope",
			Unit{Name: "session-3.scope", Slice: "user-1000.slice"}},
		{"user manager itself", "/user.slice/user-1000.slice/user@1000.service/init.scope",
			Unit{Name: "user@1000.service", Slice: "user-1000.slice", UserUnit: "init.scope"}},
		{"user unit", "/user.slice/user-1000.slice/user@1000.service/app.slice/app-x.slice/tmux.service",
			Unit{Name: "user@1000.service", Slice: "user-1000.slice", UserUnit: "tmux.service"}},
		{"user scope", `/user.slice/user-1000.slice/user@1000.service/app.slice/app-gnome\x2dterm-12.scope`,
			Unit{Name: "user@1000.service", Slice: "user-1000.slice", UserUnit: `app-gnome\x2dterm-12.scope`}},
		{"no user manager", "/system.slice/user@backup.service/a.service",
			Unit{Name: "user@backup.service", Slice: "system.slice"}},
		{"not a unit", "/my.group/a b.service", Unit{}},
		{"suffix only", "/.service", Unit{}},
		{"too long", "/" + strings.Repeat("a", 260) + ".service", Unit{}},

		{"docker, cgroupfs", "/docker/" + id, Unit{Container: id}},
		{"docker, systemd", "/system.slice/docker-" + id + ".scope",
			Unit{Name: "docker-" + id + ".scope", Slice: "system.slice", Container: id}},
		{"docker in docker", "/docker/" + outer + "/docker/" + id, Unit{Container: id}},
		{"kubernetes, systemd", "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice/cri-containerd-" + id + ".scope",
			Unit{Name: "cri-containerd-" + id + ".scope", Slice: "kubepods-burstable-pod1_2.slice", Container: id}},
		{"kubernetes, cgroupfs", "/kubepods/besteffort/pod1-2/" + id, Unit{Container: id}},
		{"containerd, no scope", "/system.slice/containerd.service/kubepods-pod1.slice:cri-containerd:" + id,
			Unit{Name: "containerd.service", Slice: "system.slice", Container: id}},
		{"cri-o", "/kubepods.slice/crio-" + id + ".scope",
			Unit{Name: "crio-" + id + ".scope", Slice: "kubepods.slice", Container: id}},
		{"cri-o's monitor", "/kubepods.slice/crio-conmon-" + id + ".scope",
			Unit{Name: "crio-conmon-" + id + ".scope", Slice: "kubepods.slice"}},
		{"podman", "/machine.slice/libpod-" + id + ".scope/container",
			Unit{Name: "libpod-" + id + ".scope", Slice: "machine.slice", Container: id}},
		{"podman's monitor", "/machine.slice/libpod-conmon-" + id + ".scope",
			Unit{Name: "libpod-conmon-" + id + ".scope", Slice: "machine.slice"}},
		{"podman, rootless", "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-" + id + ".scope/container",
			Unit{Name: "user@1000.service", Slice: "user-1000.slice", UserUnit: "libpod-" + id + ".scope", Container: id}},
		{"almost an id", "/docker/" + id[:63], Unit{}},
		{"upper case", "/docker/" + strings.ToUpper(id), Unit{}},
		{"systemd in a container", "/docker/" + id + "/system.slice/cron.service", Unit{Container: id}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := UnitOf(tt.path); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestContainerGroupOf(t *testing.T) {
	id, outer := strings.Repeat("0123456789abcdef", 4), strings.Repeat("f", 64)
	for _, tt := range []struct {
		path string
		want ContainerGroup
	}{
		{"/", ContainerGroup{}},
		{"/system.slice/nginx.service", ContainerGroup{}},
		{"/docker/" + id, ContainerGroup{ID: id, Path: "/docker/" + id}},
		{"/docker/" + id + "/init/x", ContainerGroup{ID: id, Path: "/docker/" + id}},
		{"/../../pod1/cri-containerd-" + id + ".scope", ContainerGroup{ID: id, Path: "/../../pod1/cri-containerd-" + id + ".scope"}},
		{"/docker/" + outer + "/docker/" + id, ContainerGroup{ID: id, Path: "/docker/" + outer + "/docker/" + id, Own: true}},
		{"/user.slice/user-1000.slice/session-3.scope/" + id, ContainerGroup{ID: id, Path: "/user.slice/user-1000.slice/session-3.scope/" + id, Own: true}},
		{"/x/_user@1000.service/libpod-" + id + ".scope/container", ContainerGroup{ID: id, Path: "/x/_user@1000.service/libpod-" + id + ".scope", Own: true}},
		{"/machine.slice/libpod-conmon-" + id + ".scope", ContainerGroup{}},
	} {
		if got := ContainerGroupOf(tt.path); got != tt.want {
			t.Errorf("%s: got %+v, want %+v", tt.path, got, tt.want)
		}
	}
}

func TestSplitArgs(t *testing.T) {
	for name, tt := range map[string]struct {
		in   string
		want []string
	}{
		"none":        {"", nil},
		"padding":     {"\x00\x00\x00", nil},
		"one":         {"sleep\x00", []string{"sleep"}},
		"empty one":   {"a\x00\x00b\x00", []string{"a", "", "b"}},
		"own title":   {"postgres: idle\x00\x00\x00\x00", []string{"postgres: idle"}},
		"not closed":  {"a\x00b", []string{"a", "b"}},
		"not unicode": {"\xff\n\x00", []string{"\xff\n"}},
	} {
		if got := splitArgs([]byte(tt.in)); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
}

var markCases = map[string]struct {
	in   string
	want Marks
}{
	"nothing":         {"A=1\x00B=2\x00", Marks{}},
	"empty":           {"", Marks{}},
	"keep":            {"A=1\x00ABOT_TRACE_KEEP=1\x00B=2\x00", Marks{Keep: true}},
	"leash, first":    {"ABOT_TRACE_LEASH=1\x00B=2\x00", Marks{Leash: true}},
	"both":            {"ABOT_TRACE_LEASH=1\x00ABOT_TRACE_KEEP=1\x00", Marks{true, true}},
	"other value":     {"ABOT_TRACE_KEEP=0\x00ABOT_TRACE_LEASH=\x00", Marks{}},
	"longer value":    {"ABOT_TRACE_KEEP=12\x00", Marks{}},
	"cut":             {"ABOT_TRACE_KEEP=\x00" + "1\x00", Marks{}},
	"inside another":  {"X=ABOT_TRACE_KEEP=1\x00XABOT_TRACE_LEASH=1\x00", Marks{}},
	"last unclosed":   {"A=1\x00ABOT_TRACE_KEEP=1", Marks{Keep: true}},
	"after empty one": {"\x00\x00ABOT_TRACE_KEEP=1\x00", Marks{Keep: true}},
	"lower case":      {"abot_trace_keep=1\x00", Marks{}},
	"newline":         {"A=\nABOT_TRACE_KEEP=1\x00", Marks{}},
}

func TestMarkScanner(t *testing.T) {
	for name, tt := range markCases {
		// Pieces of every size: a mark may lie across any boundary.
		for size := 1; size <= len(tt.in)+1; size++ {
			var scan markScanner
			for rest := []byte(tt.in); len(rest) > 0; rest = rest[min(size, len(rest)):] {
				scan.write(rest[:min(size, len(rest))])
			}
			if got := scan.end(); got != tt.want {
				t.Errorf("%s in pieces of %d: got %+v, want %+v", name, size, got, tt.want)
			}
		}
	}
}
