// SPDX-License-Identifier: Apache-2.0

package term

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
)

// PagerCommand returns the pager that the user wants: ABOT_TRACE_PAGER, PAGER, else less.
// It is empty where there is none: the variable is "cat" or empty, or less is not
// installed.
func PagerCommand() []string {
	for _, name := range []string{"ABOT_TRACE_PAGER", "PAGER"} {
		if value, set := os.LookupEnv(name); set {
			words := strings.Fields(value)
			if len(words) == 1 && words[0] == "cat" {
				return nil
			}
			return words
		}
	}
	if _, err := exec.LookPath("less"); err != nil {
		return nil
	}
	return []string{"less"}
}

// A Pager shows on a terminal what is written to it: as it is where it fits one screen,
// else through a pager. It belongs to one goroutine.
type Pager struct {
	out     *os.File
	command []string
	rows    int
	held    bytes.Buffer // nothing is shown yet
	lines   int          // in it
	running *exec.Cmd
	input   io.WriteCloser
}

// NewPager returns a pager for the terminal out. Close it.
func NewPager(out *os.File, command []string) *Pager {
	return &Pager{out: out, command: command, rows: Height(out)}
}

// Fd is the terminal's.
func (p *Pager) Fd() uintptr { return p.out.Fd() }

// Write implements io.Writer. It fails with [ErrPagerLeft] when the reader has seen enough.
func (p *Pager) Write(b []byte) (int, error) {
	if p.input != nil {
		n, err := p.input.Write(b)
		return n, left(err)
	}
	p.held.Write(b)
	p.lines += bytes.Count(b, []byte{'\n'})
	if p.rows == 0 || p.lines < p.rows {
		return len(b), nil
	}
	if err := p.start(); err != nil {
		return 0, err
	}
	_, err := p.input.Write(p.held.Bytes())
	p.held.Reset()
	return len(b), left(err)
}

// ErrPagerLeft says that the pager has ended before all was written.
var ErrPagerLeft = errors.New("the pager has ended")

func left(err error) error {
	if errors.Is(err, syscall.EPIPE) {
		return ErrPagerLeft
	}
	return err
}

func (p *Pager) start() (err error) {
	p.running = exec.Command(p.command[0], p.command[1:]...)
	p.running.Stdout, p.running.Stderr = p.out, os.Stderr
	// As journalctl has it: end with one screen, leave colours, keep lines whole, stay on the
	// screen, end at Ctrl-C. Nobody is to start a shell from root's pager.
	p.running.Env = append(os.Environ(), "LESS="+cmp.Or(os.Getenv("LESS"), "FRSXMK"), "LESSSECURE=1")
	if p.input, err = p.running.StdinPipe(); err != nil {
		return err
	}
	return p.running.Start()
}

// Close shows what was not shown yet and waits until the reader leaves the pager.
func (p *Pager) Close() error {
	if p.running == nil {
		_, err := p.out.Write(p.held.Bytes())
		return err
	}
	// Ctrl-C is for the pager.
	interrupts := make(chan os.Signal, 1)
	signal.Notify(interrupts, os.Interrupt)
	defer signal.Stop(interrupts)
	_ = p.input.Close()
	if err := p.running.Wait(); err != nil && !errors.As(err, new(*exec.ExitError)) {
		return err
	}
	return nil
}
