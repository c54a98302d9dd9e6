// SPDX-License-Identifier: Apache-2.0

package deliver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/notify"
	"github.com/abot-trace/abot-trace/internal/procfs"
	"github.com/abot-trace/abot-trace/internal/safetext"
)

// Bounds of one hook.
const (
	maxOutput = 16 << 10 // kept of what it prints; the rest is read and dropped
	sweepTime = 5 * time.Second
)

// hook runs a command for each notice. Hooks run one after the other, all of them:
// this process adopts what a hook leaves behind, and only so can tell whose it is.
type hook struct {
	settings notify.Exec
	turn     *sync.Mutex
}

// newHook refuses a command that would run as somebody else than it is meant to.
func newHook(s notify.Exec, turn *sync.Mutex) (*hook, error) {
	if err := errors.Join(s.Validate(), notify.RunsAs(s.User)); err != nil {
		return nil, fmt.Errorf("%s: %w", s.Name, err)
	}
	if s.Timeout == 0 {
		s.Timeout = notify.DefaultTimeout
	}
	return &hook{s, turn}, nil
}

// deliver runs the command once: a hook may not be safe to repeat.
func (h *hook) deliver(ctx context.Context, n *notify.Notice) error {
	input, err := json.Marshal(n)
	if err != nil {
		return err
	}
	h.turn.Lock()
	defer h.turn.Unlock()
	ctx, cancel := context.WithTimeout(ctx, h.settings.Timeout)
	defer cancel()
	output := &limitedBuffer{limit: maxOutput}
	cmd := exec.CommandContext(ctx, h.settings.Command[0], h.settings.Command[1:]...)
	cmd.Stdin = bytes.NewReader(append(input, '\n'))
	cmd.Stdout, cmd.Stderr = output, output
	cmd.Env = append(notify.HelperEnv(), environment(n)...)
	cmd.Dir = "/"
	// Its own group, so that what it sends to its group does not reach us. What is in
	// the group is ended by the sweep, which cannot hit a stranger.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// What it leaves behind may hold its output open.
	cmd.WaitDelay = time.Second
	err = cmd.Run()
	// A clean end with something left behind that held the output is no failure.
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil
	}
	if ctx.Err() != nil && err != nil {
		err = fmt.Errorf("ended after %v: %w", h.settings.Timeout, err)
	}
	if err != nil && len(output.data) > 0 {
		err = fmt.Errorf("%w: %s", err, lastLine(string(output.data)))
	}
	if left := sweep(); left != nil {
		err = errors.Join(err, left)
	}
	return err
}

// lastLine is what a failing command said last, as far as it fits a message.
func lastLine(s string) string {
	const most = 200
	s = strings.TrimRight(s, "\n")
	s = s[strings.LastIndexByte(s, '\n')+1:]
	return safetext.Terminal(s[:min(len(s), most)])
}

// environment is the notice as variables, by the names of the journal's fields. A
// NUL cannot be in one; the values are printable.
func environment(n *notify.Notice) []string {
	record := notify.RecordOf(&n.Event)
	env := []string{"ABOT_MESSAGE=" + record.Message, "ABOT_SEVERITY=" + n.Severity.String(), "ABOT_HOST=" + safetext.Terminal(n.Host)}
	seen := map[string]bool{}
	for _, f := range record.Fields {
		if strings.HasPrefix(f.Name, "ABOT_") && !seen[f.Name] {
			seen[f.Name] = true
			env = append(env, f.Name+"="+f.Value)
		}
	}
	return env
}

// sweep ends every child that this process has, adopted ones first of all, until
// none is left. A child that is not reaped keeps its pid, so that none but our own
// is signalled.
func sweep() error {
	deadline := time.Now().Add(sweepTime)
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		byParent, err := procfs.FS{}.ChildrenByParent()
		if err != nil {
			return fmt.Errorf("look for what it left: %w", err)
		}
		children := byParent[int32(os.Getpid())]
		for _, pid := range children {
			_ = unix.Kill(int(pid), unix.SIGKILL)
		}
		if !reap() {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("it left %d processes that do not end", len(children))
		}
		time.Sleep(pause)
	}
}

// reap takes what has ended, and reports whether a child is left.
func reap() bool {
	for {
		pid, err := unix.Wait4(-1, nil, unix.WNOHANG|unix.WALL, nil)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return false // ECHILD
		case pid == 0:
			return true
		}
	}
}
