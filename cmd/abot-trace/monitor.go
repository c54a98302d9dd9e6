// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/abot-trace/abot-trace/internal/api"
	"github.com/abot-trace/abot-trace/internal/config"
	"github.com/abot-trace/abot-trace/internal/monitor"
	"github.com/abot-trace/abot-trace/internal/render"
	"github.com/abot-trace/abot-trace/internal/sample"
	"github.com/abot-trace/abot-trace/internal/wire"
)

const (
	exitUnknown = 3
	// lookTime is over which one look measures the share of CPU.
	lookTime = 500 * time.Millisecond
)

func monitorCommand() *cli.Command {
	return &cli.Command{
		Name:  "monitor",
		Usage: "look once at what the host and its processes use",
		Description: `Holds memory, CPU, file systems, old orphans and large processes against the
thresholds of the configuration. Exits 0 where all is well, 1 at a warning, 2 at a
critical value, 3 where something could not be measured. Orphans are known only to a
running daemon: where one is expected and does not answer that is unknown, too.

Examples:
   abot-trace monitor
   abot-trace monitor --watch
   */30 * * * * root abot-trace monitor --quiet
   abot-trace monitor --json | jq '.checks[] | select(.status != "ok")'`,
		Flags: []cli.Flag{
			configFlag(), jsonFlag(),
			&cli.BoolFlag{Name: "watch", Usage: "look again every two seconds, until interrupted"},
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, Usage: "print only what is not ok, and nothing where all is: for cron"},
			colorFlag(), socketFlag(), noDaemonFlag(),
		},
		Action: func(c *cli.Context) error {
			if err := noArgs(c); err != nil {
				return unknownAtLeast(err)
			}
			return unknownAtLeast(runMonitor(c))
		},
	}
}

func configFlag() cli.Flag {
	return &cli.StringFlag{Name: "config", Usage: "read the configuration `FILE`", Value: config.DefaultPath}
}

// unknownAtLeast makes every error exit with 3: to whoever watches the exit code, a
// monitor that cannot look is neither a warning nor critical.
func unknownAtLeast(err error) error {
	var exit *exitError
	if err == nil || errors.As(err, &exit) && exit.err == nil {
		return err
	}
	return &exitError{exitUnknown, err}
}

func runMonitor(c *cli.Context) error {
	cfg, err := loadConfig(c, config.Options{})
	if err != nil {
		return err
	}
	ctx, stop := interruptible(c)
	defer stop()
	m := &samplerState{command: c, settings: monitor.FromConfig(cfg.Monitor), host: sample.NewHostReader(""),
		tasks: sample.NewSampler(sample.Procfs{}, nil), daemon: api.NewClient(c.String("socket"))}
	// The first look only begins the measurement of CPU.
	m.measure()
	if !pause(ctx, lookTime) {
		return ctx.Err()
	}
	var status string
	draw := func() error {
		look := m.sample(ctx)
		doc := monitor.Report(m.settings, look)
		status = doc.Status
		if m.trouble != nil {
			printError(c.App.ErrWriter, fmt.Errorf("nothing is known of orphans: %w", m.trouble), c.Command.Name)
		}
		if c.Bool("quiet") {
			if doc.Status == wire.AlertOK {
				return nil
			}
			doc.Checks = slices.DeleteFunc(doc.Checks, func(check wire.Check) bool { return check.Status == wire.AlertOK })
		}
		if c.Bool("json") {
			return writeJSON(c.App.Writer, doc)
		}
		return render.Monitor(c.App.Writer, &doc, styleOf(c))
	}
	if c.Bool("watch") {
		return watch(ctx, c, draw)
	}
	if err := draw(); err != nil {
		return err
	}
	if code := monitor.ExitCode(status); code != exitOK {
		return &exitError{code: code}
	}
	return nil
}

// loadConfig reads the configuration that --config names. Without the flag a missing
// file is the default configuration.
func loadConfig(c *cli.Context, o config.Options) (*config.Config, error) {
	cfg, err := config.Load(c.String("config"), o)
	if errors.Is(err, fs.ErrNotExist) && !c.IsSet("config") {
		return config.Default(), nil
	}
	if err != nil {
		return nil, invalidConfig(err)
	}
	return cfg, nil
}

func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// samplerState gathers what one look needs.
type samplerState struct {
	settings monitor.Settings
	host     *sample.HostReader
	tasks    *sample.Sampler
	command  *cli.Context
	daemon   *api.Client
	trouble  error // why the daemon did not tell of orphans
}

// measure looks at host and processes, and asks no daemon.
func (m *samplerState) measure() monitor.Snapshot {
	l := monitor.Snapshot{Time: time.Now(), Host: m.host.Read()}
	// What cannot be listed is a check with status unknown.
	if pass, err := m.tasks.Pass(); err == nil {
		l.Pass = pass
	}
	return l
}

func (m *samplerState) sample(ctx context.Context) monitor.Snapshot {
	l := m.measure()
	if m.command.Bool("no-daemon") {
		return l
	}
	orphans, err := m.daemon.Orphans(ctx)
	l.Orphans, l.OrphansKnown = orphans, err == nil
	if m.trouble = explained(err); err == nil {
		return l
	}
	if errors.Is(err, api.ErrNoDaemon) {
		missed := missedDaemon(m.command, err)
		if missed == nil { // none is expected
			return l
		}
		m.trouble = missed
	}
	l.OrphansError = m.trouble.Error()
	return l
}
