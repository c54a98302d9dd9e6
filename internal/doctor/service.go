// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"time"

	systemd "github.com/coreos/go-systemd/v22/dbus"

	"github.com/abot-trace/abot-trace/internal/api"
	"github.com/abot-trace/abot-trace/internal/config"
	"github.com/abot-trace/abot-trace/internal/notify"
	"github.com/abot-trace/abot-trace/internal/quantity"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// canaryPatience is how long the daemon may go without seeing its own canary.
const canaryPatience = 30 * time.Second

// service looks at the daemon through its socket and through systemd. It reports
// whether a daemon traces.
func (r *Report) service(ctx context.Context, s Settings) (traced bool) {
	client := api.NewClient(s.Socket)
	client.Patience = s.patience()
	status, err := client.Status(ctx)
	var silent *api.UnansweredError
	var refused *api.StatusError
	switch {
	case errors.Is(err, api.ErrNoDaemon):
		r.add("socket", Degraded, "no daemon at "+s.Socket, "start it: systemctl start "+s.Unit)
	case errors.As(err, &silent):
		r.need("socket", Missing, err.Error(), fmt.Sprintf("it was stopped or hangs: systemctl status %s, systemctl restart %s", s.Unit, s.Unit))
	case errors.As(err, &refused) && refused.Forbidden(), errors.Is(err, fs.ErrPermission):
		r.add("socket", Degraded, err.Error(), "run it as root, or join the group of socket.group")
	case err != nil:
		r.need("socket", Missing, err.Error(), fmt.Sprintf("journalctl -u %s may say why", s.Unit))
	default:
		r.add("socket", OK, fmt.Sprintf("daemon %d answers: %s, %s", status.PID, quantity.Count(status.Living, "process"), quantity.Count(status.Orphans, "orphan")), "")
		r.daemon = status
		traced = r.stream(status, time.Now())
		for _, trouble := range status.Conditions {
			r.add("daemon", Degraded, trouble, "it goes on without; its log says since when")
		}
	}
	ctx, cancel := context.WithTimeout(ctx, s.patience())
	defer cancel()
	r.unit(ctx, s)
	return traced
}

// stream tells whether the daemon sees events, and whether it has seen all.
func (r *Report) stream(status *api.Status, now time.Time) bool {
	switch {
	case status.CanarySeen == nil:
		r.add("stream", Degraded, "the daemon has not seen its own canary yet", "try again in ten seconds")
		return false
	case now.Sub(*status.CanarySeen) > canaryPatience:
		r.need("stream", Missing, fmt.Sprintf("the daemon has not seen its own canary for %s", now.Sub(*status.CanarySeen).Round(time.Second)),
			"restart it; if it stays so, report it with the journal of the service")
		return false
	case status.Refused > 0:
		r.add("stream", Degraded, fmt.Sprintf("%d records were lost since the start; the lineage that they held is marked", status.Refused),
			"look for what makes so many processes, or for what keeps the daemon from running")
	default:
		r.add("stream", OK, "complete: no record was lost", "")
	}
	return true
}

// unit asks systemd for the service.
func (r *Report) unit(ctx context.Context, s Settings) {
	if _, err := os.Stat(s.Root + "/run/systemd/system"); err != nil {
		r.add("unit", Degraded, "systemd does not run here", "run the daemon by what does; its events wait in bpffs across a restart")
		return
	}
	conn, err := systemd.NewSystemConnectionContext(ctx)
	if err != nil {
		r.add("unit", Degraded, "cannot ask systemd: "+err.Error(), "install dbus, or look with: systemctl status "+s.Unit)
		return
	}
	defer conn.Close()
	props, err := conn.GetAllPropertiesContext(ctx, s.Unit+".service")
	if err != nil {
		r.add("unit", Degraded, "cannot ask systemd: "+err.Error(), "look with: systemctl status "+s.Unit)
		return
	}
	r.unitState(s.Unit, props)
}

