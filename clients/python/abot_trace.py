# SPDX-License-Identifier: Apache-2.0
"""Leave no child process behind when a Python program ends.

    import abot_trace

    handler = abot_trace.get_shutdown_handler()
    abot_trace.register_cleanup_callback(database.close)
    handler.register_child_process(worker)    # Process, Pool, Executor, Popen, pid

When the program gets TERM or INT, raises, calls sys.exit() or simply returns, the
registered children are ended with all of their descendants (TERM, a grace, KILL);
then the callbacks run, the last registered first. Nothing else is signalled, and
nothing that has ABOT_TRACE_KEEP=1 in its environment.

Importing does nothing; get_shutdown_handler() installs. A signal handler of the
program's own stays in charge: it is called as before, and the children are ended
when the program ends. Forked children inherit neither callbacks nor children.

SIGKILL and os._exit() of the program run no Python code. With the abot-trace daemon
on its socket the first registration therefore takes a lease: should the program die
without giving it back, the daemon ends every descendant, registered or not.

One file without dependencies, for Python 3.9 and later on Linux 5.3 and later.
"""

import atexit
import os
import select
import signal
import sys
import time

__all__ = ["ShutdownHandler", "get_shutdown_handler", "register_cleanup_callback", "register_child_process"]

DEFAULT_SOCKET = "/run/abot-trace/abot-trace.sock"

_KEEP = b"ABOT_TRACE_KEEP=1"
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
# A daemon that hangs may cost this long, once.
_DAEMON_TIMEOUT = 1.0
# How many processes a daemon lets one holder name.
_MAX_STAYS = 1024
# How long nothing may change, after KILL, until what is left is told and left.
_KILL_PATIENCE = 10.0
# How long Python's resource tracker may take when the others are gone. Killed
# before, it leaks shared memory.
_TRACKER_PATIENCE = 1.0
# What the program's other exit functions get after a signal that ends it.
_EXIT_PATIENCE = 5.0
# What a walk through procfs, a signal and a question to the daemon need open.
_SPARES = 4
# How long other threads may be in the middle of starting a child when the end begins.
_START_PATIENCE = 1.0
# timeout(1) sends its signal twice: to the process and to its group.
_TWICE = 0.01


def get_shutdown_handler(grace=None, callback_timeout=None, socket=None, report=None):
    """Return this process's ShutdownHandler, installed.

    grace is the time between TERM and KILL in seconds (10 at first); callback_timeout
    is what each callback gets (10); socket is the daemon's (else $ABOT_TRACE_SOCKET,
    else the default); report is called with one line for people (else standard error).
    What is None stays as it is. Signals are caught if the caller is the main thread.
    """
    global _handler
    if _handler is None:
        _handler = ShutdownHandler()
    for name, value in (("grace", grace), ("callback_timeout", callback_timeout), ("socket", socket), ("report", report)):
        if value is not None:
            setattr(_handler, name, value)
    _handler._install()
    return _handler


def register_cleanup_callback(fn, *args, **kwargs):
    """Have fn(*args, **kwargs) called when the program ends; return fn, as a decorator does.

    See ShutdownHandler.register_cleanup_callback.
    """
    return get_shutdown_handler().register_cleanup_callback(fn, *args, **kwargs)


def register_child_process(process):
    """Have a child ended with the program. See ShutdownHandler.register_child_process."""
    return get_shutdown_handler().register_child_process(process)


_handler = None  # of this process, and inherited by its forks, where it is empty


