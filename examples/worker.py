#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Worker processes of Python's multiprocessing, by kind and start method.

    abot-trace supervise -- python3 examples/worker.py process spawn

Kinds: process, pool, executor, and stubborn: processes that ignore TERM. Start
methods: fork, spawn, forkserver.

Killed with SIGKILL, this program leaves most of its workers behind: only an idle
Pool notices. Under supervise none is left, and the shared memory is unlinked.
"""

import concurrent.futures
import multiprocessing
import os
import signal
import sys
import time
from multiprocessing import shared_memory

WORKERS = 3


def work(_):
    """Be busy for longer than anybody waits."""
    os.write(1, b"ready\n")
    time.sleep(600)


def ignore_and_work(i):
    """The same, deaf to TERM."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    work(i)


def main():
    kind, method = sys.argv[1:]
    context = multiprocessing.get_context(method)
    # Unlinked by Python's resource tracker when all users are gone, if the tracker
    # itself is left alone until then.
    segment = shared_memory.SharedMemory(create=True, size=4096)
    os.write(1, f"shared memory {segment.name}\n".encode())
    if kind in ("process", "stubborn"):
        target = work if kind == "process" else ignore_and_work
        workers = [context.Process(target=target, args=(i,)) for i in range(WORKERS)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    elif kind == "pool":
        with context.Pool(WORKERS) as pool:
            pool.map(work, range(WORKERS), chunksize=1)
    elif kind == "executor":
        with concurrent.futures.ProcessPoolExecutor(WORKERS, mp_context=context) as executor:
            list(executor.map(work, range(WORKERS)))
    else:
        sys.exit(f"unknown kind {kind!r}")


if __name__ == "__main__":
    main()
