// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/abot-trace/abot-trace/bpf"
)

// A Store keeps kernel objects alive while no process of ours runs, so that the
// programs go on and their records wait. One process at a time uses it.
type Store interface {
	// Names lists what is kept, also what others than this package have put there.
	Names() ([]string, error)
	// Map and Link return an object that was kept; it is the caller's to close.
	Map(name string) (*ebpf.Map, error)
	Link(name string) (link.Link, error)
	// Keep keeps the object behind a name beyond the caller's own use of it.
	Keep(name string, o Object) error
	// Drop forgets the name. What nobody else holds is gone: a link's program is
	// detached.
	Drop(name string) error
}

// An Object is a map or a link of the kernel.
type Object interface {
	FD() int
	Pin(path string) error
}

// Forget drops whatever this package has ever put into the store, of this or another
// version, and returns how many objects that were: nothing of ours stays attached.
func Forget(s Store) (int, error) {
	names, err := s.Names()
	if err != nil {
		return 0, err
	}
	n := 0
	for _, name := range names {
		if !strings.HasPrefix(name, keptPrefix) {
			continue
		}
		if err := s.Drop(name); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

// What a kept object is called: the prefix, the version of the records and of the
// programs, the pid namespace and the birth of the attachment, then the object. Dots
// and colons are not allowed by bpffs and the service manager.
const (
	keptPrefix = "abot-"
	keptParts  = 6
)

// Objects of an attachment beside the links, which are called as their programs.
const (
	keptEvents   = bpf.CoreMapEvents
	keptState    = bpf.CoreMapRingState
	keptSnapshot = bpf.CoreProgSnapshot
	keptUsage    = bpf.CoreProgUsage
)

// version says what may be continued by whom.
type version struct {
	layout    string // of the records: who reads another one's misreads them
	build     string // of the programs
	namespace uint32 // whose pids they tell
}

// thisVersion is the version of the programs that this process would attach.
func thisVersion() (version, error) {
	namespace, err := ownNamespace()
	if err != nil {
		return version{}, err
	}
	build := bpf.Build()
	return version{layout: recordLayout(), build: hex.EncodeToString(build[:6]), namespace: namespace}, nil
}

// keptName names an object of the attachment that began at the instant given.
func keptName(v version, began uint64, object string) string {
	return fmt.Sprintf("%s%s-%s-%x-%x-%s", keptPrefix, v.layout, v.build, v.namespace, began, object)
}

// parseKept takes a name apart.
func parseKept(name string) (v version, began uint64, object string, ok bool) {
	f := strings.Split(name, "-")
	if len(f) != keptParts || !strings.HasPrefix(name, keptPrefix) {
		return v, 0, "", false
	}
	namespace, err := strconv.ParseUint(f[3], 16, 32)
	if err != nil {
		return v, 0, "", false
	}
	if began, err = strconv.ParseUint(f[4], 16, 64); err != nil {
		return v, 0, "", false
	}
	return version{layout: f[1], build: f[2], namespace: uint32(namespace)}, began, f[5], f[5] != ""
}