class ShutdownHandler:
    """What must end with the program. Use get_shutdown_handler(): there is one.

    Methods may be called from any thread. Callbacks run in the main thread where the
    program ends by a signal or by itself, so that what belongs to it can be closed.
    """

    def __init__(self):
        self.grace = 10.0
        self.callback_timeout = 10.0
        self.socket = None
        self.report = _tell
        self._forget()

    def _forget(self):
        """Be as new, in this process."""
        self._pid = os.getpid()
        self._installed = False
        self._previous = {}  # signal -> handler that was there before
        self._callbacks = []
        self._children = []
        self._hooked = set()  # see _hook_exit
        self._daemon = None
        self._told = set()
        self._spares = []  # descriptors, for a program that has used up all of them
        self._closing, self._closing_thread = False, 0
        self._ended_by = 0  # the signal that asked for the end
        self._forced = False
        self._lingering = False
        self._hold = None  # the _SignalHold that is in force
        self._starting = set()  # threads that are about to start a child
        self._leaving = False  # the program ends: only the thread that ends it starts any more
        self._callback_thread = None  # where a callback may be interrupted
        self._expired = 0

    def register_cleanup_callback(self, fn, *args, **kwargs):
        """Have fn(*args, **kwargs) called when the program ends, after its children have.

        Callbacks run in reverse order, each once and within callback_timeout. One that
        raises or takes longer is told, and the next one runs. A coroutine function is
        run by asyncio.run(), which is impossible where the signal meets a running loop.
        Returns fn.
        """
        self._install()
        self._callbacks.append((fn, args, kwargs))
        return fn

    def unregister_cleanup_callback(self, fn):
        """Forget every registration of fn."""
        self._callbacks[:] = [c for c in self._callbacks if c[0] != fn]

    def register_child_process(self, process):
        """Have a child ended, with its descendants, when the program ends; return it.

        process is a multiprocessing.Process (started or not), Pool or Manager, a
        ProcessPoolExecutor, a Popen of subprocess or asyncio, or a pid. TypeError for
        anything else, ValueError for a process that does not descend from this one.
        """
        self._install()
        child = _Child(process)
        self._children.append(child)
        child.look(self._pid)
        if child.is_foreign():
            self._children.remove(child)
            raise ValueError("%r does not descend from this process" % (process,))
        self._hook_exit(child)
        self._keep_spares()
        self._take_lease()
        self._forget_ended()
        return process

    def unregister_child_process(self, process):
        """Forget a child: it is to outlive the program, or was waited for."""
        self._children[:] = [c for c in self._children if not c.is_of(process)]

    def start(self, process):
        """Start a multiprocessing.Process and register it, with no signal in between.

        A signal that comes meanwhile is acted on afterwards, by the program's own handler,
        too. In a thread beside the one that ends the program it ends the thread (SystemExit).
        """
        self._install()
        with _Start(self):
            self.register_child_process(process)
            process.start()
            self._children[-1].look(self._pid)
        return process

    def popen(self, *args, **kwargs):
        """Return a registered subprocess.Popen(*args, **kwargs). As start()."""
        import subprocess

        self._install()
        with _Start(self):
            return self.register_child_process(subprocess.Popen(*args, **kwargs))

    def shutdown(self):
        """End the registered children, then run the callbacks, now.

        Blocks for at most the grace and the callbacks' time-outs. What is registered
        afterwards is ended by the next shutdown, at the program's end at the latest.
        """
        if self._pid != os.getpid() or self._closing:
            return
        self._closing, self._closing_thread = True, _thread_id()
        try:
            with _OwnSignals(self):
                self._end(self._children)
                self._finish()
        finally:
            self._release_signals()
            self._installed = self._closing = self._forced = False

    # --- installation ---

    def _install(self):
        if self._pid != os.getpid():
            self._forget()
        if self._installed or _reimporting():
            return
        global _fork_hooked
        if not _fork_hooked:
            os.register_at_fork(after_in_child=_after_fork)
            _fork_hooked = True
        self._hook_atexit()
        self._installed = self._catch_signals()

    def _catch_signals(self):
        """Report whether the signals are caught, which only the main thread can do."""
        interactive = hasattr(sys, "ps1") or sys.flags.interactive
        for sig in _SIGNALS:
            previous = signal.getsignal(sig)
            # None is a handler in C. Who is deaf to a signal stays so (nohup, a shell's
            # background job), and at a prompt INT does not end the program.
            if previous in (None, signal.SIG_IGN, self._on_signal) or interactive and sig == signal.SIGINT:
                continue
            try:
                signal.signal(sig, self._on_signal)
            except ValueError:
                self._tell_once("not the main thread: TERM and INT are not caught until it calls get_shutdown_handler()")
                return False
            self._previous[sig] = previous
        return True

    def _release_signals(self):
        for sig, previous in self._previous.items():
            try:
                if signal.getsignal(sig) == self._on_signal:
                    signal.signal(sig, previous)
            except ValueError:
                return  # in another thread: the program goes on, with our handler
        self._previous = {}

    def _hook_atexit(self):
        atexit.unregister(self._at_exit)
        atexit.register(self._at_exit)

    def _hook_exit(self, child):
        """Have our hook run before those that wait for the children: multiprocessing's
        own, and the interpreter's wait for an executor's threads."""
        if "multiprocessing" not in self._hooked and "multiprocessing.process" in sys.modules:
            import multiprocessing.util  # which registers its own when it is imported

            self._hooked.add("multiprocessing")
            self._hook_atexit()
        if child.kind == "executor" and "threads" not in self._hooked:
            import threading

            self._hooked.add("threads")
            try:
                threading._register_atexit(self._before_threads)
            except (AttributeError, RuntimeError):
                pass  # another Python, or it is ending: the atexit hook is what there is

    def _before_threads(self):
        if self._pid == os.getpid() and not self._closing:
            with _OwnSignals(self):
                self._end([c for c in self._children if c.kind == "executor"])

    def _at_exit(self):
        if self._pid == os.getpid():
            self._leaving = True
            self.shutdown()
            if self._ended_by == signal.SIGINT and getattr(sys, "last_type", None) is KeyboardInterrupt:
                self._bound_exit(signal.SIGINT)

    # --- signals ---

    def _on_signal(self, signum, frame):
        previous = self._previous.get(signum, signal.SIG_DFL)
        if self._pid != os.getpid():  # a fork that knows nothing of Python's hooks
            signal.signal(signum, previous)
            os.kill(os.getpid(), signum)
        elif self._lingering:
            pass
        elif self._closing:
            self._on_signal_again(signum)
        elif callable(previous) and previous is not signal.default_int_handler:
            previous(signum, frame)
        else:
            self._end_by(signum)

    def _end_by(self, signum):
        self._lingering = True
        time.sleep(_TWICE)
        self._lingering = False
        self._ended_by = signum
        self._leaving = signum != signal.SIGINT  # which the program may catch
        self.shutdown()
        self._leave(signum)

    def _on_signal_again(self, signum):
        """A signal while the end is under way: the second one forces it."""
        if not self._ended_by:
            self._ended_by = signum
            if self._closing_thread != _thread_id():
                while self._closing:  # in another thread
                    time.sleep(0.01)
                self._leave(signum)
            return
        self._forced = True
        if self._callback_thread == _thread_id():
            raise _Forced

    def _leave(self, signum):
        """End the program as the signal would have, after its exit functions."""
        if signum == signal.SIGINT:
            raise KeyboardInterrupt
        self._bound_exit(signum)
        try:
            atexit._run_exitfuncs()
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
        except BaseException as error:
            self._tell("exit functions: %r" % error)
        self._die(signum)

    def _bound_exit(self, signum):
        """Have the program die of the signal, should its other exit functions not return:
        it may have met one of their locks."""
        for sig in _SIGNALS + (signal.SIGALRM,):
            signal.signal(sig, lambda *_: self._die(signum))
        signal.setitimer(signal.ITIMER_REAL, _EXIT_PATIENCE)

    def _die(self, signum):
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signum, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signum])
        os.kill(os.getpid(), signum)
        os._exit(128 + signum)  # pid 1 of a namespace does not die of it

    # --- callbacks ---

    def _finish(self):
        """What comes after the children."""
        while self._callbacks:
            if self._forced:
                self._tell("forced by a second signal: %d callbacks did not run" % len(self._callbacks))
                self._callbacks.clear()
                break
            fn, args, kwargs = self._callbacks.pop()
            name = getattr(fn, "__qualname__", None) or repr(fn)
            try:
                self._call(fn, args, kwargs)
            except _Forced:
                self._tell("callback %s: interrupted by a second signal" % name)
            except _Expired:
                self._tell("callback %s: did not return within %g s" % (name, self.callback_timeout))
            except BaseException:
                import traceback

                self._tell("callback %s: %s" % (name, traceback.format_exc().rstrip()))
        self._give_lease_back()

    def _call(self, fn, args, kwargs):
        def run():
            result = fn(*args, **kwargs)
            if hasattr(result, "__await__"):
                _run_coroutine(result)

        if not _in_main_thread():
            return _call_in_thread(run, self.callback_timeout)
        self._expired = 0
        alarm = signal.signal(signal.SIGALRM, self._on_alarm)
        timer = signal.setitimer(signal.ITIMER_REAL, self.callback_timeout or 1e-6, 1.0)
        try:
            self._callback_thread = _thread_id()
            run()
        finally:
            self._callback_thread = None
            signal.setitimer(signal.ITIMER_REAL, *timer)
            if alarm is not None:
                signal.signal(signal.SIGALRM, alarm)

    def _on_alarm(self, _signum, _frame):
        if self._callback_thread != _thread_id():
            return
        self._expired += 1
        if self._expired <= 3:
            raise _Expired
        # It catches whatever is raised in it: go on from within, and never return to it.
        self._callback_thread = None
        self._tell("a callback ignores its time-out: going on without it")
        self._finish()
        self._die(self._ended_by) if self._ended_by else os._exit(1)

    # --- children ---

    def _end(self, children):
        self._await_starts()
        if not children:
            return
        with _SignalHold(self, self._on_signal):
            for child in children:
                child.close()
            self._drop_spares()
            tree = _Tree(self, children)
            try:
                tree.end(self.grace)
            finally:
                tree.close()
        self._children[:] = [c for c in self._children if c not in children]

    def _await_starts(self):
        """Wait for the threads that have forked and not registered yet."""
        deadline = time.monotonic() + _START_PATIENCE
        while self._starting - {_thread_id()} and time.monotonic() < deadline:
            time.sleep(0.001)

    def _forget_ended(self):
        """Bound the memory of a program that starts many short-lived children. Those
        that ended are remembered where a daemon knows what they left behind."""
        n = len(self._children)
        if n >= 64 and n & (n - 1) == 0:
            self._children[:] = [c for c in self._children if not c.is_over()]

    def _keep_spares(self):
        try:
            while len(self._spares) < _SPARES:
                self._spares.append(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            pass

    def _drop_spares(self):
        while self._spares:
            os.close(self._spares.pop())

    # --- the daemon ---

    def _take_lease(self):
        if self._daemon is not None or self._closing:
            return
        self._daemon = _Daemon(self.socket or os.environ.get("ABOT_TRACE_SOCKET") or DEFAULT_SOCKET)
        try:
            self._daemon.take_lease(self.grace)
        except OSError as error:
            self._tell_once("no lease from the abot-trace daemon (%s): kill -9 of this process leaves its children behind" % error)

    def _give_lease_back(self):
        daemon, self._daemon = self._daemon, None
        if daemon is not None and daemon.leased:
            try:
                refused = daemon.give_back()
                if refused:
                    self._tell("the daemon may end %d processes that were not registered" % refused)
            except (OSError, KeyError) as error:
                self._tell("lease not given back: %s: the daemon will end all that this process leaves" % error)

    # --- messages ---

    def _tell(self, text):
        try:
            self.report(text)
        except Exception:
            _tell(text)

    def _tell_once(self, text):
        if text not in self._told:
            self._told.add(text)
            self._tell(text)


_fork_hooked = False


def _after_fork():
    """In a forked child: nothing here is its own."""
    if _handler is not None:
        if _handler._hold is not None:
            _handler._hold.restore()
        _handler._release_signals()
        _handler._drop_spares()
        _handler._forget()


def _reimporting():
    """Report whether multiprocessing is importing the parent's main module in a spawned
    child: what it registers then is the parent's."""
    process = sys.modules.get("multiprocessing.process")
    return process is not None and getattr(process.current_process(), "_inheriting", False)


class _Expired(BaseException):
    """A callback took too long."""


class _Forced(BaseException):
    """A second signal came during a callback."""


def _thread_id():
    import _thread

    return _thread.get_ident()


def _in_main_thread():
    threading = sys.modules.get("threading")  # without it there is no other
    return threading is None or threading.current_thread() is threading.main_thread()


def _call_in_thread(run, timeout):
    """Run it in a thread of its own, which is left behind when its time is over."""
    import threading

    failed = []

    def catch():
        try:
            run()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=catch, name="abot_trace callback", daemon=True)
    thread.start()
    thread.join(timeout)
    if failed:
        raise failed[0]
    if thread.is_alive():
        raise _Expired


