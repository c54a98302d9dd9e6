// SPDX-License-Identifier: Apache-2.0

package describe

import (
	"bufio"
	"bytes"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// passwd is the file of passwd(5).
const passwd = "/etc/passwd"

// usersFor is how long the file's names stand before it is read again.
const usersFor = time.Minute

// users are the names of passwd(5). Who asks for one waits for no file: it is read again
// beside those who ask. It belongs to one goroutine.
type users struct {
	path   string
	names  atomic.Pointer[map[uint32]string]
	asked  time.Time // when the names were read, or were to be
	asking atomic.Bool
}

// newUsers reads the file for the first time, and waits for that.
func newUsers(path string) *users {
	u := &users{path: path, asked: time.Now()}
	u.read()
	return u
}

func (u *users) read() {
	names := readUsers(u.path)
	u.names.Store(&names)
}

// name returns the user's name, or the number where it has none.
func (u *users) name(uid uint32, now time.Time) string {
	if now.Sub(u.asked) > usersFor && u.asking.CompareAndSwap(false, true) {
		u.asked = now
		go func() {
			defer u.asking.Store(false)
			u.read()
		}()
	}
	return u.known(uid)
}

// known is name of the names that were read last.
func (u *users) known(uid uint32) string {
	if name, ok := (*u.names.Load())[uid]; ok {
		return name
	}
	return strconv.FormatUint(uint64(uid), 10)
}

// readUsers reads passwd(5). The daemon asks no network directory: it has no network.
func readUsers(path string) map[uint32]string {
	users := make(map[uint32]string)
	b, err := os.ReadFile(path)
	if err != nil {
		return users
	}
	for s := bufio.NewScanner(bytes.NewReader(b)); s.Scan(); {
		fields := strings.Split(s.Text(), ":")
		if len(fields) < 3 {
			continue
		}
		if uid, err := strconv.ParseUint(fields[2], 10, 32); err == nil {
			if _, taken := users[uint32(uid)]; !taken {
				users[uint32(uid)] = fields[0]
			}
		}
	}
	return users
}
