// SPDX-License-Identifier: Apache-2.0

package notify

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// nobodyID is the user id, and the group id, of nobody where no file names another.
const nobodyID = 65534

// errNoSetuid says why commands cannot run as their user.
var errNoSetuid = errors.New("commands run as nobody or as the user that they name, which takes root with CAP_SETUID and CAP_SETGID")

// credential returns what makes a child of this process run as a user, by name or
// number, with the groups of that user.
func credential(name string) (*syscall.Credential, error) {
	if err := CanRunCommands(); err != nil {
		return nil, err
	}
	u, err := lookup(name)
	if err != nil {
		return nil, err
	}
	as := &syscall.Credential{Uid: u.id, Gid: u.group}
	if name == DefaultUser {
		return as, nil
	}
	for _, text := range u.groups {
		if gid, err := strconv.ParseUint(text, 10, 32); err == nil {
			as.Groups = append(as.Groups, uint32(gid))
		}
	}
	return as, nil
}

// CanRunCommands returns why this process can run no commands as other users, or nil.
func CanRunCommands() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var held [2]unix.CapUserData
	if err := unix.Capget(&header, &held[0]); err != nil {
		return fmt.Errorf("read capabilities: %w", err)
	}
	const both = 1<<unix.CAP_SETUID | 1<<unix.CAP_SETGID
	if os.Geteuid() != 0 || held[0].Effective&both != both {
		return errNoSetuid
	}
	return nil
}

// RunsAs reports whether this process is the user by that name or number; nobody else
// is the empty name but root, who runs no commands unless he is named.
func RunsAs(name string) error {
	uid := os.Getuid()
	if name == "" {
		if uid == 0 {
			return errNoSetuid
		}
		return nil
	}
	u, err := lookup(name)
	if err != nil {
		return err
	}
	if int(u.id) != uid {
		return fmt.Errorf("it is to run as %s, and the helper is uid %d: give the helper's unit that user", name, uid)
	}
	return nil
}

// An account is what is known of a user.
type account struct {
	id, group uint32
	groups    []string
}

func lookup(name string) (account, error) {
	u, err := user.Lookup(name)
	if err != nil {
		u, err = user.LookupId(name)
	}
	if err != nil {
		id, parsed := strconv.ParseUint(name, 10, 32)
		switch {
		case parsed == nil:
			return account{id: uint32(id), group: nobodyID}, nil
		case name == DefaultUser:
			return account{id: nobodyID, group: nobodyID}, nil
		default:
			return account{}, fmt.Errorf("user %s: there is none", name)
		}
	}
	id, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return account{}, fmt.Errorf("user %s: id %q", name, u.Uid)
	}
	group, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return account{}, fmt.Errorf("user %s: group %q", name, u.Gid)
	}
	groups, _ := u.GroupIds() // fewer, where they cannot be told
	return account{uint32(id), uint32(group), groups}, nil
}
