// SPDX-License-Identifier: Apache-2.0

package control

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/safetext"
	"github.com/abot-trace/abot-trace/internal/wire"
)

// stopFilePatience is how long a kill waits for the answer whether there is a stop file: far
// longer than a busy machine takes for it. The loop waits so long once, and then no more until
// there is an answer.
const stopFilePatience = 200 * time.Millisecond

// A stopFile looks for the file by which an operator calls off all kills. Its path may
// lie on a file system that does not answer: then nothing is ended, and nobody waits.
// It is for one goroutine at a time.
type stopFile struct {
	lstat   func(string) (os.FileInfo, error)
	pending chan error // the answer to the last look, where that was not waited for
}

// hold returns why no kill may begin: the file is there, or may be. It is empty where there is
// none.
func (s *stopFile) hold(path string) string {
	if s.pending != nil {
		select {
		case <-s.pending:
			s.pending = nil // it answers again
		default:
			return unanswered(path)
		}
	}
	answer := make(chan error, 1)
	lstat := s.lstat
	go func() {
		_, err := lstat(path)
		answer <- err
	}()
	late := time.NewTimer(stopFilePatience)
	defer late.Stop()
	select {
	case err := <-answer:
		switch {
		case err == nil:
			return "the stop file " + path + " exists"
		case errors.Is(err, os.ErrNotExist):
			return ""
		}
		// Whatever is wrong with it, somebody may have meant to stop us.
		return fmt.Sprintf("the stop file may exist: %v", err)
	case <-late.C:
		s.pending = answer
		return unanswered(path)
	}
}

func unanswered(path string) string {
	return "the stop file " + path + " may exist: its file system does not answer"
}

// stopAnswers tells of the stop file from any goroutine, and asks nothing of the loop:
// who wants to know may suspect that it hangs.
type stopAnswers struct {
	mu   sync.Mutex
	path string
	file stopFile
}

func (s *stopAnswers) setPath(path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.path = path
}

// StopFile tells of the stop file; nil is that none is configured. From any goroutine.
func (c *Controller) StopFile() *wire.Stop {
	s := &c.stopAnswers
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.path == "" {
		return nil
	}
	stop := &wire.Stop{Path: s.path, InForce: s.file.hold(s.path) != ""}
	if stop.InForce && s.file.pending == nil {
		readStopFile(stop)
	}
	return stop
}

// maxReason is how much of the stop file is read.
const maxReason = 512

// readStopFile adds since when the file is there, and its first line. Whatever somebody has
// put there instead of a file is not waited for.
func readStopFile(stop *wire.Stop) {
	info, err := os.Lstat(stop.Path)
	if err != nil {
		return
	}
	since := info.ModTime()
	stop.Since = &since
	if !info.Mode().IsRegular() {
		return
	}
	f, err := os.OpenFile(stop.Path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return
	}
	defer f.Close()
	head, _ := io.ReadAll(io.LimitReader(f, maxReason))
	line, _, _ := strings.Cut(string(head), "\n")
	stop.Reason = safetext.Terminal(strings.TrimSpace(strings.ToValidUTF8(line, "")))
}
