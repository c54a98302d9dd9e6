# SPDX-License-Identifier: Apache-2.0
"""Makes one family of processes for real: families.py NAME.

Each process says its role and its pid on stdout, as whoever mounted /proc counts.
Who must live on holds until the file that HOLD names reaches its end.
"""
import ctypes
import multiprocessing
import os
import select
import signal
import subprocess
import sys
import threading
import time

libc = ctypes.CDLL(None, use_errno=True)
SYS = {
    "x86_64": {"clone": 56, "exit": 60, "ptrace": 101, "unshare": 272},
    "aarch64": {"clone": 220, "exit": 93, "ptrace": 117, "unshare": 97},
}[os.uname().machine]
CLONE_PARENT, CLONE_NEWPID = 0x8000, 0x20000000
PR_SET_CHILD_SUBREAPER, PTRACE_SEIZE = 36, 0x4206


def syscall(name, *args):
    n = libc.syscall(SYS[name], *[ctypes.c_long(a) for a in args])
    if n < 0:
        raise OSError(ctypes.get_errno(), name)
    return n


def say(role, pid=None):
    os.write(1, f"{role} {pid or os.readlink('/proc/self')}\n".encode())


def tell(word):
    os.write(1, f"{word} 0\n".encode())


def hold():
    with open(os.environ["HOLD"]) as f:
        f.read()


def kill_self():
    os.kill(os.getpid(), signal.SIGKILL)


class Gate:
    """Lets others pass wait() once open() was called, or its last holder has died."""

    def __init__(self):
        self.r, self.w = os.pipe()

    def open(self):
        os.write(self.w, b"x")

    def wait(self):
        os.read(self.r, 1)


def child(role, body=hold, fork=os.fork):
    """Forks, and returns once the child has said its role."""
    said = Gate()
    pid = fork()
    if pid == 0:
        try:
            say(role)
            said.open()
            body()
        finally:
            os._exit(0)
    said.wait()
    return pid


def in_thread(body):
    t = threading.Thread(target=body, daemon=True)
    t.start()
    return t


def killed():
    child("orphan")
    kill_self()


def aborted():
    child("orphan")
    os.abort()


def exits_with_code():
    child("one")
    child("two")
    os._exit(3)


def execs_after():
    gone = Gate()

    def body():
        os.close(gone.w)
        gone.wait()
        os.execv("/bin/cat", ["cat", os.environ["HOLD"]])

    child("orphan", body)
    kill_self()


def worker_thread():
    forked = Gate()

    def body():
        child("orphan")
        forked.open()
        hold()

    in_thread(body)
    forked.wait()
    kill_self()


def forking_thread_exits():
    in_thread(lambda: child("orphan")).join()
    subprocess.run(["/bin/true"])
    kill_self()


def leader_exits():
    leader = threading.get_native_id()

    def body():
        while open(f"/proc/self/task/{leader}/stat").read().split(")")[1].split()[0] != "Z":
            pass
        child("orphan")
        os._exit(5)

    child("early")
    in_thread(body)
    syscall("exit", 0)


def thread_execs():
    child("orphan")
    in_thread(lambda: os.execv("/bin/sh", ["sh", "-c", "kill -9 $$"]))
    hold()


def subreapers():
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1)
    go = Gate()

    def inner():
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1)

        def leaker():
            child("orphan")
            kill_self()

        child("second")
        os.waitpid(child("leaker", leaker), 0)
        tell("adopted")
        go.wait()
        kill_self()

    pid = child("inner", inner)
    go.open()
    os.waitpid(pid, 0)
    tell("done")
    hold()


def in_namespace(init):
    syscall("unshare", CLONE_NEWPID)
    return child("init", init)


def namespace():
    def leaker():
        child("orphan")
        kill_self()

    def init():
        os.waitpid(child("leaker", leaker), 0)
        hold()

    in_namespace(init)
    hold()


def namespace_dies():
    ready = Gate()

    def chain(depth):
        if depth:
            child("member", lambda: chain(depth - 1))
        hold()

    def init():
        for _ in range(6):
            child("member", lambda: chain(4))
        syscall("unshare", CLONE_NEWPID)
        child("member", lambda: (child("member", lambda: chain(4)), ready.open(), hold()))
        hold()

    pid = in_namespace(init)
    ready.wait()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    tell("done")


def double_fork():
    def middle():
        os.setsid()
        child("orphan")

    os.waitpid(child("middle", middle), 0)
    tell("done")
    hold()


def nohup():
    os.execv("/bin/sh", ["sh", "-c", 'nohup cat "$HOLD" >/dev/null 2>&1 & echo orphan $!'])


def chain():
    ready = Gate()

    def worker():
        child("deep")
        ready.open()
        hold()

    child("server", lambda: (child("worker", worker), hold()))
    ready.wait()
    kill_self()


def server_dies_too():
    first, second = Gate(), Gate()

    def server():
        os.close(second.w)
        child("worker")
        first.open()
        second.wait()  # the death of main
        child("late")
        kill_self()

    child("server", server)
    first.wait()
    kill_self()


def pool(method):
    context = multiprocessing.get_context(method)
    ready = context.Event()
    context.Process(target=pool_worker, args=(ready,)).start()
    ready.wait()
    from multiprocessing import forkserver, resource_tracker

    tracker = resource_tracker._resource_tracker._pid
    if tracker:
        say("tracker", tracker)
    server = forkserver._forkserver._forkserver_pid
    if server:
        say("server", server)
    kill_self()


def pool_worker(ready):
    say("worker")
    ready.set()
    hold()


def pool_fork():
    pool("fork")


def pool_spawn():
    pool("spawn")


