// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/abot-trace/abot-trace/internal/event"
)

// Roles that the test binary takes as a child of a test.
const (
	roleReader = "PROBE_TEST_READER" // the directory of pins, or the descriptor store
	roleForks  = "PROBE_TEST_SPAWNER"

	fromFDStore = "fdstore"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(roleReader); dir != "" {
		fmt.Fprintln(os.Stderr, readForks(dir))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// openStore opens the store that a reader's role names.
func openStore(where string) (Store, error) {
	if where != fromFDStore {
		return NewPinStore(where)
	}
	// The service manager forks, and so knows the pid; a test does not.
	if err := os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid())); err != nil {
		return nil, err
	}
	return NewFDStore()
}

// readForks reads the ring for ever and writes each fork of the spawner to standard
// output, by one write before the record is given back.
func readForks(where string) error {
	store, err := openStore(where)
	if err != nil {
		return err
	}
	p, err := Open(Options{Store: store})
	if err != nil {
		return err
	}
	if past := p.Past(); !past.Continued || past.Notes != nil {
		return fmt.Errorf("did not go on: %+v", past)
	}
	var spawner int32
	if _, err := fmt.Sscan(os.Getenv(roleForks), &spawner); err != nil {
		return err
	}
	for {
		p.Read(1024, func(e *event.Event) {
			if e.Kind == event.KindFork && e.Fork.Spawner.PID == spawner {
				fmt.Printf("%v\n", e.Subject)
			}
		})
		if err := p.Wait(5 * time.Millisecond); err != nil {
			return err
		}
	}
}
