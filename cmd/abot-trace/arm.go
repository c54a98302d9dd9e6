// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/urfave/cli/v2"

	"github.com/abot-trace/abot-trace/internal/api"
	"github.com/abot-trace/abot-trace/internal/config"
	"github.com/abot-trace/abot-trace/internal/nearest"
	"github.com/abot-trace/abot-trace/internal/policy"
	"github.com/abot-trace/abot-trace/internal/render"
	"github.com/abot-trace/abot-trace/internal/replay"
	"github.com/abot-trace/abot-trace/internal/rootfile"
	"github.com/abot-trace/abot-trace/internal/safetext"
	"github.com/abot-trace/abot-trace/internal/wire"
)

func armCommand() *cli.Command {
	return &cli.Command{
		Name:      "arm",
		Usage:     "let a rule end what it matches, after a look at what it would have ended",
		ArgsUsage: "RULE",
		Description: `Tries the rule on the events that the daemon remembers, and shows what it would have
ended, how much that held, and what became of it without the rule. Then it asks, writes a
drop-in into conf.d, and has the daemon take it. An armed rule begins with a limit of leaks
within 24 hours. Only root may; --list is for everyone who may ask the daemon.

Examples:
   sudo abot-trace arm stale-python-workers
   sudo abot-trace arm stale-python-workers --per-day 5 --yes --reason 'tried for two weeks'
   abot-trace arm --list`,
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "list", Usage: "what is armed since when and by whom, and what it has ended"},
			&cli.IntFlag{Name: "per-day", Value: 10, Usage: "let it end at most `N` leaks within 24 hours, 1 to 1000; 0 sets no limit"},
			&cli.StringFlag{Name: "reason", Usage: "why, as a `TEXT` for those who come later"},
			&cli.BoolFlag{Name: "yes", Aliases: []string{"y"}, Usage: "do not ask"},
			configFlag(), jsonFlag(), colorFlag(), socketFlag(),
		},
		Action: func(c *cli.Context) error {
			if c.Bool("list") {
				return listArmed(c)
			}
			if c.Bool("json") {
				return usageError("arm: --json is for --list only")
			}
			return arm(c)
		},
	}
}

func disarmCommand() *cli.Command {
	return &cli.Command{
		Name:      "disarm",
		Usage:     "have a rule that arm has armed say again what it would end",
		ArgsUsage: "RULE",
		Description: `Removes the drop-in that arm has written, and has the daemon take that. Only root may.

Examples:
   sudo abot-trace disarm stale-python-workers`,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "reason", Usage: "why, as a `TEXT` for those who come later"},
			configFlag(), socketFlag(),
		},
		Action: disarm,
	}
}

// An arming is what arm and disarm work on: the daemon, and a rule of its configuration.
type arming struct {
	client *api.Client
	name   string // the rule's
	config string // the path of the daemon's configuration, as root has named it
	path   string // the drop-in that arms the rule
}

// openArming finds the daemon and where its configuration is.
func openArming(ctx context.Context, c *cli.Context) (*arming, error) {
	if c.NArg() != 1 {
		return nil, usageError("%s: want one RULE", c.Command.Name)
	}
	name := c.Args().First()
	if filepath.Base(name) != name {
		return nil, usageError("%s: %q is not the name of a rule", c.Command.Name, name)
	}
	if os.Geteuid() != 0 {
		return nil, withHint(fmt.Errorf("permission denied: only root may %s a rule", c.Command.Name), "run it as root")
	}
	client, err := daemonAt(ctx, c)
	if err != nil {
		return nil, err
	}
	status, err := client.Status(ctx)
	if err != nil {
		return nil, explained(err)
	}
	path, err := filepath.Abs(c.String("config"))
	if err != nil {
		return nil, err
	}
	// The daemon's answer is compared and no more: it may run as another user, who could
	// have root write and remove what he names.
	if status.Config != path {
		return nil, withHint(fmt.Errorf("the daemon's configuration is %s, not %s", safetext.Terminal(cmp.Or(status.Config, "not told")), path),
			"--config names it")
	}
	dir := filepath.Join(filepath.Dir(path), "conf.d")
	return &arming{client: client, name: name, config: path, path: filepath.Join(dir, "armed-"+name+".yaml")}, nil
}

