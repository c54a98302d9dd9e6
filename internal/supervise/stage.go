// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// stageOrder is what the child does to itself before it becomes CMD.
type stageOrder struct {
	terminal bool // put its process group in the terminal's foreground
	listen   bool // make LISTEN_PID name it: it inherits systemd's sockets
	limits   []Limit
}

// String encodes the order as one argument; parseStageOrder reads it back.
func (o stageOrder) String() string {
	var words []string
	if o.terminal {
		words = append(words, "terminal")
	}
	if o.listen {
		words = append(words, "listen")
	}
	for _, l := range o.limits {
		words = append(words, fmt.Sprintf("%s=%d:%d", l.Name, l.Soft, l.Hard))
	}
	return strings.Join(words, ",")
}

var errStageOrder = errors.New("malformed order: this command is not for people")

func parseStageOrder(s string) (o stageOrder, err error) {
	for word := range strings.SplitSeq(s, ",") {
		switch word {
		case "":
		case "terminal":
			o.terminal = true
		case "listen":
			o.listen = true
		default:
			name, value, _ := strings.Cut(word, "=")
			soft, hard, ok := strings.Cut(value, ":")
			if _, known := limitKinds[name]; !known || !ok {
				return o, errStageOrder
			}
			l := Limit{Name: name}
			if l.Soft, err = strconv.ParseUint(soft, 10, 64); err != nil {
				return o, errStageOrder
			}
			if l.Hard, err = strconv.ParseUint(hard, 10, 64); err != nil {
				return o, errStageOrder
			}
			o.limits = append(o.limits, l)
		}
	}
	return o, nil
}

// ExecStage is the second half of a supervised start: in the child, it does what
// args order and then becomes the command. It returns only when that failed, with
// the exit code and why.
func ExecStage(args []string) (code int, err error) {
	if len(args) < 3 {
		return ExitFailed, errStageOrder
	}
	order, err := parseStageOrder(args[0])
	if err != nil {
		return ExitFailed, err
	}
	path, argv, env := args[1], args[2:], os.Environ()
	if order.terminal {
		// Whoever took the terminal in between keeps it: CMD is then stopped when
		// it reads, and the supervisor decides.
		tty := openTerminal()
		_ = tty.setForeground(unix.Getpgrp())
		tty.close()
	}
	if order.listen {
		env = slices.DeleteFunc(env, func(v string) bool { return strings.HasPrefix(v, "LISTEN_PID=") })
		env = append(env, "LISTEN_PID="+strconv.Itoa(os.Getpid()))
	}
	if err := setLimits(order.limits); err != nil {
		return ExitFailed, err
	}
	err = syscall.Exec(path, argv, env)
	if errors.Is(err, unix.ENOEXEC) {
		err = syscall.Exec("/bin/sh", append([]string{"sh", path}, argv[1:]...), env)
	}
	err = fmt.Errorf("%s: %w", argv[0], err)
	return startCode(err), err
}
