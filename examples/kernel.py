#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A Jupyter kernel whose cell starts a process, both ended with the kernel's client.

    python3 examples/kernel.py [exception|exit]

A kernel that loses its client ends after a while; what its cells have started goes on.
Registered, they end with the client, whatever session they are in.
"""

import os
import sys
import time

from jupyter_client.manager import start_new_kernel

import abot_trace

CELL = """
import subprocess
process = subprocess.Popen(["sleep", "600"], start_new_session=True)
"""


def start(handler):
    """Start a kernel, register its process, and run a cell in it."""
    manager, client = start_new_kernel()
    handler.register_child_process(manager.provisioner.process)
    client.execute_interactive(CELL, timeout=60)
    os.write(1, b"ready\n")
    return manager, client


def main():
    handler = abot_trace.get_shutdown_handler(grace=5)
    _manager, client = start(handler)
    abot_trace.register_cleanup_callback(client.stop_channels)
    way = sys.argv[1] if len(sys.argv) > 1 else ""
    if way:
        sys.stdin.readline()
    if way == "exception":
        raise RuntimeError("the notebook is broken")
    if way == "exit":
        sys.exit(3)
    while True:
        time.sleep(60)


if __name__ == "__main__":
    main()
