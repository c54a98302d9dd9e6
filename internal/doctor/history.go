// SPDX-License-Identifier: Apache-2.0

package doctor

import (
	"fmt"

	"github.com/abot-trace/abot-trace/internal/quantity"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// shortHistory is what a history should reach back, once it is full, s.
const shortHistory = 24 * 3600

// history tells what the daemon keeps of the past, and for how long that will do.
func (r *Report) history() {
	if r.daemon == nil || r.daemon.Schema == 0 {
		return // none answers, or one of an older version
	}
	h := r.daemon.History
	switch {
	case h == nil:
		r.add("history", Degraded, "the daemon keeps none: what happened is forgotten with the last 4,096 events",
			"remove history: off from the configuration, or give the daemon a state directory, and restart it")
	case h.Error != "":
		r.add("history", Degraded, h.Error, "make room on the file system of the daemon's state, or lower history.size")
	case h.Lost+h.Damaged > 0:
		r.add("history", Degraded, fmt.Sprintf("%d entries were not taken by the disk and %d not given back, since the daemon's start", h.Lost, h.Damaged),
			"look for what is wrong with the disk: dmesg, df")
	case shortest(&h.Stream) < shortHistory:
		r.add("history", Degraded, "at this rate it reaches back for "+quantity.FormatDuration(quantity.Seconds(shortest(&h.Stream)))+" only",
			"raise history.size")
	case h.Stream.Since == nil:
		r.add("history", OK, "nothing is kept yet", "")
	default:
		r.add("history", OK, fmt.Sprintf("since %s, %s of %s", h.Stream.Since.Format("2006-01-02 15:04:05"), quantity.FormatSize(h.Stream.Bytes),
			quantity.FormatSize(h.Stream.LimitBytes)), "")
	}
}

// shortest is for how many seconds its size will do at the rate at which it grows; its age
// where that is not known.
func shortest(k *wire.StatusKept) float64 {
	if k.BytesPerDay == nil || *k.BytesPerDay <= 0 {
		return max(k.LimitAge, shortHistory)
	}
	return float64(k.LimitBytes) / *k.BytesPerDay * 86400
}
