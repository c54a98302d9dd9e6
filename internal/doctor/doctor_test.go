// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/api"
	"github.com/abot-trace/abot-trace/internal/config"
	"github.com/abot-trace/abot-trace/internal/proctest"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// find returns the check of that name.
func find(t *testing.T, r *Report, name string) wire.DoctorCheck {
	t.Helper()
	for _, c := range r.Checks {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("no check %q in %v", name, r.Checks)
	return wire.DoctorCheck{}
}

func TestCanTrace(t *testing.T) {
	for _, tt := range []struct {
		name string
		fill func(*Report)
		want bool
	}{
		{"nothing found", func(*Report) {}, true},
		{"degraded", func(r *Report) { r.need("btf", Degraded, "", "") }, true},
		{"something lesser is missing", func(r *Report) { r.add("journald", Missing, "", "") }, true},
		{"something vital is missing", func(r *Report) { r.add("kernel", OK, "", ""); r.need("btf", Missing, "", "") }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := &Report{}
			tt.fill(r)
			if got := r.CanTrace(); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// TestOtherEnds says by name what goes without pidfd_getfd.
func TestOtherEnds(t *testing.T) {
	var r Report
	r.otherEnds(unix.PidfdGetfd)
	if c := find(t, &r, "other ends"); c.Status != OK {
		t.Errorf("%+v", c)
	}
	for _, errno := range []error{unix.ENOSYS, unix.EPERM} {
		var r Report
		r.otherEnds(func(int, int, int) (int, error) { return 0, errno })
		if c := find(t, &r, "other ends"); c.Status != Degraded || !strings.Contains(c.Detail, errno.Error()) || !strings.Contains(c.Detail, "stay unknown") {
			t.Errorf("%v: %+v", errno, c)
		}
		if !r.CanTrace() {
			t.Errorf("%v keeps it from tracing", errno)
		}
	}
}

// TestHints proves that what is well carries no advice, and all else does.
func TestHints(t *testing.T) {
	r := Examine(t.Context(), Settings{Socket: filepath.Join(t.TempDir(), "none"), Config: "/nonexistent/config.yaml", Unit: "abot-trace"})
	for _, c := range r.Checks {
		if (c.Status == OK) != (c.Hint == "") {
			t.Errorf("%s is %s with hint %q", c.Name, c.Status, c.Hint)
		}
		if c.Detail == "" {
			t.Errorf("%s says nothing", c.Name)
		}
	}
	if got := find(t, r, "socket"); got.Status != Degraded || !strings.Contains(got.Detail, "no daemon") {
		t.Errorf("socket: got %v", got)
	}
}

// TestStoppedDaemon proves that a daemon that holds the socket and says nothing is no
// host that can be traced, whoever asks: the probe of the DaemonSet looks at that.
func TestStoppedDaemon(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path) // the kernel takes connections that nobody accepts
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r := Examine(t.Context(), Settings{Socket: path, Config: "/nonexistent/config.yaml", Unit: "abot-trace", Patience: 50 * time.Millisecond})
	got := find(t, r, "socket")
	if got.Status != Missing || !strings.Contains(got.Detail, "waited 50ms for GET /v1/status") || strings.Contains(got.Hint, "root") {
		t.Errorf("socket: got %v", got)
	}
	if r.CanTrace() {
		t.Error("it can be traced")
	}
}

func TestStream(t *testing.T) {
	now := time.Now()
	ago := func(d time.Duration) *time.Time { seen := now.Add(-d); return &seen }
	for _, tt := range []struct {
		name   string
		status api.Status
		want   string
		traced bool
	}{
		{"complete", api.Status{CanarySeen: ago(time.Second)}, OK, true},
		{"records lost", api.Status{CanarySeen: ago(time.Second), Refused: 7}, Degraded, true},
		{"just started", api.Status{}, Degraded, false},
		{"silent", api.Status{CanarySeen: ago(time.Minute)}, Missing, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := &Report{}
			if got := r.stream(&tt.status, now); got != tt.traced {
				t.Errorf("traced: got %v, want %v", got, tt.traced)
			}
			if got := find(t, r, "stream").Status; got != tt.want {
				t.Errorf("status: got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestUnitState(t *testing.T) {
	for _, tt := range []struct {
		name   string
		props  map[string]any
		status string
		detail string
	}{
		{"running", map[string]any{"LoadState": "loaded", "ActiveState": "active", "MainPID": uint32(7),
			"NFileDescriptorStore": uint32(9), "NRestarts": uint32(0)}, OK, "main process 7, 9 descriptors"},
		{"stopped", map[string]any{"LoadState": "loaded", "ActiveState": "inactive", "SubState": "dead"}, Degraded, "inactive (dead)"},
		{"failed", map[string]any{"LoadState": "loaded", "ActiveState": "failed", "SubState": "failed"}, Degraded, "failed"},
		{"not there", map[string]any{"LoadState": "not-found", "ActiveState": "inactive"}, Degraded, "not installed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := &Report{}
			r.unitState("abot-trace", tt.props)
			got := find(t, r, "unit")
			if got.Status != tt.status || !strings.Contains(got.Detail, tt.detail) {
				t.Errorf("got %v, want %s with %q", got, tt.status, tt.detail)
			}
		})
	}
}

func TestRateLimit(t *testing.T) {
	for _, tt := range []struct {
		name  string
		props map[string]any
		want  string // in the detail; empty is no word
	}{
		{"not known", map[string]any{}, ""},
		{"the package's", map[string]any{"LogRateLimitIntervalUSec": uint64(1)}, ""},
		{"none set, or 0, which systemd does not pass on", map[string]any{"LogRateLimitIntervalUSec": uint64(0)}, "journald.conf"},
		{"one of the unit", map[string]any{"LogRateLimitIntervalUSec": uint64(30e6)}, "may drop records"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := &Report{}
			r.rateLimit(tt.props)
			if tt.want == "" {
				if len(r.Checks) > 0 {
					t.Errorf("got %v, want nothing", r.Checks)
				}
				return
			}
			if got := find(t, r, "journal rate limit"); got.Status != Degraded || !strings.Contains(got.Detail, tt.want) {
				t.Errorf("got %v, want %s with %q", got, Degraded, tt.want)
			}
		})
	}
}

func TestProcessRate(t *testing.T) {
	for _, tt := range []struct {
		name, stat, uptime string
		made               uint64
		up                 time.Duration
		fails              bool
	}{
		{"usual", "cpu 1 2\nctxt 5\nprocesses 1234\nprocs_running 1\n", "100.50 80.00\n", 1234, 100*time.Second + 500*time.Millisecond, false},
		{"no line", "cpu 1 2\n", "1.0 1.0\n", 0, 0, true},
		{"no number", "processes many\n", "1.0 1.0\n", 0, 0, true},
		{"no uptime", "processes 1\n", "", 0, 0, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			if err := os.Mkdir(root+"/proc", 0o755); err != nil {
				t.Fatal(err)
			}
			for name, text := range map[string]string{"stat": tt.stat, "uptime": tt.uptime} {
				if err := os.WriteFile(root+"/proc/"+name, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			made, up, err := processRate(root)
			if (err != nil) != tt.fails {
				t.Fatalf("error: got %v, want one: %v", err, tt.fails)
			}
			if !tt.fails && (made != tt.made || up != tt.up) {
				t.Errorf("got %d in %v, want %d in %v", made, up, tt.made, tt.up)
			}
		})
	}
}

func TestSplitRelease(t *testing.T) {
	for _, tt := range []struct {
		release      string
		major, minor int
	}{
		{"6.1.0-56-cloud-amd64", 6, 1},
		{"5.10.0", 5, 10},
		{"7.3", 7, 3},
		{"strange", 0, 0},
	} {
		if major, minor := splitRelease(tt.release); major != tt.major || minor != tt.minor {
			t.Errorf("%s: got %d.%d, want %d.%d", tt.release, major, minor, tt.major, tt.minor)
		}
	}
}

// TestMissingBTF looks at a root without the kernel's types.
func TestMissingBTF(t *testing.T) {
	r := &Report{}
	r.kernel(Settings{Root: t.TempDir()})
	if got := find(t, r, "btf"); got.Status != Missing {
		t.Errorf("got %v, want missing", got)
	}
	if r.CanTrace() {
		t.Error("it claims that tracing works without BTF")
	}
}

func TestConfiguration(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, tt := range []struct{ name, path, status, detail string }{
		{"none", filepath.Join(dir, "missing.yaml"), OK, "defaults"},
		{"invalid", write("bad.yaml", "ruels: []\n"), Degraded, "rules"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := &Report{}
			r.configuration(Settings{Config: tt.path})
			got := find(t, r, "configuration")
			if got.Status != tt.status || !strings.Contains(got.Detail, tt.detail) {
				t.Errorf("got %v, want %s with %q", got, tt.status, tt.detail)
			}
		})
	}
}

// TestConfigurationProblems tells of a secret that cannot be read, and of the stop file.
func TestConfigurationProblems(t *testing.T) {
	proctest.NeedRoot(t) // whose the configuration must be
	dir := t.TempDir()
	stop, path := filepath.Join(dir, "stop"), filepath.Join(dir, "config.yaml")
	text := "notify:\n  webhook:\n    - {url: \"http://localhost/\", hmac_secret_file: " + dir + "/none}\nbudget: {stop_file: " + stop + "}\n"
	for name, text := range map[string]string{path: text, stop: ""} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := &Report{}
	r.stopFile(r.configuration(Settings{Config: path}))
	var got []string
	for _, c := range r.Checks {
		if c.Status == Degraded {
			got = append(got, c.Name+": "+c.Detail)
		}
	}
	if len(got) != 2 || !strings.Contains(got[0], "notify.webhook[0].hmac_secret_file "+dir+"/none: ") || !strings.HasPrefix(got[1], "stop file: "+stop) {
		t.Errorf("got %q, want the secret and the stop file", got)
	}
}

// TestStopFile wants the word of the daemon that answers: its configuration may be another.
func TestStopFile(t *testing.T) {
	there := filepath.Join(t.TempDir(), "stop")
	if err := os.WriteFile(there, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	mine := config.Default()
	mine.Budget.StopFile.Value = there
	other := config.Default()
	other.Budget.StopFile.Value = filepath.Join(t.TempDir(), "none")
	for _, tt := range []struct {
		name   string
		daemon *api.Status
		cfg    *config.Config
		want   string // its path; empty is no word
	}{
		{"no daemon", nil, mine, there},
		{"no daemon, no file", nil, other, ""},
		{"the daemon's is in force", &api.Status{StopFile: &wire.Stop{Path: "/elsewhere", InForce: true}}, other, "/elsewhere"},
		{"the daemon's is not there", &api.Status{StopFile: &wire.Stop{Path: "/elsewhere"}}, mine, ""},
		{"an older daemon", &api.Status{}, mine, there},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := &Report{daemon: tt.daemon}
			r.stopFile(tt.cfg)
			if got := len(r.Checks); got != min(len(tt.want), 1) || got > 0 && !strings.HasPrefix(r.Checks[0].Detail, tt.want+" is there") {
				t.Errorf("got %v, want %q", r.Checks, tt.want)
			}
		})
	}
}