def _run_coroutine(coroutine):
    import asyncio

    try:
        asyncio.run(coroutine)
    except RuntimeError:
        coroutine.close()
        raise


def _tell(text):
    # Not by sys.stderr: the signal may have come in the middle of its write.
    try:
        os.write(2, ("abot_trace: %s\n" % text).encode("utf-8", "backslashreplace"))
    except OSError:
        pass


class _OwnSignals:
    """While the end is under way, TERM and INT are ours: a handler of the program's own
    that raises would leave it half done."""

    def __init__(self, handler):
        self.handler = handler
        self.replaced = {}

    def __enter__(self):
        if _in_main_thread():
            for sig in _SIGNALS:
                previous = signal.getsignal(sig)
                if previous not in (None, signal.SIG_IGN, self.handler._on_signal):
                    self.replaced[sig] = previous
                    signal.signal(sig, self.handler._on_signal)

    def __exit__(self, *_):
        for sig, previous in self.replaced.items():
            signal.signal(sig, previous)


class _SignalHold:
    """While it is in force, no signal handler of the program's runs in the main thread,
    where it could raise: the signals that came are acted on at its end. One handler may
    be spared: ours, for the second signal that forces the end."""

    def __init__(self, handler, spared=None):
        self.handler = handler
        self.spared = spared
        self.replaced = {}  # signal -> its handler
        self.came = {}  # signal -> the frame that it met

    def __enter__(self):
        handler = self.handler
        if not _in_main_thread() or handler._hold is not None:
            return
        handler._hold = self
        for sig in range(1, signal.NSIG):
            own = signal.getsignal(sig)
            if callable(own) and own != self.spared:
                self.replaced[sig] = own
                signal.signal(sig, self.note)

    def __exit__(self, *_):
        if self.handler._hold is self:
            handlers = dict(self.replaced)
            try:
                self.restore()
            finally:
                self.act(handlers)

    def note(self, signum, frame):
        self.came.setdefault(signum, frame)

    def restore(self):
        self.handler._hold = None
        try:
            for sig, own in list(self.replaced.items()):
                if signal.getsignal(sig) == self.note:
                    signal.signal(sig, own)
                del self.replaced[sig]
        finally:
            if self.replaced:
                self.restore()  # a handler that is back has raised

    def act(self, handlers):
        """Call the handlers of the signals that came: each, even if one raises."""
        if self.came:
            signum, frame = self.came.popitem()
            try:
                handlers[signum](signum, frame)
            finally:
                self.act(handlers)


