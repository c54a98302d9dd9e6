// SPDX-License-Identifier: Apache-2.0

package enforce

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Ability is what this kernel and these privileges let an Enforcer do. A nil error
// means that it can.
type Ability struct {
	// Signal is about pidfds and signals through them: without it there is no kill.
	Signal error
	// Others is about signals to processes of other users, pid 1's taken as one:
	// without it only our own user's can be ended.
	Others error
	// Release is about freeing the memory of a dying process from outside: without
	// it a kill may free its memory later.
	Release error
}

// Check walks the whole path of a kill up to the signal, on ourselves and with
// signal 0, so that a missing permission shows at start and not in the emergency.
// It does nothing to any process.
func Check() Ability {
	return Ability{
		Signal:  tryPID(int32(os.Getpid()), func(fd int) error { return pidfdSend(fd, 0) }),
		Others:  tryPID(1, func(fd int) error { return pidfdSend(fd, 0) }),
		Release: tryPID(int32(os.Getpid()), tryRelease),
	}
}

func tryPID(pid int32, try func(fd int) error) error {
	fd, err := pidfdOpen(pid)
	if err != nil {
		return fmt.Errorf("pidfd_open of pid %d: %w", pid, err)
	}
	defer unix.Close(fd)
	if err := try(fd); err != nil {
		return fmt.Errorf("pid %d: %w", pid, err)
	}
	return nil
}

// tryRelease asks for our own memory, which is refused because we are not dying:
// that refusal is the one that shows the call to work.
func tryRelease(fd int) error {
	if err := mrelease(fd); !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("process_mrelease: %w", err)
	}
	return nil
}
