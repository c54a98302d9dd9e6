// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/proctest"
)

// TestJobs wants the summary of real jobs that leak to name what leaked and who started it.
func TestJobs(t *testing.T) {
	jobs := []struct {
		name    string
		argv    []string
		files   map[string]string
		left    []string
		spawner string // the start of its name
	}{
		{"make -j", []string{"make", "-s", "-j", "3"}, map[string]string{
			"Makefile": "all: a b c\na:\n\tsleep 701 & sleep 0.1\nb:\n\tsetsid sleep 702 & sleep 0.1\nc:\n\tsleep 0.1\n",
		}, []string{"sleep 701", "sleep 702"}, "sh"},
		{"npm", []string{"npm", "run", "--silent", "--offline", "test"}, map[string]string{
			"package.json": `{"name": "job", "version": "1.0.0", "scripts": {"test": "node test.js"}}`,
			"test.js": `require("child_process").spawn("sleep", ["703"], {detached: true, stdio: "ignore"}).unref()
				setTimeout(() => {}, 200)`,
		}, []string{"sleep 703"}, "node"},
		{"pytest-xdist", []string{"/usr/bin/python3", "-m", "pytest", "-q", "-n", "2", "-p", "no:cacheprovider"}, map[string]string{
			"test_job.py": "import pytest, subprocess, time\n\n@pytest.mark.parametrize('n', ['704', '705'])\ndef test_leak(n):\n" +
				"    subprocess.Popen(['sleep', n], start_new_session=True)\n    time.sleep(0.3)\n",
		}, []string{"sleep 704", "sleep 705"}, "python3"},
	}
	for _, job := range jobs {
		t.Run(job.name, func(t *testing.T) {
			proctest.NeedProgram(t, job.argv[0])
			dir := t.TempDir()
			for name, text := range job.files {
				if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			file := filepath.Join(dir, "summary.json")
			argv := append([]string{"env", "-C", dir, "HOME=" + dir, "PYTHONDONTWRITEBYTECODE=1"}, job.argv...)
			s := start(t, options{Argv: argv, Grace: 10 * time.Second, FailOnLeak: true, Summary: file})
			s.wantEnd(t, ExitLeak)
			var left []string
			for _, l := range readSummary(t, file).Left {
				left = append(left, strings.Join(l.Cmdline, " "))
				if l.SpawnedBy == nil || !strings.HasPrefix(l.SpawnedBy.Comm, job.spawner) || l.Ended != "SIGTERM" {
					t.Errorf("left behind: %+v, by %+v", l, l.SpawnedBy)
				}
			}
			slices.Sort(left)
			if !slices.Equal(left, job.left) {
				t.Errorf("left behind: %q, want %q\n%s", left, job.left, s.stderr.String())
			}
		})
	}
}