class _Start:
    """The context in which a child is started and registered."""

    def __init__(self, handler):
        self.handler = handler
        self.hold = _SignalHold(handler)

    def __enter__(self):
        handler = self.handler
        self.hold.__enter__()
        handler._starting.add(_thread_id())  # first: the end waits for those that it does not stop
        if handler._leaving and handler._closing_thread != _thread_id():
            self.__exit__()
            # Silent: to print an exception while the interpreter ends may abort it.
            raise SystemExit("the program is ending: it starts no more children")

    def __exit__(self, *_):
        self.handler._starting.discard(_thread_id())
        self.hold.__exit__()


class _Child:
    """One registered object, and the processes that it stands for."""

    def __init__(self, process):
        self.ids = set()  # (pid, start) of every process seen, living or not
        self.kind = "process"
        self.object = process
        workers = getattr(process, "_processes", None)
        if isinstance(process, int):
            self.workers = lambda: [process]
        elif isinstance(workers, dict):  # an executor: filled as work comes, None in the end
            self.kind, self.workers = "executor", lambda: list(workers.values())
        elif isinstance(getattr(process, "_pool", None), list):
            pool = process._pool
            self.kind, self.workers = "pool", lambda: list(pool)
        elif getattr(process, "_process", None) is not None and not hasattr(process, "pid"):
            server = process._process  # of a Manager
            self.workers = lambda: [server]
        elif hasattr(process, "pid"):
            self.workers = lambda: [process]
        else:
            raise TypeError("not a process, pool, executor or pid: %r" % (process,))
        try:
            from weakref import ref

            self.reference = ref(process)
        except TypeError:
            self.reference = lambda: process
        if self.kind != "process":
            self.object = None  # its own clean-up begins when the program forgets it

    def is_of(self, process):
        return self.reference() is process or isinstance(process, int) and self.reference() == process

    def look(self, own):
        """Note the processes that there are now and descend from this one."""
        for worker in self.workers():
            pid = _pid_of(worker)
            if pid is None:
                continue
            now = _stat(pid, own)
            if now is None or (pid, now.start) in self.ids:
                continue
            if not _descends(now, own) and not _is_lost_worker(now, own):
                continue  # the pid is another's by now
            self.ids.add((pid, now.start))
            if self.kind == "process":
                # Known by pid and start from here on: hold neither pipes nor sentinels.
                self.object, self.workers = None, list

    def close(self):
        """Start no further workers."""
        if self.kind == "pool":
            pool = self.reference()
            try:
                pool._worker_handler._state = "TERMINATE"
                # At exit it would wait for a lock that a killed worker may hold.
                pool._terminate.cancel()
            except AttributeError:
                pass

    def is_foreign(self):
        """Report whether it stands for a living process that is not below this one."""
        return self.kind == "process" and not self.ids and any(
            _pid_of(w) is not None and _lives(_pid_of(w), None) for w in self.workers())

    def is_over(self):
        if self.kind == "process":
            return bool(self.ids) and not any(_lives(*i) for i in self.ids)
        return self.reference() is None and not any(_pid_of(w) and _lives(_pid_of(w), None) for w in self.workers())


