// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"testing"

	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/probe"
	"github.com/abot-trace/abot-trace/internal/sample"
)

// crowd is how many processes are compared, beside those that run anyway.
const crowd = 10000

// idleBench returns a benchmark that can make idle processes.
func idleBench(t testing.TB) *bench {
	t.Helper()
	b := &bench{dir: t.TempDir()}
	var err error
	if b.storm, err = buildStorm(b.dir); err != nil {
		t.Fatal(err)
	}
	return b
}

func openProbe(t testing.TB) *probe.Probe {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") != "" {
			t.Fatal("needs root")
		}
		t.Skip("needs root")
	}
	p, err := probe.Open(probe.Options{RingBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// procfsNow reads every process by its identity at the precision of procfs.
func procfsNow(t *testing.T, source sample.Procfs) map[event.ID]event.Task {
	t.Helper()
	all := make(map[event.ID]event.Task)
	if err := source.Tasks(func(task event.Task) { all[task.ID] = task }); err != nil {
		t.Fatal(err)
	}
	return all
}

// tick is what procfs counts times in, in ns.
const tick = 1e7

func inTicks(id event.ID) event.ID { return event.ID{PID: id.PID, Start: id.Start / tick * tick} }

// What the task iterator says of 10,000 processes, and of whatever else runs, is what
// procfs says: where two looks at procfs agree the same, where they differ no less than
// the first and no more than the second.
func TestIteratorAgreesWithProcfs(t *testing.T) {
	p := openProbe(t)
	stop, err := idleBench(t).idle(crowd)
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	// VmRSS in status is counted exactly, in stat as the iterator does, in batches.
	stat, status := sample.Procfs{NoSwap: true}, sample.Procfs{}
	swapBefore, before := procfsNow(t, status), procfsNow(t, stat)
	tasks, err := p.Tasks()
	if err != nil {
		t.Fatal(err)
	}
	after, swapAfter := procfsNow(t, stat), procfsNow(t, status)
	compared, bad := 0, 0
	for i := range tasks {
		id := inTicks(tasks[i].ID)
		a, okA := before[id]
		b, okB := after[id]
		if !okA || !okB || tasks[i].Dead || a.Dead || b.Dead {
			continue
		}
		a.Swap, b.Swap = swapBefore[id].Swap, swapAfter[id].Swap
		a.UID, b.UID = swapBefore[id].UID, swapAfter[id].UID
		compared++
		if why := differs(&tasks[i], &a, &b); why != "" {
			if bad++; bad <= 20 {
				t.Errorf("%v %s: %s", tasks[i].ID, tasks[i].Comm, why)
			}
		}
	}
	if compared < crowd {
		t.Errorf("%d processes compared, want at least %d", compared, crowd)
	}
	if bad > 20 {
		t.Errorf("and %d more", bad-20)
	}
}

// differs says what of a task is not between two readings of procfs.
func differs(got, before, after *event.Task) string {
	// Of a kernel's worker procfs adds what it works on.
	if !got.Kthread && got.Comm != before.Comm && got.Comm != after.Comm {
		return fmt.Sprintf("comm %q, procfs says %q", got.Comm, after.Comm)
	}
	if got.UID != before.UID && got.UID != after.UID {
		return fmt.Sprintf("uid %d, procfs says %d", got.UID, after.UID)
	}
	for _, v := range []struct {
		name               string
		got, before, after uint64
		slack              uint64
	}{
		{"RSS", got.RSS, before.RSS, after.RSS, 0},
		{"swap", got.Swap, before.Swap, after.Swap, 0},
		// procfs rounds user and system time down to a tick each.
		{"CPU", got.CPU, before.CPU, after.CPU, 2 * tick},
		{"threads", uint64(got.Threads), uint64(before.Threads), uint64(after.Threads), 0},
	} {
		low, high := min(v.before, v.after), max(v.before, v.after)
		// What moves may have gone further than at either reading.
		if low != high && v.name != "CPU" {
			continue
		}
		if v.got+v.slack < low || v.got > high+v.slack {
			return fmt.Sprintf("%s %d, procfs says %d to %d", v.name, v.got, low, high)
		}
	}
	return ""
}

// BenchmarkSampling is one look at all processes: the iterator alone, and with the
// sampler's shares.
func BenchmarkSampling(b *testing.B) {
	p := openProbe(b)
	for _, n := range full().sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			stop, err := idleBench(b).idle(n)
			if err != nil {
				b.Fatal(err)
			}
			defer stop()
			b.Run("iterator", func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := p.Tasks(); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run("pass", func(b *testing.B) {
				b.ReportAllocs()
				sampler := sample.NewSampler(sample.TaskFunc(p.EachTask), nil)
				for b.Loop() {
					if _, err := sampler.Pass(); err != nil {
						b.Fatal(err)
					}
				}
			})
		})
	}
}