def pool_forkserver():
    pool("forkserver")


def die_together():
    """Threads with a child each end at the same instant, by themselves or by a signal."""

    def group(end):
        barrier = threading.Barrier(7)

        def body():
            child("orphan")
            barrier.wait()
            end()

        for _ in range(6):
            in_thread(body)
        barrier.wait()
        end()

    for _ in range(8):
        os.waitpid(child("killed", lambda: group(kill_self)), 0)
        os.waitpid(child("exited", lambda: group(lambda: syscall("exit", 0))), 0)
    tell("done")


def forks_while_dying():
    first = Gate()

    def branch():
        for i in range(40):
            child("leaf")
            if i == 3:
                first.open()
        tell("branched")
        hold()

    for _ in range(3):
        said = os.fork()
        if said == 0:
            say("branch")
            branch()
            os._exit(0)
    for _ in range(3):
        first.wait()
    kill_self()


def clone_parent():
    def caller():
        child("sibling", fork=lambda: syscall("clone", CLONE_PARENT | signal.SIGCHLD, 0, 0, 0, 0))

    os.waitpid(child("caller", caller), 0)
    kill_self()


def leaves_lineage():
    """An orphan makes itself a child of its adopter's, as far as the kernel is concerned."""
    main = os.getpid()

    def orphan():
        while os.getppid() == main:
            pass
        child("left", fork=lambda: syscall("clone", CLONE_PARENT | signal.SIGCHLD, 0, 0, 0, 0))
        kill_self()

    child("orphan", orphan)
    kill_self()


def leaves_in_handler():
    """It does so when it is asked to end."""
    main = os.getpid()

    def orphan():
        def leave(*_):
            child("left", fork=lambda: syscall("clone", CLONE_PARENT | signal.SIGCHLD, 0, 0, 0, 0))
            kill_self()

        signal.signal(signal.SIGTERM, leave)
        while os.getppid() == main:
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        hold()

    child("orphan", orphan)
    kill_self()


def setns_into_dead():
    """Its children would be born into a namespace six levels below, where all are dead."""
    r, w = os.pipe()

    def nest(depth):
        os.write(w, os.readlink("/proc/self").encode() + b"\n")
        if depth:
            in_namespace(lambda: nest(depth - 1))
        hold()

    if os.fork() == 0:
        nest(6)
        os._exit(0)
    said = open(r)
    pids = [int(said.readline()) for _ in range(7)]
    namespace = os.open(f"/proc/{pids[6]}/ns/pid", os.O_RDONLY)
    gone = select.poll()
    gone.register(os.pidfd_open(pids[1]), select.POLLIN)
    os.kill(pids[1], signal.SIGKILL)  # the kernel kills all below it first
    gone.poll()

    def leaker():
        child("orphan")
        if libc.setns(namespace, CLONE_NEWPID):
            raise OSError(ctypes.get_errno(), "setns")
        kill_self()

    os.waitpid(child("leaker", leaker), 0)
    tell("done")
    hold()


def traced():
    attached, forked = Gate(), Gate()

    def tracee():
        attached.wait()
        child("kid")
        forked.open()
        hold()

    pid = child("tracee", tracee)

    def tracer():
        syscall("ptrace", PTRACE_SEIZE, pid, 0, 0)
        attached.open()
        hold()

    child("tracer", tracer)
    forked.wait()
    kill_self()


def nobody():
    """A busy parent whose children all end before it."""
    for _ in range(5):
        subprocess.run("echo a | cat | wc -l; (true; (true)); true & wait", shell=True, stdout=subprocess.DEVNULL)
        in_thread(lambda: subprocess.run(["/bin/true"])).join()
        os.waitpid(child("short", lambda: None), 0)
    tell("done")


def spawn(count):
    for _ in range(count):
        os.waitpid(os.posix_spawn(os.environ["TINY"], ["tiny"], {}), 0)


def storm():
    """Two processes that do nothing but run a tiny program, 10,000 times each."""
    pids = [child("runner", lambda: spawn(10_000)) for _ in range(2)]
    for pid in pids:
        os.waitpid(pid, 0)
    tell("done")


def crowd():
    """Living, dying and orphaned processes amid many short ones."""
    held = []
    for i in range(30):
        held.append(child("held"))
        spawn(10)
        os.waitpid(child("leaker", lambda: child("leaked")), 0)
        if i % 3 == 0:
            pid = held.pop(0)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    tell("done")
    hold()


def reuse_pid():
    """One pid, used twice, leaks once each time."""

    def leaker():
        child("orphan")
        kill_self()

    for _ in range(10):
        first = child("first", leaker)
        os.waitpid(first, 0)
        second = 0
        while second != first:  # a thread of the test's may be quicker
            with open("/proc/sys/kernel/ns_last_pid", "w") as f:
                f.write(str(first - 1))
            go = Gate()
            second = os.fork()
            if second == 0:
                go.wait()
                if os.getpid() == first:
                    leaker()
                os._exit(0)
            go.open()
            os.waitpid(second, 0)
    tell("done")
    hold()


def bomb():
    """Forks as fast as a pids-limited cgroup lets it; on refusal a process ends."""
    with open(os.environ["CGROUP"] + "/cgroup.procs", "w") as f:
        f.write(str(os.getpid()))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    until = time.monotonic() + 3
    main = os.getpid()
    while time.monotonic() < until:
        try:
            os.fork()
        except OSError:
            if os.getpid() != main:
                os._exit(0)
    if os.getpid() != main:
        os._exit(0)
    tell("done")


if __name__ == "__main__":
    say("main")
    globals()[sys.argv[1]]()