def _pid_of(worker):
    """The pid of a process that was started and not reaped, else None."""
    if isinstance(worker, int):
        return worker
    try:
        if getattr(worker, "returncode", None) is not None:
            return None
        popen = getattr(worker, "_popen", None)
        # What a fork server said of its worker is no news of it once the server is dead.
        if getattr(popen, "returncode", None) is not None and getattr(popen, "method", "") != "forkserver":
            return None
        return worker.pid
    except ValueError:  # closed
        return None


class _Tree:
    """The processes to end: the registered ones and what descends from them.

    For as long as it is open this process is a child subreaper, where that can be had:
    what a dying process forks is adopted instead of lost.
    """

    def __init__(self, handler, children):
        self.handler, self.children, self.own = handler, children, handler._pid
        self.members = {}  # (pid, start) -> pidfd, or -1 where there is none
        self.termed, self.kept, self.refused, self.adopted = set(), set(), set(), set()
        self.in_main = _in_main_thread()
        self.room = _free_descriptors() - _SPARES
        self.was_subreaper = _set_subreaper(1)
        self.grow(False)
        self.foreign_children = {pid for _, pid in _children(self.own)}
        self.others = self.unregistered()

    def close(self):
        for fd in self.members.values():
            if fd >= 0:
                os.close(fd)
        if self.was_subreaper == 0:
            _set_subreaper(0)
        for pid, _ in self.adopted:
            _reap(pid)

    def unregistered(self):
        """The living descendants of this process that are none of ours, but for the
        helpers of multiprocessing, which have no children that outlive them."""
        helpers = {pid for pid in self.foreign_children if _is_helper(pid)}
        found, queue = set(), [self.own]
        while queue:
            for _, pid in _children(queue.pop()):
                now = _stat(pid)
                if now is None or now.over or (pid, now.start) in self.members:
                    continue
                queue.append(pid)
                if pid not in helpers:
                    found.add((pid, now.start))
        return found

    def end(self, grace):
        """TERM, the grace, KILL."""
        deadline = time.monotonic() + grace
        self.term()
        while True:
            living = self.living()
            if not living:
                if not self.grow():
                    return
                self.term()
                continue
            if self.handler._forced or time.monotonic() >= deadline:
                break
            self.wait(living, min(deadline - time.monotonic(), 0.05))
            if self.was_subreaper is None or self.others or self.kept:
                self.grow()
            if not (self.living() & self.termed):
                self.term()  # all that were told have gone: the rest was forked meanwhile
        self.kill()

    def term(self):
        """Signal every member once. Twice around, for those forked meanwhile."""
        for _ in range(2):
            for key in self.living() - self.termed:
                self.termed.add(key)
                if not _is_tracker(key[0]):
                    self.send(key, signal.SIGTERM)
                    now = _stat(key[0])
                    if now is not None and now.state == "T":
                        self.send(key, signal.SIGCONT)
            if not self.grow():
                return

    def kill(self):
        """KILL until nothing is left, for trees grow while one kills them."""
        rounds, last, alone = 0, time.monotonic(), None
        while True:
            grown = self.grow()
            living = self.living()
            if not living and not grown:
                return
            trackers = self.trackers(living)
            if living - trackers:
                alone = None
            else:
                alone = alone or time.monotonic()
                if time.monotonic() - alone > _TRACKER_PATIENCE:
                    trackers = set()
            if rounds >= 2:
                self.freeze(living - trackers)
            for key in living - trackers:
                self.send(key, signal.SIGKILL)
            before = len(living)
            self.wait(living, 0.001 * (1 + min(rounds, 49)))
            if grown or len(self.living()) < before:
                last = time.monotonic()
            if time.monotonic() - last > _KILL_PATIENCE:
                return self.tell_left()
            rounds += 1

    def freeze(self, keys):
        """Stop what forks as fast as it is killed; it is killed next."""
        for key in keys:
            self.send(key, signal.SIGSTOP)

    def trackers(self, keys):
        return {key for key in keys if _is_tracker(key[0])}

    def tell_left(self):
        for key in self.living():
            why = "not permitted to signal it" if key in self.refused else "it survives SIGKILL"
            self.handler._tell("process %d could not be ended: %s" % (key[0], why))

    def wait(self, keys, seconds):
        """Until one of them ends, or the time is over."""
        poll = select.poll()
        fds = [self.members[key] for key in keys if self.members[key] >= 0]
        for fd in fds:
            poll.register(fd, select.POLLIN)
        if len(fds) < len(keys):
            seconds = min(seconds, 0.01)
        poll.poll(max(1, seconds * 1000))

    def living(self):
        """The members that live: a pidfd is readable when its process has ended."""
        poll = select.poll()
        for fd in self.members.values():
            if fd >= 0:
                poll.register(fd, select.POLLIN)
        ended = {fd for fd, _ in poll.poll(0)}
        return {key for key, fd in self.members.items()
                if (fd not in ended if fd >= 0 else _lives(*key))}

    def grow(self, adopt=True):
        """Find processes that are not known yet, and report whether there were any."""
        known = len(self.members)
        for child in list(self.children):
            child.look(self.own)
            for key in list(child.ids):
                self.add(*key)
        if adopt:
            self.adopt()
        queue = [pid for pid, _ in self.living()]
        while queue:
            for _, pid in _children(queue.pop()):
                if self.add(pid):
                    queue.append(pid)
        return len(self.members) > known

    def adopt(self):
        """Take in what became our child although nobody here forked it: an orphan. That
        is certain where the main thread, whose children they become, is the one that
        looks."""
        if self.was_subreaper is None and self.own != 1 or not self.in_main:
            return
        for thread, pid in _children(self.own):
            if thread not in (self.own, 0) or pid in self.foreign_children:
                continue
            now = _stat(pid)
            if now is None or (pid, now.start) in self.members:
                continue
            if now.over:
                _reap(pid)
            elif self.is_ours(now):
                self.adopted.add((pid, now.start))
                self.add(pid, now.start)
            else:
                self.foreign_children.add(pid)
                self.handler._tell("process %d, an orphan, may come from a child that was not registered: left" % pid)

    def is_ours(self, orphan):
        """Report whether an orphan descends from a registered child: so if nothing else
        could have left it, or if it is in a session or group that one of them made."""
        if not self.kept and not any(_lives(*key) for key in self.others):
            return True
        pids = {pid for pid, _ in self.members}
        return orphan.session in pids or orphan.group in pids

    def add(self, pid, start=None):
        """Take a process in, verified, and report whether it is new."""
        now = _stat(pid, self.own)
        if now is None or now.over or not _same(start, now.start) or pid == self.own:
            return False
        key = (pid, start or now.start)
        if key in self.members or key in self.kept:
            return False
        if _keeps(pid):
            self.kept.add(key)
            self.handler._tell("kept process %d: ABOT_TRACE_KEEP=1" % pid)
            return False
        fd = self.open(key)
        if fd is None:
            return False
        if fd >= 0 and self.room <= 0:
            os.close(fd)
            fd = -1  # opened again when it is signalled
        self.room -= fd >= 0
        self.members[key] = fd
        return True

    def open(self, key):
        """A pidfd of the process with that pid and start; None if it is gone, -1 if there
        can be none."""
        try:
            fd = os.pidfd_open(key[0])
        except ProcessLookupError:
            return None
        except OSError:
            return -1  # too many descriptors, or a kernel or sandbox without them
        now = _stat(key[0], self.own)
        if now is None or not _same(now.start, key[1]):
            os.close(fd)
            return None
        return fd

    def send(self, key, sig):
        fd = self.members[key]
        try:
            if fd < 0:
                fd = self.open(key)
            if fd is None:
                return
            if fd >= 0:
                signal.pidfd_send_signal(fd, sig)
            elif _is_unreaped_child(key[0]) and _lives(*key):
                os.kill(key[0], sig)  # the pid is its own until somebody here waits for it
            else:
                self.refused.add(key)
        except ProcessLookupError:
            pass
        except OSError:
            self.refused.add(key)
        finally:
            if fd is not None and fd >= 0 and self.members[key] < 0:
                os.close(fd)


