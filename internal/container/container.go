// SPDX-License-Identifier: Apache-2.0

// Package container finds out the names of containers, their images and pods, without asking
// any engine: from the files that engines, which run as root, keep for themselves. A file
// counts where root alone could have put it there, and of its text, which holds environments
// with secrets, nothing is kept but what [Info] has.
package container

import (
	"sync"
	"time"

	"github.com/abot-trace/abot-trace/internal/procfs"
)

// Info is what is known of a container beside its id; what is not known is empty. Its texts
// were chosen by whoever started the container, and are hostile.
type Info struct {
	Name  string
	Image string // as it was asked for: a reference, with or without a tag
	Pod   Pod
	// Roots says that root alone could have made its control group. Where it is not, nothing
	// else is known, and the group's name makes nobody a container.
	Roots bool
}

// Pod is the Kubernetes pod that a container belongs to.
type Pod struct {
	Namespace, Name, UID string
}

// FullName is namespace/name, empty where the name is not known.
func (p Pod) FullName() string {
	if p.Name == "" {
		return ""
	}
	return p.Namespace + "/" + p.Name
}

// How long an answer holds, a container can be renamed; and one that says nothing.
const (
	refreshAfter = 5 * time.Minute
	retryAfter   = 10 * time.Second
)

// maxEntries bounds what is remembered; a full book starts again.
const maxEntries = 8192

// A Book remembers what was found out about containers. Files are read by a goroutine of its
// own, which lives as long as there is something to read. It is safe for concurrent use.
type Book struct {
	root string // where the file system begins, for tests

	mu      sync.Mutex
	entries map[string]*entry // by the control group's path
	queue   []procfs.ContainerGroup
	reading bool
}

type entry struct {
	info   Info
	readAt time.Time // zero before the first time
	queued bool
	read   chan struct{} // closed when it was read for the first time
}

// Host is the book of this machine.
var Host = NewBook("/")

// NewBook returns a book of the machine whose file system begins at root.
func NewBook(root string) *Book {
	return &Book{root: root, entries: make(map[string]*entry)}
}

// Get returns what is known of a group's container, without waiting. Known is false while its
// files have not been looked at; they soon will be. Of a group that no engine's name can be
// believed of there is nothing to know.
func (b *Book) Get(g procfs.ContainerGroup) (info Info, known bool) {
	if g.ID == "" || g.Own {
		return Info{}, true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.entry(g)
	return e.info, !e.readAt.IsZero()
}

// Await is Get that waits, no longer than most, for the first look at the files.
func (b *Book) Await(g procfs.ContainerGroup, most time.Duration) (info Info, known bool) {
	if g.ID == "" || g.Own {
		return Info{}, true
	}
	b.mu.Lock()
	e := b.entry(g)
	b.mu.Unlock()
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-e.read:
	case <-timer.C:
	}
	return b.Get(g)
}

// entry returns a group's entry, and has its files read where that is due. With mu.
func (b *Book) entry(g procfs.ContainerGroup) *entry {
	e := b.entries[g.Path]
	if e == nil {
		if len(b.entries) >= maxEntries {
			clear(b.entries)
		}
		e = &entry{read: make(chan struct{})}
		b.entries[g.Path] = e
	}
	if !e.queued && e.isDue(time.Now()) {
		e.queued = true
		b.queue = append(b.queue, g)
		if !b.reading {
			b.reading = true
			go b.readQueue()
		}
	}
	return e
}

func (e *entry) isDue(now time.Time) bool {
	hold := refreshAfter
	if e.info.Name == "" {
		hold = retryAfter
	}
	return e.readAt.IsZero() || now.Sub(e.readAt) > hold
}

// readQueue reads until nothing is left to read.
func (b *Book) readQueue() {
	for {
		b.mu.Lock()
		if len(b.queue) == 0 {
			b.reading = false
			b.mu.Unlock()
			return
		}
		g := b.queue[0]
		b.queue = b.queue[1:]
		b.mu.Unlock()

		info := b.look(g)
		b.mu.Lock()
		// Where the book has started again meanwhile, nobody waits for it.
		if e := b.entries[g.Path]; e != nil {
			b.take(e, info)
		}
		b.mu.Unlock()
	}
}

// take notes what was found. What was known stays where nothing is found any more: its files
// are gone before the last of its processes is. With mu.
func (b *Book) take(e *entry, info Info) {
	if info.Name != "" || e.info.Name == "" {
		e.info = info
	}
	if e.readAt.IsZero() {
		close(e.read)
	}
	e.readAt, e.queued = time.Now(), false
}
