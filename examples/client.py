#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A long-running client: worker processes, sessions and a database, closed at every end.

    python3 examples/client.py [exception|exit]

It works until kill -TERM or ^C ends it; with an argument it ends itself on a line of
standard input.
"""

import multiprocessing
import os
import socket
import sqlite3
import subprocess
import sys
import time

import abot_trace


def work(number):
    os.write(1, b"ready\n")
    while True:
        time.sleep(60)


def main():
    handler = abot_trace.get_shutdown_handler(grace=5)

    database = sqlite3.connect(":memory:")
    sessions = socket.socketpair()

    # The last registered runs first: sessions are closed before the database.
    @abot_trace.register_cleanup_callback
    def close_database():
        database.close()
        os.write(1, b"database closed\n")

    @abot_trace.register_cleanup_callback
    def close_sessions():
        for session in sessions:
            session.close()
        os.write(1, b"sessions closed\n")

    for number in range(2):
        handler.start(multiprocessing.Process(target=work, args=(number,)))
    handler.popen(["sh", "-c", "setsid sleep 600 & echo ready; wait"])

    way = sys.argv[1] if len(sys.argv) > 1 else ""
    if way:
        sys.stdin.readline()
    if way == "exception":
        raise RuntimeError("the server has gone")
    if way == "exit":
        sys.exit(3)
    while True:
        time.sleep(60)


if __name__ == "__main__":
    main()
