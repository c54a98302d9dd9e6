// SPDX-License-Identifier: Apache-2.0

package control

import (
	"math"

	"github.com/abot-trace/abot-trace/internal/policy"
	"github.com/abot-trace/abot-trace/internal/sample"
)

// Host turns what was measured into what rules see; NaN where it was not.
func Host(h sample.Host) policy.Host {
	p := policy.UnknownHost()
	if m := h.Memory; m != nil {
		p.MemoryPercent, p.MemoryAvailableBytes, p.MemoryTotalBytes = m.Percent(), float64(m.Available), float64(m.Total)
	}
	p.SwapPercent = 0
	if h.Swap != nil {
		p.SwapPercent = h.Swap.Percent()
	}
	if c := h.CPU; c != nil {
		p.CPUPercent, p.CPUs = c.Percent, float64(c.Cores)
	}
	if l := h.Load; l != nil {
		p.Load1, p.Load5, p.Load15 = l[0], l[1], l[2]
	}
	some := func(resource string) float64 {
		if pressure, ok := h.Pressure[resource]; ok {
			return pressure.Some.Avg10
		}
		return math.NaN()
	}
	p.MemoryPressure, p.CPUPressure, p.IOPressure = some("memory"), some("cpu"), some("io")
	return p
}
