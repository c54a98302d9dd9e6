# SPDX-License-Identifier: Apache-2.0
"""The program of the matrix: starts workers of one KIND, registers them, and ends in one WAY.

    python3 program.py METHOD KIND WAY CHILD

It says "shared memory NAME", and every worker says "ready". Then it waits: for a
signal, or for a line on standard input where it ends itself.
"""

import concurrent.futures
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from multiprocessing import shared_memory

import abot_trace

WORKERS = 2
LIFE = 120  # whatever goes wrong


def be(child):
    """Be a worker of some kind, for longer than anybody waits."""
    if child == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    elif child == "forking":
        signal.signal(signal.SIGTERM, fork_and_die)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    elif child == "setsid":
        if os.fork() == 0:
            os.setsid()
            sleep()
        os.setsid()
    sleep()


def sleep():
    os.write(1, b"ready\n")
    until = time.monotonic() + LIFE
    while time.monotonic() < until:
        time.sleep(1)
    os._exit(0)


def fork_and_die(*_):
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        sleep()
    os._exit(0)


def start(handler, method, kind, child):
    context = multiprocessing.get_context(method)
    if kind == "process":
        for _ in range(WORKERS):
            handler.start(context.Process(target=be, args=(child,)))
    elif kind == "pool":
        pool = handler.register_child_process(context.Pool(WORKERS))
        for _ in range(WORKERS):
            pool.apply_async(be, (child,))
        return pool
    elif kind == "executor":
        executor = concurrent.futures.ProcessPoolExecutor(WORKERS, mp_context=context)
        handler.register_child_process(executor)
        for _ in range(WORKERS):
            executor.submit(be, child)
        return executor
    elif kind == "popen":
        for _ in range(WORKERS):
            handler.popen([sys.executable, __file__, "worker", child])
    return None


def main():
    method, kind, way, child = sys.argv[1:]
    handler = abot_trace.get_shutdown_handler(grace=0.3)
    abot_trace.register_cleanup_callback(os.write, 1, b"callback\n")
    segment = shared_memory.SharedMemory(create=True, size=4096)
    os.write(1, f"shared memory {segment.name}\n".encode())
    held = start(handler, method, kind, child)
    if way in ("exception", "sys.exit", "os._exit", "return"):
        sys.stdin.readline()
        if way == "exception":
            raise ValueError("the end")
        if way == "sys.exit":
            sys.exit(3)
        if way == "os._exit":
            os._exit(4)
        return
    time.sleep(LIFE)
    del held


if __name__ == "__main__":
    if sys.argv[1] == "worker":
        be(sys.argv[2])
    main()
