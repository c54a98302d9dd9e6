// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"bytes"
	"flag"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"
	"unsafe"

	"github.com/abot-trace/abot-trace/bpf"
	"github.com/abot-trace/abot-trace/internal/event"
)

var update = flag.Bool("update", false, "record the samples in testdata anew, from this kernel")

// TestRecordSamples writes what the other tests decode, where it is asked to: after a change
// of the records' layout.
func TestRecordSamples(t *testing.T) {
	if !*update {
		return
	}
	p := open(t, Options{})
	shell := exec.Command("/bin/sh", "-c", "trap : TERM; (kill $$); sleep 100 & kill -9 $$")
	shell.Env = []string{"PATH=/usr/bin:/bin", "ABOT_TRACE_LEASH=1"}
	_ = shell.Run() // it kills itself
	samples := sampleRecords(t, p, int32(shell.Process.Pid))
	var child event.Event
	if err := Decode(samples["child"], &child); err != nil {
		t.Fatal(err)
	}
	defer func() {
		sleep, err := os.FindProcess(int(child.Subject.PID))
		if err == nil {
			_ = sleep.Kill()
		}
	}()
	samples["tasks"] = sampleTasks(t, p, child.Subject.PID)
	for name, b := range samples {
		if err := os.WriteFile(filepath.Join("testdata", "records", name+".bin"), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// sampleRecords waits for the exit of the shell, and returns the records that tell of it.
func sampleRecords(t *testing.T, p *Probe, shell int32) map[string][]byte {
	samples := make(map[string][]byte)
	for deadline := time.Now().Add(time.Minute); samples["exit"] == nil; {
		if time.Now().After(deadline) {
			t.Fatal("no exit of the shell within a minute")
		}
		p.now.ring.read(1, func(b []byte) {
			var e event.Event
			if err := Decode(b, &e); err != nil {
				t.Fatal(err)
			}
			if e.Kind == event.KindFork && e.Fork.Spawner.PID == shell || e.Kind == event.KindChild && e.Child.Parent.PID == shell ||
				e.Kind != event.KindFork && e.Subject.PID == shell {
				samples[e.Kind.String()] = bytes.Clone(b)
			}
		})
	}
	return samples
}

// sampleTasks returns the iterator's lines of a kernel thread, of ourselves with our
// threads, and of the process that sleeps, once it has executed.
func sampleTasks(t *testing.T, p *Probe, sleep int32) []byte {
	const size = int(unsafe.Sizeof(bpf.CoreTaskRecord{}))
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		f, err := p.now.iterator(keptSnapshot).Open()
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		var kthread, self, sleeper, threads []byte
		for len(b) > 0 {
			line := b[:*(*uint32)(unsafe.Pointer(unsafe.SliceData(b)))]
			b = b[len(line):]
			if len(line) != size {
				if r := (*bpf.CoreThreadRecord)(unsafe.Pointer(unsafe.SliceData(line))); r.Pid == uint32(os.Getpid()) {
					threads = append(threads, line...)
				}
				continue
			}
			switch r := (*bpf.CoreTaskRecord)(unsafe.Pointer(unsafe.SliceData(line))); {
			case r.Id.Pid == 2:
				kthread = line
			case r.Id.Pid == uint32(os.Getpid()):
				self = line
			case r.Id.Pid == uint32(sleep) && decodeComm(r.Comm) == event.MakeComm("sleep") && r.Parent.Pid == 1:
				sleeper = line
			}
		}
		if kthread != nil && self != nil && threads != nil && sleeper != nil {
			return slices.Concat(kthread, self, threads, sleeper)
		}
	}
	t.Fatal("not all of the processes within a minute")
	return nil
}
