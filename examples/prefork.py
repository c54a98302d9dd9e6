#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A prefork HTTP server on the standard library, built as gunicorn is: an
arbiter that binds the socket, forks workers that accept from it, and replaces
those that die.

    abot-trace supervise -- python3 examples/prefork.py 127.0.0.1:8000

On TERM the arbiter stops its workers and exits 0. Should it be killed instead,
its workers would serve on without it: supervise ends them.
"""

import http.server
import os
import signal
import socket
import sys

WORKERS = 3
WATCHED = {signal.SIGTERM, signal.SIGCHLD}


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers with the pid of the worker."""

    def do_GET(self):
        body = f"{os.getpid()}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass


def serve(listener):
    """The worker: accept from the shared socket until told to stop."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, WATCHED)
    server = http.server.HTTPServer(listener.getsockname(), Handler, bind_and_activate=False)
    server.socket.close()
    server.socket = listener
    os.write(1, b"ready\n")
    server.serve_forever()


def spawn(listener):
    """Forks one worker and returns its pid."""
    pid = os.fork()
    if pid == 0:
        try:
            serve(listener)
        finally:
            os._exit(1)
    return pid


def reap(workers):
    """Forgets the workers that have died."""
    while workers:
        pid, _ = os.waitpid(-1, os.WNOHANG)
        if pid == 0:
            return
        workers.discard(pid)


def main():
    host, port = sys.argv[1].rsplit(":", 1)
    listener = socket.create_server((host, int(port)))
    os.write(1, f"listening on {listener.getsockname()[1]}\n".encode())
    # Signals are waited for, not handled: no worker is reaped behind our back, so
    # that a pid in workers never names another process.
    signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    workers = set()
    while True:
        while len(workers) < WORKERS:
            workers.add(spawn(listener))
        if signal.sigwait(WATCHED) == signal.SIGTERM:
            break
        reap(workers)
    for pid in workers:
        os.kill(pid, signal.SIGTERM)
    for pid in workers:
        os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
