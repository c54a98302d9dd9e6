// SPDX-License-Identifier: Apache-2.0

package tracker

// An interned names one value of a table; 0 is the zero value, which every table
// holds for ever.
type interned uint32

// A table keeps one copy of each value that processes share (command lines pass
// from parent to child by fork), counts its users and forgets it with the last.
type table[T comparable] struct {
	ids    map[T]interned
	values []T
	users  []uint32
	free   []interned
	size   func(T) int // of what a value refers to, in bytes; nil where that is nothing
	bytes  int         // the sum of all
}

func newTable[T comparable](size func(T) int) table[T] {
	return table[T]{size: size, ids: make(map[T]interned), values: make([]T, 1), users: make([]uint32, 1)}
}

// put returns the name of v, with one user more.
func (t *table[T]) put(v T) interned {
	var zero T
	if v == zero {
		return 0
	}
	if i, ok := t.ids[v]; ok {
		t.users[i]++
		return i
	}
	var i interned
	if n := len(t.free); n > 0 {
		i, t.free = t.free[n-1], t.free[:n-1]
		t.values[i], t.users[i] = v, 1
	} else {
		i = interned(len(t.values))
		t.values, t.users = append(t.values, v), append(t.users, 1)
	}
	t.ids[v] = i
	if t.size != nil {
		t.bytes += t.size(v)
	}
	return i
}

// share returns i, with one user more.
func (t *table[T]) share(i interned) interned {
	if i != 0 {
		t.users[i]++
	}
	return i
}

// drop takes one user away.
func (t *table[T]) drop(i interned) {
	if i == 0 {
		return
	}
	if t.users[i]--; t.users[i] > 0 {
		return
	}
	var zero T
	if t.size != nil {
		t.bytes -= t.size(t.values[i])
	}
	delete(t.ids, t.values[i])
	t.values[i] = zero
	t.free = append(t.free, i)
}

// get returns the value that i names.
func (t *table[T]) get(i interned) T { return t.values[i] }
