// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/abot-trace/abot-trace/internal/proctest"
)

// sharing is a Python program that shares memory with two workers which it spawns, and whose
// resource tracker is to unlink it when all are gone. The workers are deaf to SIGTERM.
const sharing = `
import multiprocessing, os, signal, sys, time
from multiprocessing import shared_memory

def work(name):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with open(3, "w", closefd=False) as said:
        said.write(f"leaf {os.getpid()}\n")
    time.sleep(300)

if __name__ == "__main__":
    multiprocessing.set_start_method("spawn")
    os.set_inheritable(3, True)
    memory = shared_memory.SharedMemory(create=True, size=4096)
    from multiprocessing import spawn, util
    util.spawnv_passfds = (lambda f: lambda path, args, fds: f(path, args, tuple(fds) + (3,)))(util.spawnv_passfds)
    for _ in range(2):
        multiprocessing.Process(target=work, args=(memory.name,)).start()
    with open(sys.argv[1], "w") as told:
        told.write(memory.name)
    time.sleep(300)
`

// TestResourceTrackerIsLast leaves Python workers and their resource tracker behind, each an
// orphan of its own, that rules end one by one: the tracker, the oldest of them, has to go
// last and clean up, whichever rule names it.
func TestResourceTrackerIsLast(t *testing.T) {
	for name, rules := range map[string]string{
		"one rule": `
rules:
  - {name: workers, mode: enforce, match: {verdict: [leaked, unknown], cmdline: multiprocessing}, orphaned_for: 0s, grace: 1s}
`,
		"two rules": `
rules:
  - {name: tracker, mode: enforce, match: {verdict: [leaked, unknown], cmdline: resource_tracker}, orphaned_for: 0s, grace: 1s}
  - {name: workers, mode: enforce, match: {verdict: [leaked, unknown], cmdline: spawn_main}, orphaned_for: 0s, grace: 1s}
`,
	} {
		t.Run(name, func(t *testing.T) {
			d := startDaemon(t, strings.Replace(unhurried, "pause: 0s", "pause: 1s", 1)+rules)
			dir := t.TempDir()
			program, told := filepath.Join(dir, "sharing.py"), filepath.Join(dir, "told")
			if err := os.WriteFile(program, []byte(sharing), 0o600); err != nil {
				t.Fatal(err)
			}
			f := startShell(t, nil, "exec python3 "+program+" "+told)
			workers := f.await("leaf", 2)
			var segment string
			proctest.Eventually(t, "the name of the shared memory", func() bool {
				b, _ := os.ReadFile(told)
				segment = filepath.Join("/dev/shm", string(b))
				return len(b) > 0
			})
			if _, err := os.Stat(segment); err != nil {
				t.Fatal(err)
			}
			f.killMain()
			for _, w := range workers {
				w.mustDie()
			}
			proctest.Eventually(t, "the resource tracker has unlinked what they shared", func() bool {
				_, err := os.Stat(segment)
				return os.IsNotExist(err)
			})
			f.empty()
			_ = d
		})
	}
}
