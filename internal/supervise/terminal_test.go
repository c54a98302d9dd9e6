// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/proctest"
)

// console is an interactive shell on a pseudo-terminal of its own.
type console struct {
	t      *testing.T
	master *os.File
	output *output
	read   int // how much of the output was looked at
}

// newConsole starts bash with job control; $S runs the supervisor.
func newConsole(t *testing.T) *console {
	t.Helper()
	master, slave := proctest.OpenPTY(t)
	c := &console{t: t, master: master, output: &output{}}
	go func() {
		for r := bufio.NewReader(master); ; {
			b, err := r.ReadByte()
			if err != nil {
				return
			}
			c.output.Write([]byte{b})
		}
	}()
	cmd := exec.Command("bash", "--norc", "--noprofile", "--noediting", "-i")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = slave, slave, slave
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	cmd.Env = append(os.Environ(), "PS1=PROMPT", "S="+self(t), "TERM=dumb")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	slave.Close()
	t.Cleanup(func() {
		proctest.EndDescendants(t)
		master.Close()
		if t.Failed() {
			t.Logf("console: %q", c.output)
		}
	})
	return c
}

func (c *console) typed(keys string) {
	c.t.Helper()
	if _, err := c.master.WriteString(keys); err != nil {
		c.t.Fatal(err)
	}
}

// shows waits until the text appears after what was seen before.
func (c *console) shows(text string) {
	c.t.Helper()
	proctest.Eventually(c.t, fmt.Sprintf("the terminal shows %q", text), func() bool {
		i := strings.Index(c.output.String()[c.read:], text)
		if i >= 0 {
			c.read += i + len(text)
		}
		return i >= 0
	})
}

// command waits for the shell's prompt and types a command.
func (c *console) command(line string) {
	c.t.Helper()
	c.shows("PROMPT")
	c.typed(line + "\n")
}

// echoed types a line that the program in the foreground repeats, as the
// terminal itself does.
func (c *console) echoed(line string) {
	c.t.Helper()
	c.typed(line + "\n")
	c.shows(line + "\r\n")
	c.shows(line + "\r\n")
}

// supervise is a shell word list that supervises a command.
func (c *console) supervise(argv string) string {
	return `$S supervise '{"Argv":` + argv + `,"Grace":3600000000000,"First":"all"}'`
}

const (
	ctrlC = "\x03"
	ctrlD = "\x04"
	ctrlZ = "\x1a"
)

// TestTerminal walks through what a shell's job control does with a command, and
// wants a supervised one to behave like a bare one.
func TestTerminal(t *testing.T) {
	c := newConsole(t)
	cat := c.supervise(`["sh","-c","echo re''ady; exec cat"]`)
	c.command(cat)
	c.shows("ready")
	c.echoed("one")

	c.typed(ctrlZ)
	c.shows("Stopped")
	c.command("fg")
	c.echoed("two")
	c.typed(ctrlC)
	c.command("echo code=$?")
	c.shows("code=130")

	c.command(cat + " | sed -u 's/^/piped:/'")
	c.shows("piped:ready")
	c.typed(ctrlZ)
	c.shows("Stopped")
	c.command("fg")
	c.typed("three\n")
	c.shows("piped:three")
	c.typed(ctrlD)

	c.command(cat + " &") // in the background it may write, but not read
	c.command("until jobs | grep -q Stopped; do sleep 0.05; done; echo as''ks; fg")
	c.shows("asks")
	c.echoed("four")
	c.typed(ctrlD)
	c.command("echo code=$?")
	c.shows("code=0")
}

// After CMD the terminal is back with what runs next in the same script.
func TestTerminalIsTakenBack(t *testing.T) {
	c := newConsole(t)
	c.command(`sh -c '$S supervise "{\"Argv\":[\"true\"],\"First\":\"all\"}"; echo as''k; read x; echo got:$x'`)
	c.shows("ask")
	c.typed("answer\n")
	c.shows("got:answer")
}

// A stop that nobody could continue, for no shell with job control is above,
// must not leave CMD stopped for ever.
func TestTerminalWithoutJobControl(t *testing.T) {
	c := newConsole(t)
	c.command(`exec ` + c.supervise(`["sh","-c","echo re''ady; exec cat"]`))
	c.shows("ready")
	c.typed(ctrlZ)
	c.echoed("on")
	c.typed(ctrlD)
	proctest.Eventually(t, "the session ends", func() bool {
		unix.Wait4(-1, nil, unix.WNOHANG, nil)
		return len(proctest.Descendants(t)) == 0
	})
}
