// SPDX-License-Identifier: Apache-2.0

package supervise

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/boottime"
	"github.com/abot-trace/abot-trace/internal/descend"
	"github.com/abot-trace/abot-trace/internal/safetext"
)

// leaseTimeout bounds what a daemon that hangs can cost.
const leaseTimeout = time.Second

// A Leaser registers process trees with a daemon that outlives us.
type Leaser interface {
	// Lease makes this process the holder of a lease for as long as it lives: when
	// it dies, the daemon ends its living descendants, with grace between TERM and
	// KILL. It returns the lease's name.
	Lease(ctx context.Context, grace time.Duration) (id string, err error)
	// Descendants returns the living processes that descend from this one by
	// original lineage, whoever their parent is now.
	Descendants(ctx context.Context) ([]Descendant, error)
	// GiveBack gives the lease back, because this process ends in order, and names who
	// stays. It returns those that the daemon refuses.
	GiveBack(ctx context.Context, stays []Descendant) (refused []Descendant, err error)
}

// Descendant identifies one process of a lineage.
type Descendant struct {
	PID     int    `json:"pid"`
	StartNS uint64 `json:"start_ns"` // CLOCK_BOOTTIME
}

// Client is a Leaser over the daemon's unix socket. The daemon takes the holder
// from the connection's peer credentials.
type Client struct {
	// Warn, unless nil, is told in a sentence what a lease does not hold for.
	Warn func(string)

	path string
	http http.Client
}

// Dial returns a client of the daemon on the socket path. The socket must belong
// to root or to the caller: a stranger's daemon would be told what to kill. Where there is no
// socket it returns nil without an error, unless required; one on which nobody listens, or
// that the caller may not use, is an error (ECONNREFUSED, EACCES) in any case.
func Dial(path string, required bool) (*Client, error) {
	var st unix.Stat_t
	err := unix.Stat(path, &st)
	switch {
	case errors.Is(err, fs.ErrNotExist) && !required:
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("socket %s: %w", path, err)
	case st.Mode&unix.S_IFMT != unix.S_IFSOCK:
		return nil, fmt.Errorf("socket %s: not a socket", path)
	case st.Uid != 0 && int(st.Uid) != os.Geteuid():
		return nil, fmt.Errorf("socket %s: it belongs to uid %d, neither root nor uid %d", path, st.Uid, os.Geteuid())
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}
	conn, err := dial(context.Background(), "", "")
	if err != nil {
		return nil, fmt.Errorf("socket %s: %w", path, errors.Unwrap(err))
	}
	conn.Close()
	return &Client{path: path, http: http.Client{
		Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true},
		Timeout:   leaseTimeout,
	}}, nil
}

type leaseRequest struct {
	GraceSeconds float64 `json:"grace_seconds"`
	Holder       string  `json:"holder,omitempty"`
}

// Lease implements Leaser.
func (c *Client) Lease(ctx context.Context, grace time.Duration) (string, error) {
	return c.lease(ctx, leaseRequest{GraceSeconds: grace.Seconds()})
}

// LeaseForCaller makes the parent of this process the holder.
func (c *Client) LeaseForCaller(ctx context.Context, grace time.Duration) (string, error) {
	return c.lease(ctx, leaseRequest{GraceSeconds: grace.Seconds(), Holder: "caller"})
}

func (c *Client) lease(ctx context.Context, req leaseRequest) (string, error) {
	body, err := json.Marshal(req)
	if err != nil {
		return "", err
	}
	var reply struct {
		LeaseID        string `json:"lease_id"`
		OutlivesDaemon *bool  `json:"outlives_daemon"` // absent where a daemon does not say
		Why            string `json:"why"`
	}
	if err := c.do(ctx, http.MethodPost, "/v1/lease", body, &reply); err != nil {
		return "", err
	}
	if reply.LeaseID == "" {
		return "", errors.New("lease: the daemon's answer has no lease_id")
	}
	if reply.OutlivesDaemon != nil && !*reply.OutlivesDaemon && c.Warn != nil {
		c.Warn("the lease does not outlive the daemon: " + reply.Why)
	}
	return reply.LeaseID, nil
}

// Descendants implements Leaser.
func (c *Client) Descendants(ctx context.Context) ([]Descendant, error) {
	var reply struct {
		Processes []Descendant `json:"processes"`
	}
	err := c.do(ctx, http.MethodGet, "/v1/descendants", nil, &reply)
	return reply.Processes, err
}

// GiveBack implements Leaser.
func (c *Client) GiveBack(ctx context.Context, stays []Descendant) ([]Descendant, error) {
	body, err := json.Marshal(map[string][]Descendant{"stays": stays})
	if err != nil {
		return nil, err
	}
	var reply struct {
		Refused []Descendant `json:"refused"`
	}
	err = c.do(ctx, http.MethodDelete, "/v1/lease", body, &reply)
	return reply.Refused, err
}

