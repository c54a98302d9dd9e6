// SPDX-License-Identifier: Apache-2.0

package notify

import "cmp"

// Record is Notify for an event of which people have said that they know it: it goes to the
// records, and to no hook.
func (d *Dispatcher) Record(e *Event) bool {
	settings := d.settings.Load()
	if SeverityOf(e) < settings.Journald {
		return true
	}
	if !d.quota.admit(e, cmp.Or(settings.PerUser, DefaultPerUser)) {
		return false
	}
	d.records.Send(RecordOf(e))
	return true
}
