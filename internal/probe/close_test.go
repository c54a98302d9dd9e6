// SPDX-License-Identifier: Apache-2.0

package probe

import (
	"errors"
	"os"
	"testing"

	"github.com/abot-trace/abot-trace/internal/proctest"
)

// TestCloseWaitsForReaders: who lists processes while the probe is closed gets a list or a clear
// error.
func TestCloseWaitsForReaders(t *testing.T) {
	proctest.NeedRoot(t)
	p, err := Open(Options{})
	if err != nil {
		t.Fatal(err)
	}
	began, ended := make(chan struct{}), make(chan error)
	go func() {
		_, err := p.Usage()
		close(began)
		for err == nil {
			_, err = p.Usage()
		}
		ended <- err
	}()
	<-began
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, os.ErrClosed) {
		t.Errorf("got %v, want %v", err, os.ErrClosed)
	}
}