// find returns the rule, and the configuration that it is in.
func (a *arming) find(command string) (*config.Config, *policy.Rule, error) {
	cfg, err := config.Load(a.config, config.Options{Trusted: true})
	if err != nil {
		return nil, nil, invalidConfig(err)
	}
	rules, _ := cfg.Policy()
	names := make([]string, len(rules))
	for i := range rules {
		if names[i] = rules[i].Name; names[i] == a.name {
			return cfg, &rules[i], nil
		}
	}
	return nil, nil, usageError("%s: no rule is named %q%s", command, a.name, nearest.Hint(a.name, names...))
}

func arm(c *cli.Context) error {
	ctx, stop := interruptible(c)
	defer stop()
	if n := c.Int("per-day"); n < 0 || n > 1000 {
		return usageError("--per-day %d: want 1 to 1000, or 0 for no limit", n)
	}
	a, err := openArming(ctx, c)
	if err != nil {
		return err
	}
	cfg, rule, err := a.find("arm")
	switch {
	case err != nil:
		return err
	case rule.Mode == wire.ModeEnforce:
		return fmt.Errorf("rule %q is armed already", a.name)
	case rule.Action == policy.ActionNotify:
		return fmt.Errorf("rule %q only notifies: there is nothing to arm", a.name)
	}
	_, protect := cfg.Policy()
	list, summary, err := a.try(ctx, *rule, protect)
	if err != nil {
		return err
	}
	if err := render.Trial(c.App.Writer, a.name, list, &summary, time.Now(), styleOf(c)); err != nil {
		return err
	}
	if err := a.askArm(c); err != nil {
		return err
	}
	return a.arm(ctx, c)
}

// try plays the rule over what the daemon remembers.
func (a *arming) try(ctx context.Context, rule policy.Rule, protect policy.Protect) ([]replay.Tried, replay.Summary, error) {
	trial, err := replay.NewTrial(rule, protect)
	if err != nil {
		return nil, replay.Summary{}, err
	}
	if err := a.client.Events(ctx, nil, 0, false, trial.Apply); err != nil {
		return nil, replay.Summary{}, explained(err)
	}
	leaks, err := a.client.Leaks(ctx, "")
	if err != nil {
		return nil, replay.Summary{}, explained(err)
	}
	return trial.End(leaks.Leaks)
}

// askArm asks whether to go on; its error is that nobody wants that.
func (a *arming) askArm(c *cli.Context) error {
	limit := "without a limit"
	if n := c.Int("per-day"); n > 0 {
		limit = fmt.Sprintf("at most %d within 24 hours", n)
	}
	fmt.Fprintf(c.App.Writer, "Armed, it ends such leaks, %s; %s is written.\n", limit, a.path)
	switch {
	case c.Bool("yes"):
		return nil
	case !isTerminal(c.App.Reader):
		return usageError("arm: standard input is no terminal: --yes arms it without a question")
	case !answersYes(c.App.ErrWriter, bufio.NewReader(c.App.Reader), "Arm rule "+safetext.Field(a.name)+"?"):
		return errors.New("nothing was armed: the answer was no")
	}
	return nil
}

