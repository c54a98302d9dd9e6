// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"math"
	"reflect"
	"testing"
)

func TestFigures(t *testing.T) {
	h := UnknownHost()
	if f := h.Figures(); len(f) != 0 {
		t.Errorf("of an unknown host: %v", f)
	}
	h.MemoryPercent, h.Load15, h.SwapPercent = 85.5, 3, 0
	f := h.Figures()
	if want := map[string]float64{"memory_percent": 85.5, "load15": 3, "swap_percent": 0}; !reflect.DeepEqual(f, want) {
		t.Errorf("%v, want %v", f, want)
	}
	again := HostOf(f)
	if again.MemoryPercent != 85.5 || again.Load15 != 3 || again.SwapPercent != 0 || !math.IsNaN(again.CPUPercent) {
		t.Errorf("%+v", again)
	}
}
