// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"sync"

	"github.com/urfave/cli/v2"

	"github.com/abot-trace/abot-trace/internal/api"
	"github.com/abot-trace/abot-trace/internal/boottime"
	"github.com/abot-trace/abot-trace/internal/config"
	"github.com/abot-trace/abot-trace/internal/control"
	"github.com/abot-trace/abot-trace/internal/probe"
	"github.com/abot-trace/abot-trace/internal/render"
	"github.com/abot-trace/abot-trace/internal/sample"
	"github.com/abot-trace/abot-trace/internal/systemd"
	"github.com/abot-trace/abot-trace/internal/term"
	"github.com/abot-trace/abot-trace/internal/trace"
	"github.com/abot-trace/abot-trace/internal/tracker"
	"github.com/abot-trace/abot-trace/internal/wire"
)

func cleanupCommand() *cli.Command {
	return &cli.Command{
		Name:  "cleanup",
		Usage: "one pass of the rules, now: say what they would end, or end it",
		Description: `Evaluates every rule once and prints what it would end and why. Only with --enforce
anything is ended, and only by rules whose mode is enforce.

With a daemon its rules and its knowledge are used. Without one a snapshot is taken:
nothing in it was observed, so every verdict is unknown, and a rule ends something only
if it names unknown in its verdict and matches on user, unit, container, exe or cmdline too.

Exits with 1 when something that was to be ended survived, be it because of the budget
or the stop file.

Examples:
   abot-trace cleanup
   sudo abot-trace cleanup --enforce
   sudo abot-trace cleanup --no-daemon
   sudo abot-trace cleanup --config ./rules.yaml`,
		Flags: []cli.Flag{
			configFlag(),
			&cli.BoolFlag{Name: "enforce", Usage: "carry out what rules in mode enforce decide"},
			jsonFlag(), colorFlag(), socketFlag(), noDaemonFlag(),
		},
		Action: runCleanup,
	}
}

func runCleanup(c *cli.Context) error {
	if err := noArgs(c); err != nil {
		return err
	}
	ctx, stop := interruptible(c)
	defer stop()
	kills, err := cleanup(ctx, c)
	if err != nil {
		return explained(err)
	}
	if c.Bool("json") {
		if kills == nil {
			kills = []wire.Kill{}
		}
		err = writeJSON(c.App.Writer, kills)
	} else {
		err = render.Kills(c.App.Writer, kills, styleOf(c))
	}
	if err != nil {
		return err
	}
	if c.Bool("enforce") && slices.ContainsFunc(kills, survived) {
		return &exitError{code: exitFailed}
	}
	return nil
}

// survived reports whether somebody lives whom an armed rule was to end: the budget and
// the stop file can hold it back, too.
func survived(k wire.Kill) bool { return k.Outcome == wire.KillPartial || k.Outcome == wire.KillBudget }

// cleanup has the daemon do the pass, or does it here.
func cleanup(ctx context.Context, c *cli.Context) ([]wire.Kill, error) {
	progress := newProgress(c)
	defer progress.clear()
	if err := refuseBesideDaemon(ctx, c); err != nil {
		return nil, err
	}
	client, err := reach(ctx, c)
	if err != nil {
		return nil, err
	}
	if client != nil {
		config, err := absoluteConfig(c)
		if err != nil {
			return nil, err
		}
		stop := progress.follow(ctx, client)
		defer stop()
		kills, err := client.Cleanup(ctx, api.CleanupRequest{Enforce: c.Bool("enforce"), Config: config})
		return kills, refusedConfig(err)
	}
	own, closer, err := ownControl(ctx, c)
	if err != nil {
		return nil, err
	}
	defer closer()
	return own.Pass(ctx, nil, c.Bool("enforce"), nil, progress.step)
}

// refuseBesideDaemon keeps a pass of our own from ending anything where a daemon holds the
// socket: that one knows more, and what it ends it counts.
func refuseBesideDaemon(ctx context.Context, c *cli.Context) error {
	if !c.Bool("enforce") || !c.Bool("no-daemon") {
		return nil
	}
	if err := api.NewClient(c.String("socket")).Reach(ctx); errors.Is(err, api.ErrNoDaemon) {
		return nil
	}
	return usageError("cleanup: --enforce with --no-daemon, but a daemon holds %s: leave out one of them", c.String("socket"))
}

