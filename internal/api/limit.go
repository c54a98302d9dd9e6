// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"fmt"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// Places of connections. Root and the daemon's own user have room that nobody else can
// take, and the group of the socket has some that strangers cannot, of whom one alone
// may have many user ids.
const (
	maxConns       = 512
	maxUsers       = 448 // of all but root
	maxStrangers   = 256 // of those who may ask for leases alone
	maxConnsOfUser = 32
)

// What the requests of one user may cost, but root's: so many each second, and so many
// bytes of answers. Who has used more than burst of that waits, on his own connections.
const (
	requestCost = time.Second / 100
	byteCost    = time.Second / (32 << 20)
	burst       = time.Second
	// maxDebt is when not even a connection is taken any more.
	maxDebt = 3 * time.Second
)

// A share is one user's part of the socket.
type share struct {
	conns int
	paid  time.Time // until when all that was asked for is paid for
}

// A limiter bounds the connections, in all and of each user but root, and what users' requests
// cost. Its methods may be called from any goroutine; only wait waits.
type limiter struct {
	mu                   sync.Mutex
	all, users, stranger int
	shares               map[uint32]*share
	now                  func() time.Time
}

func newLimiter() *limiter { return &limiter{shares: make(map[uint32]*share), now: time.Now} }

// rank is what a peer is to the socket.
type rank int

const (
	rankStranger rank = iota
	rankGroup
	rankRoot // or the daemon's own user
)

func (s *Server) rank(p Peer) rank {
	switch {
	case p.UID == 0 || p.UID == uint32(os.Geteuid()):
		return rankRoot
	case s.trusted(p):
		return rankGroup
	default:
		return rankStranger
	}
}

// take admits a connection, which give gives back.
func (l *limiter) take(uid uint32, r rank) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all >= maxConns {
		return false
	}
	if r == rankRoot {
		l.all++
		return true
	}
	s := l.share(uid)
	if l.users >= maxUsers || s.conns >= maxConnsOfUser || r == rankStranger && l.stranger >= maxStrangers || s.paid.Sub(l.now()) > maxDebt {
		l.forget(uid)
		return false
	}
	l.all++
	l.users++
	s.conns++
	if r == rankStranger {
		l.stranger++
	}
	l.charge(uid, requestCost)
	return true
}

func (l *limiter) give(uid uint32, r rank) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all--
	if r == rankRoot {
		return
	}
	l.users--
	l.shares[uid].conns--
	if r == rankStranger {
		l.stranger--
	}
	l.forget(uid)
}

// share returns the user's share. With mu.
func (l *limiter) share(uid uint32) *share {
	s, ok := l.shares[uid]
	if !ok {
		s = &share{}
		l.shares[uid] = s
	}
	return s
}

// forget drops the shares that mean nothing any more: of users who have no connection
// and owe nothing. It looks at the user's, and at some others. With mu.
func (l *limiter) forget(uid uint32) {
	idle := func(s *share) bool { return s.conns == 0 && !s.paid.After(l.now()) }
	if s := l.shares[uid]; s != nil && idle(s) {
		delete(l.shares, uid)
	}
	looked := 0
	for other, s := range l.shares { // in no order: all get their turn
		if idle(s) {
			delete(l.shares, other)
		}
		if looked++; looked == 2 {
			break
		}
	}
}

// charge puts a cost on the user's account. With mu.
func (l *limiter) charge(uid uint32, cost time.Duration) {
	s := l.share(uid)
	if now := l.now(); s.paid.Before(now) {
		s.paid = now
	}
	s.paid = s.paid.Add(cost)
}

// sent charges the bytes of an answer.
func (l *limiter) sent(uid uint32, r rank, n int) {
	if r == rankRoot {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.charge(uid, time.Duration(n)*byteCost)
}

// ask charges a request and returns how long it has to wait for its turn.
func (l *limiter) ask(uid uint32, r rank) time.Duration {
	if r == rankRoot {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.charge(uid, requestCost)
	return max(0, l.shares[uid].paid.Sub(l.now())-burst)
}

// wait returns when a request may be answered, or false when ctx ends before.
func (l *limiter) wait(ctx context.Context, uid uint32, r rank) bool {
	delay := l.ask(uid, r)
	if delay == 0 {
		return true
	}
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// A limitedListener accepts those whom the limiter admits and closes the others.
type limitedListener struct {
	net.Listener
	server *Server
}

func (l *limitedListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		peer, err := peerOf(conn)
		if err != nil {
			_ = conn.Close()
			continue
		}
		r := l.server.rank(peer)
		if !l.server.limit.take(peer.UID, r) {
			_ = conn.Close()
			continue
		}
		return &limitedConn{Conn: conn, peer: peer, rank: r, limit: l.server.limit}, nil
	}
}

type limitedConn struct {
	net.Conn
	peer  Peer
	rank  rank
	limit *limiter
	once  sync.Once
}

// SyscallConn implements [syscall.Conn].
func (c *limitedConn) SyscallConn() (syscall.RawConn, error) {
	sc, ok := c.Conn.(syscall.Conn)
	if !ok {
		return nil, fmt.Errorf("a %T is no socket", c.Conn)
	}
	return sc.SyscallConn()
}

// Write implements [net.Conn], at the reader's cost.
func (c *limitedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.limit.sent(c.peer.UID, c.rank, n)
	return n, err
}

func (c *limitedConn) Close() error {
	c.once.Do(func() { c.limit.give(c.peer.UID, c.rank) })
	return c.Conn.Close()
}
