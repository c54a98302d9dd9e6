// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"github.com/abot-trace/abot-trace/internal/alert"
	"github.com/abot-trace/abot-trace/internal/config"
)

// FromConfig returns the settings of a configuration, which is valid.
func FromConfig(c config.Monitor) Settings {
	thresholds := func(t config.Threshold) alert.Thresholds {
		return alert.Thresholds{Warning: t.Warning.Value, Critical: t.Critical.Value}
	}
	var exclude []string
	for _, glob := range c.Disk.Exclude {
		exclude = append(exclude, glob.Value)
	}
	return Settings{DiskExclude: exclude, MemoryFor: c.Memory.For.Value, CPUFor: c.CPU.For.Value, DiskFor: c.Disk.For.Value,
		Alerts:   alert.Settings{Hold: c.Hold.Value},
		Interval: c.Interval.Value, Memory: thresholds(c.Memory), CPU: thresholds(c.CPU), Disk: thresholds(c.Disk),
		OrphanAge: c.OrphanAge.Value, ProcessMemory: c.ProcessMemory.Bytes}
}
