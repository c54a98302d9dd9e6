// SPDX-License-Identifier: Apache-2.0

package python_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
)

// TestModule runs the module's own tests.
func TestModule(t *testing.T) {
	for _, in := range interpreters(t) {
		t.Run(in.name, func(t *testing.T) {
			t.Parallel()
			argv := append(slices.Clone(in.argv), in.inside("test_abot_trace.py"))
			cmd := exec.Command(argv[0], argv[1:]...)
			cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// BenchmarkImport is what a program pays at its start: Python with the module, and
// without.
func BenchmarkImport(b *testing.B) {
	here, err := filepath.Abs(".")
	if err != nil {
		b.Fatal(err)
	}
	for name, script := range map[string]string{
		"without": "import signal, atexit",
		"with":    "import signal, atexit, abot_trace; abot_trace.get_shutdown_handler()",
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				cmd := exec.Command("/usr/bin/python3", "-c", script)
				cmd.Env = append(os.Environ(), "PYTHONPATH="+here)
				if err := cmd.Run(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
