// SPDX-License-Identifier: Apache-2.0

// Command agent runs commands in a virtual machine for the test outside: one request
// after the other, by the second serial port.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"

	"github.com/abot-trace/abot-trace/test/qemu"
)

// A request is a command with what it reads.
type request struct {
	Argv  []string
	Stdin []byte
}

// A reply is what it wrote. Error is empty where it ended with 0. The first reply
// answers nothing: it says that the agent is there.
type reply struct {
	Stdout, Stderr []byte
	Error          string
}

func main() {
	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, "agent:", err)
		os.Exit(1)
	}
}

func serve() error {
	port, err := qemu.OpenPort()
	if err != nil {
		return err
	}
	requests, replies := json.NewDecoder(port), json.NewEncoder(port)
	if err := replies.Encode(reply{}); err != nil {
		return err
	}
	for {
		var r request
		if err := requests.Decode(&r); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("request: %w", err)
		}
		if err := replies.Encode(r.run()); err != nil {
			return err
		}
	}
}

func (r *request) run() (out reply) {
	if len(r.Argv) == 0 {
		return reply{Error: "no command"}
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(r.Argv[0], r.Argv[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(r.Stdin), &stdout, &stderr
	if err := cmd.Run(); err != nil {
		out.Error = err.Error()
	}
	out.Stdout, out.Stderr = stdout.Bytes(), stderr.Bytes()
	return out
}
