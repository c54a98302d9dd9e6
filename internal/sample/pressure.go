// SPDX-License-Identifier: Apache-2.0

package sample

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Pressure is one resource's pressure stall information (Documentation/accounting/psi.rst).
type Pressure struct {
	Some Stall // at least one task waited
	Full Stall // all of them did; for cpu the kernel gives zeroes
}

// Stall is the share of time that tasks waited.
type Stall struct {
	Avg10, Avg60, Avg300 float64 // percent
	Total                time.Duration
}

var pressureResources = []string{"cpu", "memory", "io"}

// readPressure returns what the kernel has, and no error where it has none: PSI can
// be compiled out, or off until psi=1 is on the kernel's command line.
func readPressure(procfs string) (map[string]Pressure, error) {
	out := map[string]Pressure{}
	for _, name := range pressureResources {
		text, err := os.ReadFile(filepath.Join(procfs, "pressure", name))
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.EOPNOTSUPP) {
			continue
		}
		if err != nil {
			return out, err
		}
		p, err := parsePressure(string(text))
		if err != nil {
			return out, fmt.Errorf("%s: %w", name, err)
		}
		out[name] = p
	}
	return out, nil
}

// parsePressure decodes a file of /proc/pressure.
func parsePressure(text string) (p Pressure, err error) {
	for line := range strings.Lines(text) {
		var kind string
		var s Stall
		var total int64
		if _, err := fmt.Sscanf(line, "%s avg10=%f avg60=%f avg300=%f total=%d",
			&kind, &s.Avg10, &s.Avg60, &s.Avg300, &total); err != nil {
			return p, fmt.Errorf("line %q: %w", strings.TrimSpace(line), err)
		}
		s.Total = time.Duration(total) * time.Microsecond
		switch kind {
		case "some":
			p.Some = s
		case "full":
			p.Full = s
		}
	}
	return p, nil
}

// Trigger asks the kernel to tell when tasks waited for a resource for Stall within
// a Window. Without CAP_SYS_RESOURCE the window must be a multiple of two seconds
// (Linux 6.5; older ones refuse).
type Trigger struct {
	Resource      string // "cpu", "memory" or "io"
	Full          bool   // all tasks, not some
	Stall, Window time.Duration
}

// DefaultTriggers are the pressures worth an immediate look.
var DefaultTriggers = []Trigger{
	{Resource: "memory", Stall: 200 * time.Millisecond, Window: 2 * time.Second},
	{Resource: "io", Full: true, Stall: time.Second, Window: 2 * time.Second},
}

// WatchPressure calls wake with the resource's name whenever a trigger fires, at
// most once per window for each, until ctx ends; it then returns nil. An error
// means that it cannot watch: no PSI, or not allowed. The caller goes on sampling
// at intervals.
func WatchPressure(ctx context.Context, triggers []Trigger, wake func(resource string)) error {
	var fds []unix.PollFd
	defer func() {
		for _, fd := range fds {
			unix.Close(int(fd.Fd))
		}
	}()
	for _, t := range triggers {
		fd, err := t.open()
		if err != nil {
			return fmt.Errorf("pressure of %s: %w", t.Resource, err)
		}
		fds = append(fds, unix.PollFd{Fd: int32(fd), Events: unix.POLLPRI})
	}
	stop, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	if err != nil {
		return fmt.Errorf("eventfd: %w", err)
	}
	fds = append(fds, unix.PollFd{Fd: int32(stop), Events: unix.POLLIN})
	// The stop is written before the deferred close: AfterFunc has run or never will.
	stopped := make(chan struct{})
	cancel := context.AfterFunc(ctx, func() {
		defer close(stopped)
		_, _ = unix.Write(stop, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	})
	defer func() {
		if !cancel() {
			<-stopped
		}
	}()
	return pollPressure(ctx, fds, triggers, wake)
}

// pollPressure blocks in poll(2): Go's own poller does not wait for POLLPRI.
func pollPressure(ctx context.Context, fds []unix.PollFd, triggers []Trigger, wake func(string)) error {
	for {
		if _, err := unix.Poll(fds, -1); err != nil && err != unix.EINTR {
			return fmt.Errorf("poll pressure: %w", err)
		}
		if ctx.Err() != nil {
			return nil
		}
		for i, t := range triggers {
			if fds[i].Revents&unix.POLLERR != 0 {
				return fmt.Errorf("pressure of %s: the trigger is gone", t.Resource)
			}
			if fds[i].Revents&unix.POLLPRI != 0 {
				wake(t.Resource)
			}
		}
	}
}

func (t Trigger) open() (int, error) {
	fd, err := unix.Open("/proc/pressure/"+t.Resource, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	kind := "some"
	if t.Full {
		kind = "full"
	}
	// The kernel wants the terminating NUL.
	line := fmt.Sprintf("%s %d %d\x00", kind, t.Stall.Microseconds(), t.Window.Microseconds())
	if _, err := unix.Write(fd, []byte(line)); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("trigger %q: %w", strings.TrimRight(line, "\x00"), err)
	}
	return fd, nil
}