// unitState judges the properties of org.freedesktop.systemd1.Unit and .Service.
func (r *Report) unitState(unit string, props map[string]any) {
	state := fmt.Sprint(props["ActiveState"])
	switch {
	case props["LoadState"] == "not-found":
		r.add("unit", Degraded, unit+".service is not installed", "install the package")
		return
	case state != "active" && state != "reloading":
		r.add("unit", Degraded, fmt.Sprintf("%s.service is %s (%v)", unit, state, props["SubState"]),
			fmt.Sprintf("journalctl -u %s says why; start it: systemctl start %s", unit, unit))
	default:
		r.add("unit", OK, fmt.Sprintf("active, main process %v, %v descriptors kept for a restart, %v restarts",
			props["MainPID"], props["NFileDescriptorStore"], props["NRestarts"]), "")
	}
	r.rateLimit(props)
}

// rateLimit judges the limit that journald puts upon the unit. systemd passes the unit's
// own on only if it is not 0; else that of journald.conf holds, 10,000 messages in 30 s
// by default.
func (r *Report) rateLimit(props map[string]any) {
	const name, hint = "journal rate limit", "set LogRateLimitIntervalSec=1us for the unit, as the package does"
	interval, ok := props["LogRateLimitIntervalUSec"].(uint64)
	switch {
	case !ok || interval > 0 && interval <= 1000:
	case interval == 0:
		r.add(name, Degraded, "the limit of journald.conf holds for the service: journald may drop records, and tells the sender nothing", hint)
	default:
		r.add(name, Degraded, "journald may drop records of the service, and tells the sender nothing", hint)
	}
}

// journald looks for its socket: records go there in its own protocol.
func (r *Report) journald(s Settings) {
	const socket = "/run/systemd/journal/socket"
	conn, err := net.Dial("unixgram", s.Root+socket)
	if err != nil {
		r.add("journald", Degraded, "not reachable: "+err.Error(), "records go to stderr only")
		return
	}
	conn.Close()
	r.add("journald", OK, socket, "")
}

// configuration reads what a daemon would read, as strictly, and returns it, or what holds
// without it.
func (r *Report) configuration(s Settings) *config.Config {
	cfg, err := config.Load(s.Config, config.Options{Trusted: true})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		r.add("configuration", OK, "no "+s.Config+": defaults, without rules", "")
	case err != nil:
		r.add("configuration", Degraded, err.Error(), "abot-trace check "+s.Config)
	default:
		rules, _ := cfg.Policy()
		armed := 0
		for _, rule := range rules {
			if rule.Mode == wire.ModeEnforce {
				armed++
			}
		}
		r.add("configuration", OK, fmt.Sprintf("%s: %s, %d armed", s.Config, quantity.Count(len(rules), "rule"), armed), "")
		for _, problem := range cfg.Problems() {
			r.add("configuration", Degraded, problem, "that webhook gets no notice until it is mended: abot-trace notify-test")
		}
		r.commands(len(cfg.Notify.Exec), helperListens(s.Root))
	}
	if err != nil {
		return config.Default()
	}
	return cfg
}

// helperListens reports whether the helper is a service of its own, whose user runs the
// commands of notify.exec.
func helperListens(root string) bool {
	_, err := os.Stat(root + notify.HelperSocket)
	return err == nil
}

// commands tells whether a daemon that is started here runs the commands of the
// configuration.
func (r *Report) commands(n int, listens bool) {
	if n == 0 || listens {
		return
	}
	if err := notify.CanRunCommands(); err != nil {
		r.add("commands", Degraded, fmt.Sprintf("notify.exec is refused: %v", err),
			"run the service of the package, give the container SETUID and SETGID, or use webhooks")
		return
	}
	r.add("commands", OK, "they run as nobody, or as the user that they name", "")
}

// stopFile tells of the file by which somebody has called off all kills: the daemon's word
// on its own, which another configuration may have named, else what this one says.
func (r *Report) stopFile(cfg *config.Config) {
	stop := wire.Stop{Path: cfg.BudgetSpec().StopFile}
	_, err := os.Lstat(stop.Path)
	stop.InForce = stop.Path != "" && !errors.Is(err, fs.ErrNotExist)
	if r.daemon != nil && r.daemon.StopFile != nil {
		stop = *r.daemon.StopFile
	}
	if !stop.InForce {
		return
	}
	detail := stop.Path + " is there: nothing is ended, whatever the rules say"
	if stop.Reason != "" {
		detail += " (" + stop.Reason + ")"
	}
	r.add("stop file", Degraded, detail, "remove it when kills may go on: abot-trace start-rules")
}
