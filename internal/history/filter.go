// SPDX-License-Identifier: Apache-2.0

package history

import "math/bits"

// A filter says which pids a block is not about: a Bloom filter (B. H. Bloom, 1970) of
// ten bits a pid and four probes, wrong about one in a hundred of those that it names.
type filter []byte

const (
	filterBits   = 10
	filterProbes = 4
)

func newFilter(pids map[int32]struct{}) filter {
	f := make(filter, (len(pids)*filterBits+7)/8)
	for pid := range pids {
		f.probe(pid, func(at uint32) bool { f[at/8] |= 1 << (at % 8); return true })
	}
	return f
}

// has reports false where the block certainly has nothing about pid.
func (f filter) has(pid int32) bool {
	return len(f) > 0 && f.probe(pid, func(at uint32) bool { return f[at/8]&(1<<(at%8)) != 0 })
}

// probe calls fn with the bits of pid until it returns false.
func (f filter) probe(pid int32, fn func(uint32) bool) bool {
	h := uint64(uint32(pid)) * 0x9e3779b97f4a7c15 // Fibonacci hashing, Knuth 6.4
	h ^= h >> 29
	a, b := uint32(h), uint32(h>>32)|1
	n := uint64(len(f)) * 8
	for i := range uint32(filterProbes) {
		// Its place in the filter, without a division.
		at, _ := bits.Mul64(uint64(a+i*b)<<32, n)
		if !fn(uint32(at)) {
			return false
		}
	}
	return true
}
