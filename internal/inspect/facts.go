// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"slices"

	"github.com/abot-trace/abot-trace/internal/describe"
	"github.com/abot-trace/abot-trace/internal/event"
	"github.com/abot-trace/abot-trace/internal/procfs"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// addFacts adds what only procfs knows. What cannot be read is not known, and absent.
func (n *Inspector) addFacts(list []wire.Process, facts []string) {
	cwd, ports := slices.Contains(facts, wire.FactCwd), slices.Contains(facts, wire.FactPorts)
	if !cwd && !ports || n.past {
		return
	}
	var table procfs.Ports
	for i := range list {
		w := &list[i]
		if w.State != wire.StateRunning || w.Kthread {
			continue
		}
		p, err := n.proc.OpenID(event.ID{PID: w.PID, Start: w.StartNS})
		if err != nil {
			continue
		}
		if cwd {
			w.Cwd, _ = p.Cwd()
		}
		if ports {
			held, _ := table.Of(p)
			w.Ports = append(w.Ports, describe.Ports(held)...)
		}
		_ = p.Close()
	}
}
