# SPDX-License-Identifier: Apache-2.0
"""Makes processes that do what signals tell them to: puppets.py N.

Says "main I PID" of each of N mains on stdout, and "child PARENT PID" of each process that one
of them, or what it has forked, forks. USR1 has a puppet leave with 0, USR2 fork, the first
real-time signal leave with 3, the second one detach, the third one take memory, the fourth one
keep a processor busy for a while.
"""
import os
import signal
import sys
import time

LEAVE, FORK = signal.SIGUSR1, signal.SIGUSR2
FAIL, DETACH, HOLD, BUSY = (signal.SIGRTMIN + n for n in range(4))
ORDERS = {LEAVE, FORK, FAIL, DETACH, HOLD, BUSY}
MEMORY = 96 << 20  # bytes
SECONDS = 2  # of a processor

voice = os.dup(1)
held = None


def say(*words):
    os.write(voice, (" ".join(map(str, words)) + "\n").encode())


def fork():
    parent = os.getpid()
    if os.fork() == 0:
        say("child", parent, os.getpid())
        serve()


def detach():
    os.setsid()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    null = os.open("/dev/null", os.O_RDWR)
    for fd in range(3):
        os.dup2(null, fd)
    say("done", os.getpid(), 0)


def hold():
    global held
    held = bytearray(os.urandom(1 << 12)) * (MEMORY >> 12)
    say("done", os.getpid(), 0)


def be_busy():
    end = time.process_time() + SECONDS
    while time.process_time() < end:
        pass
    say("done", os.getpid(), 0)


def serve():
    signal.alarm(300)  # whatever becomes of the test
    while True:
        order = signal.sigwait(ORDERS)
        if order == FORK:
            fork()
        elif order == DETACH:
            detach()
        elif order == HOLD:
            hold()
        elif order == BUSY:
            be_busy()
        else:
            os._exit(0 if order == LEAVE else 3)


signal.pthread_sigmask(signal.SIG_BLOCK, ORDERS)
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
for number in range(int(sys.argv[1])):
    if os.fork() == 0:
        say("main", number, os.getpid())
        serve()
sys.stdin.read()
