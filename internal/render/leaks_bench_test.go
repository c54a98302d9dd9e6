// SPDX-License-Identifier: Apache-2.0

package render

import (
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/wire"
)

func BenchmarkLeaks10000(b *testing.B) {
	list := make([]wire.Leak, 10000)
	for i := range list {
		list[i] = leaks()[0]
		list[i].ID = fmt.Sprintf("L%012x", i)
		list[i].OpenedAt = *ago(time.Duration(i) * time.Second)
	}
	for b.Loop() {
		if err := Leaks(io.Discard, list, now, Style{Width: 120}); err != nil {
			b.Fatal(err)
		}
	}
}