# --- procfs ---


class _Stat:
    """What /proc/PID/stat says; see proc(5). The start, in clock ticks since boot, makes
    the pid an identity."""

    __slots__ = ("pid", "parent", "group", "session", "start", "state", "over")

    def __init__(self, pid, fields):
        self.pid, self.state = pid, fields[0]
        self.parent, self.group, self.session = int(fields[1]), int(fields[2]), int(fields[3])
        self.start = int(fields[19])
        # A leader may be a zombie while other threads live.
        self.over = self.state in "ZX" and int(fields[17]) <= 1


def _stat(pid, own=None):
    """What procfs says of a process now, or None. Where procfs is not ours, a child of
    own that was not reaped is known by its pid alone."""
    if not _procfs_is_ours():
        if own is not None and _is_unreaped_child(pid):
            return _Stat(pid, ["?", own, 0, 0] + [0] * 13 + [2, 0, 0])
        return None
    data = _read(pid, "stat")
    return _Stat(pid, data[data.rindex(b")") + 2:].decode("ascii").split()) if data else None


def _same(start, other):
    """Compare starts; 0 and None are not known: of a child that was not reaped, and
    cannot be another."""
    return not start or not other or start == other


def _procfs_is_ours():
    """Report whether procfs is there and of this pid namespace: its numbers would name
    other processes."""
    try:
        return os.readlink("/proc/self") == str(os.getpid())
    except OSError:
        return False


