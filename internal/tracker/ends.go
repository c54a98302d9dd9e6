// SPDX-License-Identifier: Apache-2.0

package tracker

// ends holds how the dead have died, each in a place that its node names: in a map by
// nodes it took as long to keep and to forget an end as the rest of a death. Place 0 is
// that of nobody.
type ends struct {
	places []end
	free   []int32
}

func newEnds() ends { return ends{places: make([]end, 1)} }

// put keeps e and returns its place.
func (t *ends) put(e end) int32 {
	if n := len(t.free); n > 0 {
		place := t.free[n-1]
		t.free = t.free[:n-1]
		t.places[place] = e
		return place
	}
	t.places = append(t.places, e)
	return int32(len(t.places) - 1)
}

// drop forgets what is in the place.
func (t *ends) drop(place int32) {
	if place != 0 {
		t.places[place] = end{}
		t.free = append(t.free, place)
	}
}

// used is how many ends there are.
func (t *ends) used() int { return len(t.places) - 1 - len(t.free) }

// endOf returns how a dead process ended.
func (t *Tree) endOf(r ref) *end { return &t.ends.places[t.at(r).end] }