// do exchanges one request and decodes the answer into reply.
func (c *Client) do(ctx context.Context, method, path string, body []byte, reply any) error {
	req, err := http.NewRequestWithContext(ctx, method, "http://abot-trace"+path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return c.trouble(err, method, path)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 16<<20))
	if err != nil {
		return c.trouble(err, method, path)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("the daemon refused %s %s: %s", method, path, refusal(resp.Status, answer))
	}
	if err := json.Unmarshal(answer, reply); err != nil {
		return fmt.Errorf("daemon's answer to %s: %w", path, err)
	}
	return nil
}

// refusal is the sentence in an answer of the daemon, or what else came.
func refusal(status string, answer []byte) string {
	var said struct {
		Error string `json:"error"`
	}
	if json.Unmarshal(answer, &said) == nil && said.Error != "" {
		return safetext.Terminal(said.Error)
	}
	return fmt.Sprintf("%s: %q", status, strings.TrimSpace(string(answer[:min(len(answer), 200)])))
}

// trouble says what the exchange failed by; what took too long is named.
func (c *Client) trouble(err error, method, path string) error {
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return fmt.Errorf("socket %s: the daemon does not answer: waited %v for %s %s", c.path, leaseTimeout, method, path)
	}
	var request *url.Error
	if errors.As(err, &request) {
		err = request.Err
	}
	return fmt.Errorf("socket %s: %w", c.path, err)
}

// lease registers the tree before CMD starts, so that no child is ever without.
func (s *supervisor) lease() error {
	if s.Leaser == nil {
		return nil
	}
	_, err := s.Leaser.Lease(context.Background(), s.Grace)
	if err == nil {
		return nil
	}
	if s.LeaseRequired {
		return fmt.Errorf("no lease: %w", err)
	}
	s.Report("no lease: %v", err)
	s.Leaser = nil
	return nil
}

// maxStays is how many processes the daemon takes from one holder.
const maxStays = 1024

// giveBack tells the daemon who stays, so that it does not end them when this process has
// left: what was to be kept, and all with --report-only.
func (s *supervisor) giveBack() {
	if s.Leaser == nil {
		return
	}
	stays, heads := s.staying()
	if len(stays) == 0 {
		return
	}
	if heads > maxStays {
		s.Report("%d processes stay, and the daemon takes %d: it will end the others", heads, maxStays)
	}
	stays = stays[:min(len(stays), maxStays)]
	refused, err := s.Leaser.GiveBack(context.Background(), stays)
	if err != nil {
		s.Report("the daemon will end what stays: %v", err)
	}
	for _, d := range refused {
		s.Report("the daemon may end process %d, which was to stay", d.PID)
	}
}

// staying returns the processes that live on by our will, as the daemon knows them. The
// heads of their trees come first, so many: what descends from one that stays need not be
// named, but the kernel's parent is not always who made it.
func (s *supervisor) staying() (stays []Descendant, heads int) {
	left := map[identity]int{} // with the parent's pid
	if s.ReportOnly {
		for _, p := range s.targets() {
			left[identity{p.PID, p.Start}] = p.PPID
		}
	}
	for id := range s.kept {
		left[id] = 0
	}
	if len(left) == 0 {
		return nil, 0
	}
	pids := map[int]bool{}
	for id := range left {
		pids[id.pid] = true
	}
	known, err := s.Leaser.Descendants(context.Background())
	if err != nil {
		s.Report("lineage from the daemon: %v", err)
		return nil, 0
	}
	var below []Descendant
	for _, d := range known {
		parent, ok := left[identity{d.PID, boottime.Ticks(d.StartNS)}]
		switch {
		case ok && pids[parent]:
			below = append(below, d)
		case ok:
			stays = append(stays, d)
		}
	}
	return append(stays, below...), len(stays)
}

// lineage returns the living processes that the daemon knows as descendants,
// each compared by its start time: 10 ms is what procfs shows of it. Our own
// ancestors are left out whatever the daemon says.
func (s *supervisor) lineage() []descend.Proc {
	if s.Leaser == nil {
		return nil
	}
	known, err := s.Leaser.Descendants(context.Background())
	if err != nil {
		s.Report("lineage from the daemon: %v", err)
		s.Leaser = nil
		return nil
	}
	above := map[int]bool{}
	for _, pid := range descend.Ancestors(s.self) {
		above[pid] = true
	}
	var procs []descend.Proc
	for _, d := range known {
		p, err := descend.Read(d.PID)
		if err == nil && p.Start == boottime.Ticks(d.StartNS) && !above[p.PID] {
			procs = append(procs, p)
		}
	}
	return procs
}
