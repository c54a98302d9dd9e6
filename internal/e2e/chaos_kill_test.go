// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestChaosKilled kills daemons at random moments while a shell forks without pause
// and parents die. No orphan is missed, and each has its leaker and its verdict.
func TestChaosKilled(t *testing.T) {
	const perKill = 3
	kills := either(6, 50)
	d := newKept(t, ruleless)
	d.start()
	startStorm(t, 1000*kills, "(:)")
	var pairs []*pair
	for kill := range kills {
		three := pairsOf(t, perKill, fmt.Sprintf("kill %d, pair", kill))
		pairs = append(pairs, three...)
		<-time.After(time.Duration(rand.IntN(300)) * time.Millisecond)
		three[2].killMain()
		d.endBy(unix.SIGKILL)
		three[1].killMain()
		d.launch()
		three[0].killMain()
	}
	d.ready()
	d.wantLeaks(pairs, kills)
	d.wantComplete()
}
