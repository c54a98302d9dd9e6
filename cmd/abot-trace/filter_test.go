// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/abot-trace/abot-trace/internal/wire"
)

// filterOf reads the flags as a command does.
func filterOf(t *testing.T, args ...string) (pick *filter, err error) {
	t.Helper()
	app := &cli.App{Flags: append(filterFlags(), placeFlags()...), Action: func(c *cli.Context) error {
		pick, err = newFilter(c)
		return nil
	}}
	if runErr := app.Run(append([]string{"test"}, args...)); runErr != nil {
		t.Fatal(runErr)
	}
	return pick, err
}

func TestFilterProcess(t *testing.T) {
	now := time.Now()
	started, since := now.Add(-48*time.Hour), now.Add(-time.Hour)
	uid, rss, treeRSS := uint32(1000), uint64(100<<20), uint64(900<<20)
	p := &wire.Process{PID: 4711, Comm: "python3", Exe: "/usr/bin/python3.11", Cmdline: []string{"python3", "/srv/app/worker.py"}, UID: &uid,
		User: "bob", Unit: "web.service", Container: "0123456789ab", StartedAt: &started, RSSBytes: &rss, Cwd: "/srv/app/data",
		Ports:  []wire.Port{{Proto: "tcp", Addr: "127.0.0.1", Port: 8000}, {Proto: "udp6", Addr: "::", Port: 5353}},
		Orphan: &wire.Orphan{Since: &since, Verdict: wire.VerdictLeaked, Tree: &wire.Usage{RSSBytes: &treeRSS}}}
	for _, tt := range []struct {
		args []string
		want bool
	}{
		{nil, true},
		{[]string{"--user", "bob"}, true},
		{[]string{"--user", "1000"}, true},
		{[]string{"--user", "root"}, false},
		{[]string{"--user", "root", "--user", "bob"}, true},
		{[]string{"--unit", "web*"}, true},
		{[]string{"--container", "0123*"}, true},
		{[]string{"--program", "worker.py"}, true},
		{[]string{"--program", "python3"}, true},
		{[]string{"--program", "worker"}, false},
		{[]string{"--verdict", "leaked"}, true},
		{[]string{"--verdict", "unknown"}, false},
		{[]string{"--min-age", "59m"}, true},
		{[]string{"--min-age", "2h"}, false}, // as an orphan
		{[]string{"--min-memory", "800MiB"}, true},
		{[]string{"--min-memory", "1GiB"}, false},
		{[]string{"--port", "8000"}, true},
		{[]string{"--port", "5000-6000"}, true},
		{[]string{"--port", "8001"}, false},
		{[]string{"--port", "1-65535", "--user", "root"}, false},
		{[]string{"--cwd", "/srv/app/data"}, true},
		{[]string{"--cwd", "/srv"}, true},
		{[]string{"--cwd", "/srv/*"}, true},
		{[]string{"--cwd", "/srv/app/"}, true},
		{[]string{"--cwd", "/"}, true},
		{[]string{"--cwd", "/srv/ap"}, false},
		{[]string{"--cwd", "/srv/app/data/deeper"}, false},
	} {
		pick, err := filterOf(t, tt.args...)
		if err != nil {
			t.Fatalf("%v: %v", tt.args, err)
		}
		if got := pick.process(p, now); got != tt.want {
			t.Errorf("%v: got %v, want %v", tt.args, got, tt.want)
		}
	}
	for _, args := range [][]string{{"--port", "8000"}, {"--cwd", "/"}} {
		pick, err := filterOf(t, args...)
		if err != nil || pick.process(&wire.Process{PID: 1, StartedAt: &started}, now) {
			t.Errorf("%v: passes what is not known, %v", args, err)
		}
	}
}

// A relative directory is the caller's.
func TestFilterRelativeDirectory(t *testing.T) {
	t.Chdir(t.TempDir())
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	pick, err := filterOf(t, "--cwd", ".")
	if err != nil || !pick.process(&wire.Process{Cwd: filepath.Join(here, "below")}, time.Now()) {
		t.Errorf("does not pass a process below %s: %v", here, err)
	}
}

func TestFilterRefuses(t *testing.T) {
	for _, args := range [][]string{{"--port", "0"}, {"--port", "http"}, {"--port", "65536"}, {"--port", "9-8"}, {"--port", "8-"}, {"--port", ""},
		{"--cwd", "["}, {"--user", "["}, {"--verdict", "guilty"}, {"--min-age", "5"}, {"--min-memory", "5"}} {
		if _, err := filterOf(t, args...); err == nil {
			t.Errorf("%v: no error", args)
		}
	}
}

// TestFilterContainers wants processes, and leaks by their leaker, picked by the names of their
// container, and none where the names are not known.
func TestFilterContainers(t *testing.T) {
	pod := &wire.Pod{Namespace: "shop", Name: "web-0"}
	in := &wire.Process{Container: "0123", ContainerName: "web-1", ContainerImage: "registry/team/box:1", Pod: pod}
	left := &wire.Leak{Leaker: wire.LeakLeaker{Container: "0123", ContainerName: "web-1", ContainerImage: "registry/team/box:1", Pod: pod}}
	for _, tt := range []struct {
		args []string
		want bool
	}{
		{[]string{"--container", "web-*"}, true},
		{[]string{"--container", "0123"}, true},
		{[]string{"--container", "web"}, false},
		{[]string{"--image", "registry/*:1"}, true},
		{[]string{"--image", "*box*"}, true},
		{[]string{"--image", "box"}, false},
		{[]string{"--pod", "shop/*"}, true},
		{[]string{"--pod", "*web-?"}, true},
		{[]string{"--pod", "web-0"}, false},
		{[]string{"--pod", "web-0", "--pod", "shop/web-0"}, true},
		{[]string{"--pod", "shop/*", "--image", "other"}, false},
	} {
		f, err := filterOf(t, tt.args...)
		if err != nil {
			t.Fatalf("%v: %v", tt.args, err)
		}
		now := time.Now()
		if f.process(in, now) != tt.want || f.leak(left, now) != tt.want {
			t.Errorf("%v: got process %v, leak %v, want %v", tt.args, f.process(in, now), f.leak(left, now), tt.want)
		}
		if f.process(&wire.Process{}, now) || f.leak(&wire.Leak{}, now) {
			t.Errorf("%v: what is in no container passes", tt.args)
		}
	}
}
