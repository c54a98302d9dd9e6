#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Data loaders in the manner of PyTorch: each worker process gets indices by a queue of its
own and puts batches into one queue of results, a helper thread of each filling its pipe.

    python3 examples/loader.py [exception|exit]

A loader whose trainer dies waits on its queue for ever. Registered, it ends with it.
"""

import multiprocessing
import os
import sys

import abot_trace

WORKERS = 3


def load(indices, results):
    os.write(1, b"ready\n")
    for index in iter(indices.get, None):
        results.put((index, bytes(1 << 20)))


def batches(context, handler):
    """Yield batches for ever."""
    results = context.Queue()
    queues = [context.Queue() for _ in range(WORKERS)]
    for queue in queues:
        handler.start(context.Process(target=load, args=(queue, results), daemon=True))
        queue.put(0)
        queue.put(1)
    while True:
        index, batch = results.get()
        queues[index % WORKERS].put(index + 1)
        yield batch


def main():
    handler = abot_trace.get_shutdown_handler(grace=5)
    way = sys.argv[1] if len(sys.argv) > 1 else ""
    for number, _ in enumerate(batches(multiprocessing.get_context("spawn"), handler)):
        if number < 8 or not way:
            continue
        sys.stdin.readline()
        if way == "exception":
            raise RuntimeError("out of memory")
        sys.exit(3)


if __name__ == "__main__":
    main()
