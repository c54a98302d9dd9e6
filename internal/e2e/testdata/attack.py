# SPDX-License-Identifier: Apache-2.0
"""One user's attacks on a daemon, for a time. Usage: attack.py WHAT SECONDS SOCKET"""
import os
import signal
import socket
import sys
import threading
import time

what, seconds, path = sys.argv[1], float(sys.argv[2]), sys.argv[3]
end = time.monotonic() + seconds


def connect():
    s = socket.socket(socket.AF_UNIX)
    s.connect(path)
    return s


def pipeline():
    """Requests one after another on as many connections as there may be."""
    request = b"GET /v1/tree HTTP/1.1\r\nHost: x\r\n\r\n" * 200

    def ask():
        while time.monotonic() < end:
            try:
                s = connect()
                s.settimeout(1)
                while time.monotonic() < end:
                    s.sendall(request)
                    s.recv(1 << 16)
            except OSError:
                time.sleep(0.01)

    threads = [threading.Thread(target=ask) for _ in range(30)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()


def hold():
    """Connections whose request never ends."""
    held = []
    while time.monotonic() < end:
        try:
            s = connect()
            s.sendall(b"POST /v1/lease HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n")
            held.append(s)
        except OSError:
            pass
        time.sleep(0.002)
        del held[:-200]


def orphans(children=1):
    """Parents that die and leave children, in two loops."""
    def loop():
        while time.monotonic() < end:
            pid = os.fork()
            if pid == 0:
                for _ in range(children):
                    if os.fork() == 0:
                        time.sleep(0.3)
                        os._exit(0)
                os.kill(os.getpid(), signal.SIGKILL)
            os.waitpid(pid, 0)

    for _ in range(2):
        if os.fork() == 0:
            loop()
            os._exit(0)
    time.sleep(seconds)


def chain():
    """A chain of living processes, 600 deep, with an orphan at its end every now and then."""
    for _ in range(600):
        if os.fork() != 0:
            time.sleep(max(0, end - time.monotonic()))
            os._exit(0)
    orphans()


def spin():
    """The load without an attack: as many processes that run."""
    for _ in range(2):
        if os.fork() == 0:
            while time.monotonic() < end:
                pass
            os._exit(0)
    time.sleep(seconds)


{"pipeline": pipeline, "hold": hold, "orphans": orphans, "families": lambda: orphans(50), "chain": chain, "spin": spin}[what]()