// arm writes the drop-in and has the daemon take it; where that refuses, all is as before.
func (a *arming) arm(ctx context.Context, c *cli.Context) error {
	type armed struct {
		Rule        string `yaml:"rule"`
		By          string `yaml:"by"`
		Time        string `yaml:"time"`
		LeaksPerDay int    `yaml:"leaks_per_day"`
	}
	text, err := yaml.Marshal(map[string][]armed{"armed": {{a.name, whoArms(), time.Now().UTC().Format(time.RFC3339), c.Int("per-day")}}})
	if err != nil {
		return err
	}
	dir, err := rootfile.Root.MakeDir(filepath.Dir(a.path), 0o755)
	if err != nil {
		return err
	}
	defer dir.Close()
	head := "# Written by abot-trace arm; abot-trace disarm removes it.\n"
	if err := dir.Replace(filepath.Base(a.path), append([]byte(head), text...), 0o644); err != nil {
		return fmt.Errorf("write %s: %w", a.path, err)
	}
	if err := a.client.Reload(ctx, api.ReloadRequest{Action: wire.TrustArm, Rule: a.name, Reason: c.String("reason")}); err != nil {
		return errors.Join(notTaken(err), dir.Remove(filepath.Base(a.path)))
	}
	_, err = fmt.Fprintf(c.App.Writer, "Rule %s is armed.\n", safetext.Field(a.name))
	return err
}

// notTaken says what holds where the daemon has not answered well to an arming that is
// withdrawn.
func notTaken(err error) error {
	if refused := (*api.StatusError)(nil); errors.As(err, &refused) {
		return fmt.Errorf("nothing was armed: %w", explained(err))
	}
	return withHint(fmt.Errorf("whether the daemon has armed it is not known: %w", explained(err)),
		"the drop-in is removed again: reload the daemon, and see abot-trace arm --list")
}

// whoArms is the user who asks, also where sudo made root of him.
func whoArms() string {
	if name := os.Getenv("SUDO_USER"); name != "" {
		return name
	}
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "root"
}

func disarm(c *cli.Context) error {
	ctx, stop := interruptible(c)
	defer stop()
	a, err := openArming(ctx, c)
	if err != nil {
		return err
	}
	switch err := a.remove(); {
	case errors.Is(err, fs.ErrNotExist):
		return a.notArmed()
	case err != nil:
		return err
	}
	if err := a.client.Reload(ctx, api.ReloadRequest{Action: wire.TrustDisarm, Rule: a.name, Reason: c.String("reason")}); err != nil {
		return fmt.Errorf("%s is removed, but the daemon has not taken that: %w", a.path, explained(err))
	}
	cfg, rule, err := a.find("disarm")
	switch {
	case err != nil:
		return err
	case rule.Mode == wire.ModeEnforce:
		return withHint(fmt.Errorf("%s is removed, but rule %q is armed by another file too", a.path, a.name),
			"its mode, or enforce, says so in one of %s", strings.Join(cfg.Files, ", "))
	}
	_, err = fmt.Fprintf(c.App.Writer, "Rule %s is disarmed.\n", safetext.Field(a.name))
	return err
}

// remove removes the drop-in, also one without which the configuration would be valid.
func (a *arming) remove() error {
	dir, err := rootfile.Root.OpenDir(filepath.Dir(a.path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Remove(filepath.Base(a.path))
}

// notArmed says why there is nothing to disarm.
func (a *arming) notArmed() error {
	cfg, rule, err := a.find("disarm")
	switch {
	case err != nil:
		return err
	case rule.Mode == wire.ModeEnforce:
		return withHint(fmt.Errorf("rule %q was not armed by abot-trace arm", a.name),
			"its mode, or enforce, says so in one of %s", strings.Join(cfg.Files, ", "))
	}
	return fmt.Errorf("rule %q is not armed", a.name)
}

// listArmed shows the rules that are armed, with --json all of them.
func listArmed(c *cli.Context) error {
	if err := noArgs(c); err != nil {
		return err
	}
	ctx, stop := interruptible(c)
	defer stop()
	client, err := daemonAt(ctx, c)
	if err != nil {
		return err
	}
	list, err := client.Rules(ctx)
	if err != nil {
		return explained(err)
	}
	if c.Bool("json") {
		return writeJSON(c.App.Writer, list)
	}
	list = slices.DeleteFunc(list, func(r wire.RuleStatus) bool { return r.Mode != wire.ModeEnforce })
	return render.Armed(c.App.Writer, list, time.Now(), styleOf(c))
}
