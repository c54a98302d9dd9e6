// SPDX-License-Identifier: Apache-2.0

package policy

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// HeldFor is how long what was read of a process's descriptors serves.
const HeldFor = 30 * time.Second

// Held is what a process was read to hold.
type Held struct {
	At    uint64   // CLOCK_BOOTTIME, ns
	Ports []uint16 // that it listens on
	GPU   bool     // a graphics or compute device
}

// held is what the candidate holds, nil where that is not known now: then it was asked for, and
// whoever asks for it is to look again.
func (c *candidate) held() *Held {
	if h := c.p.Held; h != nil && age(c.now, h.At) <= HeldFor {
		return h
	}
	c.unread = true
	if c.p.AskHeld != nil {
		c.p.AskHeld(c.p.ID)
	}
	return nil
}

// A readCondition looks at what has to be read of the process: it is asked only where all
// others hold.
type readCondition interface{ reads() }

const notRead = "what it holds is not read yet, or cannot be"

// A PortRange is ports from First to Last.
type PortRange struct{ First, Last uint16 }

// ParsePortRange reads a port from 1 to 65535, or a range of them: 5173, 8000-8099.
func ParsePortRange(text string) (r PortRange, ok bool) {
	from, to, isRange := strings.Cut(text, "-")
	if !isRange {
		to = from
	}
	first, errFirst := strconv.ParseUint(from, 10, 16)
	last, errLast := strconv.ParseUint(to, 10, 16)
	return PortRange{uint16(first), uint16(last)}, errFirst == nil && errLast == nil && first != 0 && first <= last
}

// Has reports whether the port is one of these.
func (r PortRange) Has(port uint16) bool { return r.First <= port && port <= r.Last }

// listensOn holds where the process listens on one of the ports.
type listensOn []PortRange

// parsePorts reads ports and ranges of them.
func parsePorts(texts []string) (listensOn, error) {
	var ports listensOn
	for _, text := range texts {
		r, ok := ParsePortRange(text)
		if !ok {
			return nil, fmt.Errorf("%q is no port from 1 to 65535, and no range of them as 8000-8099", text)
		}
		ports = append(ports, r)
	}
	return ports, nil
}

func (listensOn) reads() {}

// find returns a port of h's that is one of these, 0 where none is.
func (l listensOn) find(h *Held) uint16 {
	for _, port := range h.Ports {
		if slices.ContainsFunc(l, func(r PortRange) bool { return r.Has(port) }) {
			return port
		}
	}
	return 0
}

func (l listensOn) holds(c *candidate) (bool, uint64) {
	h := c.held()
	return h != nil && l.find(h) != 0, 0
}

func (l listensOn) describe(c *candidate) string {
	h := c.held()
	switch {
	case h == nil:
		return notRead
	case l.find(h) != 0:
		return fmt.Sprintf("it listens on port %d", l.find(h))
	default:
		return "it listens on none of these ports"
	}
}

// holdsGPU holds where the process has a graphics or compute device open.
type holdsGPU struct{}

func (holdsGPU) reads() {}

func (holdsGPU) holds(c *candidate) (bool, uint64) {
	h := c.held()
	return h != nil && h.GPU, 0
}

func (holdsGPU) describe(c *candidate) string {
	h := c.held()
	switch {
	case h == nil:
		return notRead
	case h.GPU:
		return "it has a GPU device open"
	default:
		return "it has no GPU device open"
	}
}
