// SPDX-License-Identifier: Apache-2.0

package deliver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/sys/unix"

	"github.com/abot-trace/abot-trace/internal/notify"
)

// maxMetrics is more than any exposition of ours is long.
const maxMetrics = 8 << 20

// serveMetrics serves GET /metrics on a loopback address until ctx ends, by asking
// the daemon on its socket for each scrape.
func serveMetrics(ctx context.Context, s notify.MetricsProxy, log *slog.Logger) {
	listener, err := listenLoopback(s.Listen)
	// The helper before this one may be about to give the address up.
	for errors.Is(err, unix.EADDRINUSE) && sleep(ctx, time.Second) {
		listener, err = listenLoopback(s.Listen)
	}
	if err != nil {
		// Notices matter more than this.
		log.Error("metrics", "listen", s.Listen, "error", err)
		return
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", proxy(s.Socket))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 5 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		log.Error("metrics", "error", err)
	}
}

// listenLoopback refuses any address that another host could reach.
func listenLoopback(address string) (net.Listener, error) {
	addr, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return nil, err
	}
	if !addr.IP.IsLoopback() {
		return nil, fmt.Errorf("%s is not a loopback address", address)
	}
	return net.ListenTCP("tcp", addr)
}

// proxy fetches from the daemon's socket.
func proxy(socket string) http.Handler {
	var dialer net.Dialer
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, "unix", socket)
		}, MaxIdleConns: 1, IdleConnTimeout: time.Minute}}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		req, err := http.NewRequestWithContext(r.Context(), http.MethodGet, "http://daemon/metrics", nil)
		if err != nil {
			http.Error(w, "internal error", http.StatusInternalServerError)
			return
		}
		if accept := r.Header.Get("Accept"); accept != "" {
			req.Header.Set("Accept", accept)
		}
		resp, err := client.Do(req)
		if err != nil {
			http.Error(w, "the daemon does not answer", http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		w.Header().Set("Content-Type", resp.Header.Get("Content-Type"))
		w.WriteHeader(resp.StatusCode)
		_, _ = io.CopyN(w, resp.Body, maxMetrics)
	})
}
