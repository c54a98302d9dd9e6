// SPDX-License-Identifier: Apache-2.0

package event

import "testing"

func TestCouldSignal(t *testing.T) {
	for _, test := range []struct {
		name string
		from UIDs
		to   UIDs
		want bool
	}{
		{"root, anyone", UIDs{0, 0, 0}, UIDs{33, 33, 33}, true},
		{"root, a setuid program", UIDs{0, 0, 0}, UIDs{1000, 0, 0}, true},
		{"a user, his own", UIDs{7, 7, 7}, UIDs{7, 7, 7}, true},
		{"a user, root's", UIDs{7, 7, 7}, UIDs{0, 0, 0}, false},
		{"a user, another's", UIDs{7, 7, 7}, UIDs{8, 8, 8}, false},
		{"a user, a setuid program that he began", UIDs{7, 7, 7}, UIDs{7, 0, 0}, false},
		{"a user, who acts for him", UIDs{7, 7, 7}, UIDs{7, 9, 7}, true},
		{"a setuid program, root's", UIDs{7, 0, 0}, UIDs{0, 0, 0}, false},
		{"a setuid program, its user's", UIDs{7, 0, 0}, UIDs{7, 7, 7}, true},
		{"a setgid-like switch of the saved id alone", UIDs{7, 7, 0}, UIDs{0, 0, 0}, false},
		{"root's, which took a user's ids for a while, root's", UIDs{0, 33, 0}, UIDs{0, 0, 0}, true},
		{"root's that a user can end, root's", UIDs{0, 33, 33}, UIDs{0, 0, 0}, false},
		{"a service that gave root's ids up for a while, its worker that did too", UIDs{13, 13, 0}, UIDs{13, 0, 0}, true},
		{"a service that gave root's ids up for a while, root's", UIDs{13, 13, 0}, UIDs{0, 0, 0}, false},
		{"two users can end it", UIDs{7, 7, 8}, UIDs{7, 7, 7}, false},
	} {
		if got := test.from.CouldSignal(test.to); got != test.want {
			t.Errorf("%s: %v", test.name, got)
		}
	}
}
