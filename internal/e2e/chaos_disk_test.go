// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/wire"
)

// disk puts a small disk where the daemon's state is.
func (d *daemon) disk() {
	d.t.Helper()
	if err := os.Mkdir(d.state(), 0o700); err != nil {
		d.t.Fatal(err)
	}
	if err := unix.Mount("state", d.state(), "tmpfs", 0, "size=1m,mode=0700"); err != nil {
		d.t.Fatalf("mount: %v", err)
	}
	d.t.Cleanup(func() {
		if err := unix.Unmount(d.state(), unix.MNT_DETACH); err != nil {
			d.t.Errorf("unmount: %v", err)
		}
	})
}

func (d *daemon) ballast() string { return filepath.Join(d.state(), "ballast") }

// fill leaves no byte free on the disk.
func (d *daemon) fill() {
	d.t.Helper()
	f, err := os.Create(d.ballast())
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	for block := make([]byte, 4096); err == nil; _, err = f.Write(block) {
	}
	if !strings.Contains(err.Error(), "no space") {
		d.t.Fatalf("fill the disk: %v", err)
	}
}

// remount makes the disk one for reading alone, or not.
func (d *daemon) remount(flags uintptr) {
	d.t.Helper()
	if err := unix.Mount("", d.state(), "", unix.MS_REMOUNT|flags, ""); err != nil {
		d.t.Fatalf("remount: %v", err)
	}
}

// saved waits until a state is there that was made after the one before, of which it
// returns the time.
func (d *daemon) saved(after int64) int64 {
	d.t.Helper()
	var at int64
	d.await("the state is saved", func() bool {
		info, err := os.Stat(filepath.Join(d.state(), "state"))
		if err == nil {
			at = info.ModTime().UnixNano()
		}
		return at > after
	})
	return at
}

// troubled waits until the daemon says that it cannot save, and why, in all places.
func (d *daemon) troubled(why string) {
	d.t.Helper()
	d.await("trouble with the state is told", func() bool {
		list := d.status().Conditions
		return len(list) == 1 && strings.Contains(list[0], "cannot be saved") && strings.Contains(list[0], why)
	})
	d.await("the alert", func() bool {
		return d.find(func(e *wire.Event) bool {
			return e.Alert != nil && e.Alert.Name == "state" && e.Alert.State == wire.AlertWarning && strings.Contains(e.Alert.Message, why)
		}) != nil
	})
	wantText(d.t, d.metrics(), `abot_trace_alert_state{alert="state"} 1`)
	_, out, _ := run(d.t, "doctor", "--socket", d.socket(), "--config", d.config())
	wantText(d.t, out, "cannot be saved", why)
}

// metrics asks the daemon for its metrics.
func (d *daemon) metrics() string {
	d.t.Helper()
	conn, err := net.Dial("unix", d.socket())
	if err != nil {
		d.t.Fatal(err)
	}
	defer conn.Close()
	req, err := http.NewRequestWithContext(d.t.Context(), http.MethodGet, "http://abot-trace/metrics", nil)
	if err != nil {
		d.t.Fatal(err)
	}
	req.Close = true
	if err := req.Write(conn); err != nil {
		d.t.Fatal(err)
	}
	text, err := io.ReadAll(conn)
	if err != nil {
		d.t.Fatal(err)
	}
	return string(text)
}

// Storms of bulky commands: one after which a save is due, and one of which more is
// unsaved then than the ring may hold back.
const (
	stormDue  = 800
	stormOver = 1700
)

// TestChaosDisk fills the disk of the state under a running daemon, and lets the next one
// find it read-only. Both go on, and say what is wrong; when there is room again the
// state is saved again. A kill loses nothing that the ring still holds; beyond that it
// says how much.
func TestChaosDisk(t *testing.T) {
	// The oldest of a history would make room.
	d := newKept(t, ruleless+"history: off\n")
	d.disk()
	d.start()
	first := d.saved(0)
	pairs := pairsOf(t, 2, "room")
	killMains(pairs[:1])
	d.reported(pairs[0])

	d.fill()
	startStorm(t, stormDue, bulky).wait()
	d.troubled("no space")
	pairs = append(pairs, pairsOf(t, 2, "full")...)
	killMains(pairs[1:3])
	for _, p := range pairs[:3] {
		wantLeak(t, p, d.reported(p))
	}
	d.endBy(unix.SIGKILL)
	if err := os.Remove(d.ballast()); err != nil {
		t.Fatal(err)
	}

	d.remount(unix.MS_RDONLY)
	pairs = append(pairs, newPair(t, "between"))
	killMains(pairs[3:])
	d.start()
	d.troubled("read-only")
	pairs = append(pairs, newPair(t, "read-only"))
	killMains(pairs[5:])
	d.wantLeaks(pairs, 1)
	d.remount(0)
	d.await("the trouble is over", func() bool { return len(d.status().Conditions) == 0 })
	d.saved(first)
	d.await("that is told", func() bool {
		return d.find(func(e *wire.Event) bool {
			return e.Alert != nil && e.Alert.Name == "state" && e.Alert.State == wire.AlertOK
		}) != nil
	})
	wantText(t, d.metrics(), `abot_trace_alert_state{alert="state"} 0`)
	d.endBy(unix.SIGKILL)
	d.start()
	d.wantLeaks(pairs, 2)
	d.wantComplete()
	if n := unsaved(d.log.String()); n != 0 {
		t.Errorf("%d bytes are said to be unsaved", n)
	}

	if !*long {
		return
	}
	d.saved(0)
	d.fill()
	startStorm(t, stormOver, bulky).wait()
	d.troubled("no space")
	pairs = append(pairs, newPair(t, "unsaved"))
	d.endBy(unix.SIGKILL)
	killMains(pairs[6:])
	d.start()
	d.wantLeaks(pairs[:6], 3)
	if n := unsaved(d.log.String()); n == 0 {
		t.Error("more was unsaved than the ring holds back, and nothing is said of it")
	} else {
		t.Logf("%d bytes of records are said to be unsaved", n)
	}
}

var unsavedField = regexp.MustCompile(`bytes_unsaved=(\d+)`)

// unsaved is what the daemon that was started last says to have found unsaved.
func unsaved(log string) (n int) {
	if all := unsavedField.FindAllStringSubmatch(log, -1); len(all) > 0 {
		_, _ = fmt.Sscan(all[len(all)-1][1], &n)
	}
	return n
}
