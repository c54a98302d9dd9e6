# SPDX-License-Identifier: Apache-2.0
"""Leaves a process behind that answers SIGTERM by making a child of its adopter's, as far as
the kernel is concerned, and ending. Each says "ROLE PID" on descriptor 3."""
import ctypes
import os
import signal
import time

CLONE = {"x86_64": 56, "aarch64": 220}[os.uname().machine]
CLONE_PARENT = 0x8000


def say(role):
    os.write(3, f"{role} {os.getpid()}\n".encode())


def leave(*_):
    while os.getppid() == main:
        pass
    # The child inherits this: a signal that meets it early must not have it leave once more.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if ctypes.CDLL(None).syscall(CLONE, ctypes.c_long(CLONE_PARENT | signal.SIGCHLD), 0, 0, 0, 0) == 0:
        say("left")
        time.sleep(300)
    os._exit(0)


main = os.getpid()
if os.fork() == 0:
    signal.signal(signal.SIGTERM, leave)
    say("orphan")
time.sleep(300)