// absoluteConfig is the path that --config gives, as the daemon can use it; empty without
// the flag.
func absoluteConfig(c *cli.Context) (string, error) {
	path := configPath(c)
	if path == "" {
		return "", nil
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return "", fmt.Errorf("configuration: %w", err)
	}
	return abs, nil
}

// refusedConfig is exit 2 where the daemon found a fault in the configuration that it was
// given.
func refusedConfig(err error) error {
	var status *api.StatusError
	if errors.As(err, &status) && status.Code == http.StatusBadRequest {
		return &exitError{exitUsage, err}
	}
	return err
}

// A progress tells on a terminal's stderr how far a pass is.
type progress struct {
	w    io.Writer // nil where nobody looks
	mu   sync.Mutex
	done int
}

func newProgress(c *cli.Context) *progress {
	if !term.IsTerminal(c.App.ErrWriter) {
		return &progress{}
	}
	return &progress{w: c.App.ErrWriter}
}

// step counts one tree, of so many; 0 is not known how many.
func (p *progress) step(k wire.Kill, of int) {
	if p.w == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done++
	total := ""
	if of > 0 {
		total = fmt.Sprintf(" of %d", of)
	}
	fmt.Fprintf(p.w, "\r\x1b[K%d%s trees done, last: pid %d", p.done, total, firstPID(k))
}

// follow counts what the daemon tells, until it is stopped.
func (p *progress) follow(ctx context.Context, client *api.Client) (stop func()) {
	if p.w == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		// Whatever is wrong shows in the answer to the request itself.
		_ = client.Events(ctx, []string{wire.TypeKill}, boottime.Now(), true, func(e *wire.Event) error {
			p.step(*e.Kill, 0)
			return nil
		})
	}()
	return func() {
		cancel()
		<-ended
	}
}

func (p *progress) clear() {
	if p.w != nil && p.done > 0 {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}

func firstPID(k wire.Kill) int32 {
	if len(k.Processes) == 0 {
		return 0
	}
	return k.Processes[0].PID
}

// ownControl is a tracer of our own with the rules of the configuration, and one
// sample taken. It knows nothing from before.
func ownControl(ctx context.Context, c *cli.Context) (*control.Controller, func(), error) {
	cfg, err := loadConfig(c, config.Options{Trusted: c.Bool("enforce")})
	if err != nil {
		return nil, nil, err
	}
	p, err := probe.Open(probe.Options{})
	if err != nil {
		return nil, nil, err
	}
	log := slog.New(slog.DiscardHandler)
	owners := systemd.Owners()
	ctrl := control.New(control.Options{Tasks: p, Owners: owners, Log: log, OneShot: true})
	t := trace.New(p, trace.Options{Log: log, Owners: owners})
	ctrl.Attach(t)
	if err := ctrl.Configure(cfg); err != nil {
		_ = p.Close()
		return nil, nil, err
	}
	loop, cancel := context.WithCancel(context.Background())
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		_ = t.Run(loop)
	}()
	closer := func() {
		ctrl.Close()
		cancel()
		<-stopped
		_ = p.Close()
	}
	select {
	case <-t.Filled():
	case <-ctx.Done():
	case <-stopped:
	}
	if err := sampleOnce(ctx, t, ctrl, p); err != nil {
		closer()
		return nil, nil, err
	}
	noteNoDaemon(c)
	return ctrl, closer, nil
}

// sampleOnce measures processes and host for rules that look at them.
func sampleOnce(ctx context.Context, t *trace.Tracer, ctrl *control.Controller, p *probe.Probe) error {
	pass, err := sample.NewSampler(sample.TaskFunc(p.EachTask), nil).Pass()
	if err != nil {
		return fmt.Errorf("sample: %w", err)
	}
	host := control.Host(sample.NewHostReader("").Read())
	return t.Do(ctx, func(*tracker.Tree) { ctrl.SetSample(pass, host) })
}
