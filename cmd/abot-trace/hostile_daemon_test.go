// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/abot-trace/abot-trace/internal/proctest"
)

// A hostileDaemon is whoever runs as the daemon's user: root's commands find him at the
// socket, and he answers what he likes.
type hostileDaemon struct {
	dir, socket string
	config      string // root's
}

// serveHostile answers every request so.
func serveHostile(t *testing.T, code int, answer string) *hostileDaemon {
	t.Helper()
	d := &hostileDaemon{dir: t.TempDir()}
	d.socket, d.config = filepath.Join(d.dir, "s"), filepath.Join(d.dir, "config.yaml")
	d.write(t, "config.yaml", "budget: {stop_file: "+filepath.Join(d.dir, "run/stop")+"}\n"+
		"rules: [{name: one, match: {verdict: [leaked]}, orphaned_for: 1h}]\n")
	l, err := net.Listen("unix", d.socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(code)
		_, _ = io.WriteString(w, strings.ReplaceAll(answer, "DIR", d.dir))
	})}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
	return d
}

func (d *hostileDaemon) write(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join(d.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// run runs a command to its end, and returns its exit code and all that it says.
func (d *hostileDaemon) run(t *testing.T, args ...string) (code int, said string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "abot-trace", append(args, "--socket", d.socket)...)
	cmd.Env = append(os.Environ(), "GORACE=atexit_sleep_ms=0") // it waits a second at each end
	out, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// TestHostileDaemonNamesNoFiles: what root's commands write and remove, the daemon does not
// choose: neither by its answer nor by what it puts where root's configuration points.
func TestHostileDaemonNamesNoFiles(t *testing.T) {
	proctest.NeedRoot(t)
	const elsewhere = `{"schema":1,"stop_file":{"path":"DIR/planted/stop","in_force":false},"config":"DIR/planted/config.yaml"}`
	const planted = "rules: [{name: one, match: {verdict: [leaked]}, orphaned_for: 1h}]\n"
	for _, test := range []struct {
		name, answer string
		args         []string
		prepare      func(*testing.T, *hostileDaemon)
		says         string
		kept         []string // files that have to stay
		missing      []string // files that must not come
	}{
		{name: "stop-rules", answer: elsewhere, args: []string{"stop-rules"}, says: "the daemon's stop file is",
			missing: []string{"planted/stop", "run/stop"}},
		{name: "stop-rules by a link", answer: `{"schema":1}`, args: []string{"stop-rules"}, says: "symbolic link",
			prepare: func(t *testing.T, d *hostileDaemon) {
				d.write(t, "victim/file", "")
				if err := os.Symlink("victim", filepath.Join(d.dir, "run")); err != nil {
					t.Fatal(err)
				}
			}, missing: []string{"victim/stop"}},
		{name: "start-rules", answer: elsewhere, args: []string{"start-rules"}, says: "the daemon's stop file is",
			prepare: func(t *testing.T, d *hostileDaemon) { d.write(t, "planted/stop", "") },
			kept:    []string{"planted/stop"}},
		{name: "start-rules by a link", answer: `{"schema":1}`, args: []string{"start-rules"}, says: "symbolic link",
			prepare: func(t *testing.T, d *hostileDaemon) {
				d.write(t, "victim/stop", "")
				if err := os.Symlink("victim", filepath.Join(d.dir, "run")); err != nil {
					t.Fatal(err)
				}
			}, kept: []string{"victim/stop"}},
		{name: "arm", answer: elsewhere, args: []string{"arm", "one", "--yes"}, says: "the daemon's configuration is",
			prepare: func(t *testing.T, d *hostileDaemon) { d.write(t, "planted/config.yaml", planted) },
			missing: []string{"planted/conf.d", "conf.d"}},
		{name: "disarm", answer: elsewhere, args: []string{"disarm", "one"}, says: "the daemon's configuration is",
			prepare: func(t *testing.T, d *hostileDaemon) {
				d.write(t, "planted/config.yaml", planted)
				d.write(t, "planted/conf.d/armed-one.yaml", "")
			}, kept: []string{"planted/conf.d/armed-one.yaml"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			d := serveHostile(t, http.StatusOK, test.answer)
			if test.prepare != nil {
				test.prepare(t, d)
			}
			code, said := d.run(t, append(test.args, "--config", d.config)...)
			if code != exitFailed || !strings.Contains(said, test.says) {
				t.Errorf("exit %d, want %d and %q: %s", code, exitFailed, test.says, said)
			}
			for _, name := range test.kept {
				if _, err := os.Lstat(filepath.Join(d.dir, name)); err != nil {
					t.Error(err)
				}
			}
			for _, name := range test.missing {
				if _, err := os.Lstat(filepath.Join(d.dir, name)); !os.IsNotExist(err) {
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
}

// readers are commands that show what the daemon answers.
var readers = [][]string{
	{"status"}, {"tree"}, {"orphans"}, {"leaks"}, {"leaks", "L0123456789ab"}, {"explain", "1"}, {"explain", "L0123456789ab"},
	{"kill", "--dry-run", "1"}, {"kill", "--yes", "1"}, {"kill", "--yes", "L0123456789ab"}, {"cleanup"}, {"arm", "--list"},
	{"leaks", "ack", "--reason", "x", "L0123456789ab"}, {"leaks", "ack", "--reason", "x", "F0123456789ab"}, {"leaks", "export"},
	{"history"}, {"events"}, {"stop-rules"}, {"start-rules"}, {"lease"},
}

// TestHostileAnswers: no answer makes a command crash, or has it write to a terminal what a
// terminal obeys.
func TestHostileAnswers(t *testing.T) {
	const escape = `\u001b]0;owned\u0007\u202e`
	for _, test := range []struct {
		name   string
		code   int
		answer string
	}{
		{"null", 200, "null"},
		{"a list of null", 200, "[null]"},
		{"empty lists", 200, `{"leaks":[],"processes":[],"rules":[],"spared":[]}`},
		{"escapes", 200, fmt.Sprintf(`{"schema":1,"host":%[1]q,"version":%[1]q,"state":%[1]q,"id":%[1]q,"saved":false,"why":%[1]q,`+
			`"stop":{"path":%[1]q,"reason":%[1]q,"in_force":true},"stop_file":{"path":%[1]q,"reason":%[1]q},"reason":%[1]q,`+
			`"processes":[{"pid":1,"comm":%[1]q,"user":%[1]q,"reason":%[1]q}],"config":%[1]q,`+
			`"leaks":[{"id":%[1]q,"fingerprint":%[1]q,"name":%[1]q}]}`, "ESC")},
		{"a refusal with escapes", 500, `{"error":"ESC"}`},
	} {
		answer := strings.ReplaceAll(test.answer, "ESC", escape)
		t.Run(test.name, func(t *testing.T) {
			d := serveHostile(t, test.code, answer)
			for _, args := range readers {
				if args[0] == "stop-rules" || args[0] == "start-rules" {
					args = append(args[:len(args):len(args)], "--config", d.config)
				}
				_, said := d.run(t, args...)
				if strings.Contains(said, "goroutine ") || strings.Contains(said, "panic") {
					t.Errorf("%s: it crashed: %.600s", args, said)
				}
				if strings.ContainsAny(said, "\x1b\x07\u202e") {
					t.Errorf("%s: %q", args, said)
				}
			}
		})
	}
}

// TestCursorFileFollowsNoLink: where others may write, the name under which a cursor is written
// first could be a link of theirs.
func TestCursorFileFollowsNoLink(t *testing.T) {
	dir := t.TempDir()
	victim, file := filepath.Join(dir, "victim"), filepath.Join(dir, "cursor")
	if err := os.WriteFile(victim, []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("victim", file+".new"); err != nil {
		t.Fatal(err)
	}
	if err := saveCursor(file, "c1"); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{victim: "kept", file: "c1\n"} {
		if got, err := os.ReadFile(path); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v; want %q", path, got, err, want)
		}
	}
}
