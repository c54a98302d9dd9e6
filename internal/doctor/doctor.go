// SPDX-License-Identifier: Apache-2.0

// Package doctor finds out what this kernel, these capabilities and this service can
// do, one line each, with what to do about what they cannot. It changes nothing: what
// it loads it forgets, and it attaches nothing.
package doctor

import (
	"context"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/api"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// Status of a check.
const (
	OK       = "ok"
	Degraded = "degraded" // it traces, with something less
	Missing  = "missing"  // what is needed is not there
)

// Settings say where to look.
type Settings struct {
	Socket string // the daemon's
	Config string // the configuration's main file
	Unit   string // the service's name
	Root   string // of /proc, /sys and /run; "" is the real one
	// Patience is how long the daemon, and then systemd, may take to answer; 0 is 5 s.
	Patience time.Duration
}

func (s Settings) patience() time.Duration {
	if s.Patience == 0 {
		return 5 * time.Second
	}
	return s.Patience
}

// A Report is what was found, in the order of reading.
type Report struct {
	Checks []wire.DoctorCheck
	vital  []string    // names of the checks without which there is no tracing
	daemon *api.Status // nil where none answers
}

// CanTrace reports whether nothing that tracing needs is missing.
func (r *Report) CanTrace() bool {
	return !slices.ContainsFunc(r.Checks, func(c wire.DoctorCheck) bool {
		return c.Status == Missing && slices.Contains(r.vital, c.Name)
	})
}

func (r *Report) add(name, status, detail, hint string) {
	if status == OK {
		hint = ""
	}
	r.Checks = append(r.Checks, wire.DoctorCheck{Name: name, Status: status, Detail: detail, Hint: hint})
}

// need is add for a check without which there is no tracing.
func (r *Report) need(name, status, detail, hint string) {
	r.vital = append(r.vital, name)
	r.add(name, status, detail, hint)
}

// daemonPID is the pid of the daemon, 0 where none answers.
func (r *Report) daemonPID() int {
	if r.daemon == nil {
		return 0
	}
	return r.daemon.PID
}

// Examine runs every check.
func Examine(ctx context.Context, s Settings) *Report {
	r := &Report{}
	traced := r.service(ctx, s)
	service := r.Checks
	r.Checks = nil
	r.kernel(s)
	r.capabilities(traced)
	r.memlock()
	r.otherEnds(unix.PidfdGetfd)
	r.programs(traced)
	r.procfs(s)
	r.namespace(s)
	r.ring(s)
	r.priority(r.daemonPID())
	r.Checks = append(r.Checks, service...)
	r.journald(s)
	r.stopFile(r.configuration(s))
	r.history()
	return r
}