def _read(pid, name):
    try:
        fd = os.open("/proc/%d/%s" % (pid, name), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        data = b""
        while True:
            part = os.read(fd, 65536)
            data += part
            if not part:
                return data
    except OSError:
        return b""
    finally:
        os.close(fd)


def _lives(pid, start):
    if not _procfs_is_ours():
        return _is_unreaped_child(pid)
    now = _stat(pid)
    return now is not None and not now.over and _same(start, now.start)


def _descends(process, own):
    """Report whether the process is below this one."""
    for _ in range(1000):
        if process is None or process.parent == 0:
            return False
        if process.parent == own:
            return True
        process = _stat(process.parent)
    return False


def _is_lost_worker(process, own):
    """Report whether a process that multiprocessing calls ours was a worker of our fork
    server, which has died: a signal to the group ends it before its workers."""
    me = _stat(own)
    return (me is not None and process.session == me.session and process.start >= me.start
            and b"multiprocessing.forkserver" in _read(process.pid, "cmdline"))


def _children(pid):
    """(thread, child) for each child of pid, zombies too: the kernel lists them under
    the thread that forked them. The thread is 0 where it cannot tell."""
    if not _procfs_is_ours():
        return []
    try:
        threads = os.listdir("/proc/%d/task" % pid)
    except OSError:
        return []
    if not os.path.exists("/proc/self/task/%d/children" % os.getpid()):
        return _children_by_parent(pid)
    return [(int(t), int(c)) for t in threads for c in _read(pid, "task/%s/children" % t).split()]


def _children_by_parent(pid):
    """The same without CONFIG_PROC_CHILDREN: a look at every process."""
    stats = (_stat(int(name)) for name in os.listdir("/proc") if name.isdigit())
    return [(0, s.pid) for s in stats if s is not None and s.parent == pid]


def _keeps(pid):
    """Report whether the process is declared deliberate. A mark that this program was
    itself started with speaks of it alone, not of its mere forks."""
    environ = _read(pid, "environ")
    return _KEEP in environ.split(b"\0") and environ != _read(os.getpid(), "environ")


def _is_tracker(pid):
    """Python's resource tracker ignores TERM and ends by itself, after cleaning up, when
    the last of the others has."""
    return b"multiprocessing.resource_tracker" in _read(pid, "cmdline")


def _is_helper(pid):
    return _is_tracker(pid) or b"multiprocessing.forkserver" in _read(pid, "cmdline")


def _is_unreaped_child(pid):
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    except OSError:
        return False


def _free_descriptors():
    try:
        return os.sysconf("SC_OPEN_MAX") - len(os.listdir("/proc/self/fd"))
    except OSError:
        return 0


def _reap(pid):
    try:
        os.waitpid(pid, os.WNOHANG)
    except OSError:
        pass


def _set_subreaper(value):
    """Set prctl(2)'s PR_SET_CHILD_SUBREAPER; return what it was, or None."""
    try:
        import ctypes

        prctl = ctypes.CDLL(None).prctl
        was, zero = ctypes.c_int(), ctypes.c_ulong(0)
        if prctl(37, ctypes.byref(was), zero, zero, zero) or prctl(36, ctypes.c_ulong(value), zero, zero, zero):
            return None
        return was.value
    except Exception:
        return None  # a minimal Python has no ctypes


# --- the daemon ---


class _Daemon:
    """The abot-trace daemon, over its socket."""

    def __init__(self, path):
        self.path = path
        self.leased = False

    def take_lease(self, grace):
        """Make this process the holder of a lease on its descendants, until it dies."""
        import stat

        info = os.stat(self.path)
        if not stat.S_ISSOCK(info.st_mode) or info.st_uid not in (0, os.geteuid()):
            raise OSError("%s is no socket of root's or our own" % self.path)
        try:
            self.ask("POST", "/v1/lease", {"grace_seconds": min(grace, 3600)})
        except _Refused:
            self.leased = False
            raise

    def give_back(self):
        """End the lease in order; whoever is left now stays."""
        stays = self.ask("GET", "/v1/descendants")["processes"]
        refused = self.ask("DELETE", "/v1/lease", {"stays": stays[:_MAX_STAYS]})["refused"]
        self.leased = False
        return len(stays[_MAX_STAYS:]) + len(refused)

    def ask(self, method, path, body=None):
        import json
        import socket

        data = b"" if body is None else json.dumps(body).encode()
        head = "%s %s HTTP/1.0\r\nHost: abot-trace\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(_DAEMON_TIMEOUT)
            connection.connect(self.path)
            # Whatever happens from here on, it may have been heard.
            self.leased = self.leased or method == "POST"
            connection.sendall((head % (method, path, len(data))).encode() + data)
            answer = b""
            while True:
                part = connection.recv(65536)
                answer += part
                if not part:
                    break
        head, _, text = answer.partition(b"\r\n\r\n")
        status = head.split(b"\r\n")[0].decode("ascii", "replace")
        if " 200 " not in status + " ":
            raise _Refused("%s %s: %s %r" % (method, path, status, text[:200].decode("utf-8", "replace").strip()))
        try:
            return json.loads(text)
        except ValueError as error:
            raise OSError("%s %s: %s" % (method, path, error))


class _Refused(OSError):
    """The daemon answered no."""
