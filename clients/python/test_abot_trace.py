# SPDX-License-Identifier: Apache-2.0
"""Tests of abot_trace: each runs a program of its own, for the module is about endings.

    python3 -m unittest test_abot_trace
"""

import os
import signal
import subprocess
import sys
import textwrap
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
PATIENCE = 60
PRELUDE = """
import os, signal, sys, threading, time
import abot_trace
def say(text):
    os.write(1, (text + "\\n").encode())
def wait():
    say("ready")
    time.sleep(60)
def alive(pid):
    try:
        with open("/proc/%d/stat" % pid) as f:
            return f.read().rsplit(")", 1)[1].split()[0] not in "ZX"
    except FileNotFoundError:
        return False
"""


class Program:
    """A running program; its standard output is read line by line."""

    def __init__(self, test, text, *args, module=None):
        self.path = os.path.join(test.enterTemporary(), "program.py")
        with open(self.path, "w") as f:
            f.write(PRELUDE + textwrap.dedent(text))
        env = dict(os.environ, PYTHONPATH=HERE, PYTHONDONTWRITEBYTECODE="1", ABOT_TRACE_SOCKET="/nonexistent")
        for name in ("ABOT_TRACE_KEEP", "PYTHONUNBUFFERED"):
            env.pop(name, None)
        self.mark = ("ABOT_TRACE_TEST=%d.%d" % (os.getpid(), id(self))).encode() + b"\0"
        env["ABOT_TRACE_TEST"] = self.mark.decode()[len("ABOT_TRACE_TEST="):-1]
        self.process = subprocess.Popen([sys.executable, *args, self.path], env=env, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        test.addCleanup(self.end)

    def end(self):
        self.process.kill()
        self.process.wait()
        for pid in carrying(self.mark):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        for stream in (self.process.stdin, self.process.stdout, self.process.stderr):
            stream.close()

    def line(self):
        """Read one line and no byte more, for finish() reads the pipe itself."""
        line = b""
        while not line.endswith(b"\n"):
            byte = os.read(self.process.stdout.fileno(), 1)
            if not byte:
                raise AssertionError("ended after %r: %s" % (line, self.process.stderr.read()))
            line += byte
        return line.decode().strip()

    def until(self, *words):
        """Read until these lines have come, in whatever order; return the lines between them."""
        words, between = list(words), []
        while words:
            line = self.line()
            if line in words:
                words.remove(line)
            else:
                between.append(line)
        return between

    def finish(self, sig=None):
        """Signal it, and return its code, the rest of its lines, and standard error."""
        if sig is not None:
            self.process.send_signal(sig)
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out.split(), err


class Case(unittest.TestCase):
    def enterTemporary(self):
        import tempfile

        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        return directory.name

    def run_program(self, text, *args):
        return Program(self, text, *args)


class Callbacks(Case):
    def test_reverse_order_and_errors(self):
        program = self.run_program("""
            abot_trace.register_cleanup_callback(say, "first")
            abot_trace.register_cleanup_callback(lambda: 1 / 0)
            abot_trace.register_cleanup_callback(sys.exit, 9)
            @abot_trace.register_cleanup_callback
            def last():
                say("last")
            wait()
        """)
        program.until("ready")
        code, out, err = program.finish(signal.SIGTERM)
        self.assertEqual((code, out), (-signal.SIGTERM, ["last", "first"]))
        self.assertIn("callback <lambda>: Traceback", err)
        self.assertIn("ZeroDivisionError", err)
        self.assertIn("SystemExit: 9", err)

    def test_timeouts(self):
        program = self.run_program("""
            abot_trace.get_shutdown_handler(callback_timeout=0.2)
            abot_trace.register_cleanup_callback(say, "reached")
            abot_trace.register_cleanup_callback(time.sleep, 60)
            lock = threading.Lock()
            lock.acquire()
            abot_trace.register_cleanup_callback(lock.acquire)
            def spin():
                while True:
                    pass
            abot_trace.register_cleanup_callback(spin)
            wait()
        """)
        program.until("ready")
        code, out, err = program.finish(signal.SIGTERM)
        self.assertEqual((code, out), (-signal.SIGTERM, ["reached"]))
        self.assertEqual(err.count("did not return within 0.2 s"), 3, err)

    def test_one_that_catches_everything(self):
        for ending, code in (("wait()", -signal.SIGTERM), ("say('ready')", 1)):
            with self.subTest(ending):
                program = self.run_program("""
abot_trace.get_shutdown_handler(callback_timeout=0.1)
abot_trace.register_cleanup_callback(say, "reached")
@abot_trace.register_cleanup_callback
def stubborn():
    while True:
        try:
            time.sleep(60)
        except BaseException:
            pass
""" + ending)
                program.until("ready")
                got, out, err = program.finish(signal.SIGTERM if code < 0 else None)
                self.assertEqual((got, out), (code, ["reached"]), err)

    def test_in_the_main_thread(self):
        program = self.run_program("""
            main = threading.get_ident()
            abot_trace.register_cleanup_callback(lambda: say(str(threading.get_ident() == main)))
            wait()
        """)
        program.until("ready")
        self.assertEqual(program.finish(signal.SIGTERM)[1], ["True"])

    def test_alarm_of_the_program(self):
        program = self.run_program("""
            signal.signal(signal.SIGALRM, lambda *_: say("alarm"))
            signal.setitimer(signal.ITIMER_REAL, 100)
            handler = abot_trace.get_shutdown_handler()
            abot_trace.register_cleanup_callback(say, "called")
            handler.shutdown()
            say(str(signal.getitimer(signal.ITIMER_REAL)[0] > 50))
            signal.raise_signal(signal.SIGALRM)
        """)
        self.assertEqual(program.finish()[1], ["called", "True", "alarm"])

    def test_coroutine(self):
        program = self.run_program("""
            import asyncio
            async def close():
                await asyncio.sleep(0)
                say("closed")
            abot_trace.register_cleanup_callback(close)
        """)
        self.assertEqual(program.finish()[:2], (0, ["closed"]))

    def test_from_another_thread(self):
        program = self.run_program("""
            handler = abot_trace.get_shutdown_handler(callback_timeout=0.2)
            abot_trace.register_cleanup_callback(say, "called")
            abot_trace.register_cleanup_callback(time.sleep, 60)
            thread = threading.Thread(target=handler.shutdown)
            thread.start()
            thread.join()
            say("back")
        """)
        code, out, err = program.finish()
        self.assertEqual((code, out), (0, ["called", "back"]))
        self.assertIn("did not return within 0.2 s", err)


class Signals(Case):
    def test_import_does_nothing(self):
        program = self.run_program("""
            say(str(signal.getsignal(signal.SIGTERM) == signal.SIG_DFL))
            say(str(threading.active_count()))
            abot_trace.get_shutdown_handler()
            say(str(signal.getsignal(signal.SIGTERM) == signal.SIG_DFL))
            say(str(threading.active_count()))
        """)
        self.assertEqual(program.finish()[1], ["True", "1", "False", "1"])

    def test_own_handler_stays_in_charge(self):
        for order in ("before", "after"):
            with self.subTest(order):
                own = "signal.signal(signal.SIGTERM, lambda *_: stop.append(say('own')))"
                install = "abot_trace.register_cleanup_callback(say, 'callback')"
                lines = [own, install] if order == "before" else [install, own]
                program = self.run_program("stop = []\n" + "\n".join(lines) +
                                           "\nsay('ready')\nwhile not stop:\n    time.sleep(0.01)\nsay('orderly')\n")
                program.until("ready")
                self.assertEqual(program.finish(signal.SIGTERM)[:2], (0, ["own", "orderly", "callback"]))

    def test_own_handler_that_raises_while_the_end_is_under_way(self):
        program = self.run_program("""
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))
            handler = abot_trace.get_shutdown_handler(grace=0.5)
            child = []
            abot_trace.register_cleanup_callback(lambda: say(str(alive(child[0].pid))))
            child.append(handler.popen(["sh", "-c", "trap 'echo told' TERM; echo up; while :; do sleep 0.01; done"]))
            wait()
        """)
        program.until("up", "ready")
        program.process.terminate()
        program.until("told")
        self.assertEqual(program.finish(signal.SIGTERM)[:2], (5, ["False"]))

    def test_own_handler_that_raises_while_a_child_is_started(self):
        """Python runs a handler wherever the main thread is: also between fork and registration."""
        starts = {
            "popen": "handler.popen(['sleep', '600'], preexec_fn=lambda: os.kill(os.getppid(), number))",
            "start": "handler.start(Process(target=time.sleep, args=(600,)))",
        }
        for start, statement in starts.items():
            for name in ("SIGTERM", "SIGINT", "SIGALRM"):
                for order in ("before", "after"):
                    with self.subTest("%s %s %s" % (start, name, order)):
                        own = "signal.signal(number, lambda *_: sys.exit(7))"
                        install = "handler = abot_trace.get_shutdown_handler()"
                        lines = [own, install] if order == "before" else [install, own]
                        program = self.run_program("""
import multiprocessing
class Process(multiprocessing.get_context("fork").Process):
    @staticmethod
    def _Popen(process):
        popen = multiprocessing.get_context("fork").Process._Popen(process)
        signal.raise_signal(number)
        return popen
number = signal.%s
%s
%s
say("not reached")
""" % (name, "\n".join(lines), statement))
                        code, out, err = program.finish()
                        self.assertEqual((code, out), (7, []), err)
                        self.assertEqual(carrying(program.mark), [], err)

    def test_handlers_are_as_before_after_a_start(self):
        program = self.run_program("""
            import multiprocessing
            def own(*_):
                pass
            def handlers():
                return [signal.getsignal(n) for n in range(1, signal.NSIG)]
            signal.signal(signal.SIGTERM, own)
            before = handlers()
            handler = abot_trace.get_shutdown_handler()
            signal.signal(signal.SIGUSR1, own)
            installed = handlers()
            child = handler.popen(["sh", "-c", "kill -TERM $$; sleep 600"])
            say(str(handlers() == installed))
            say(str(child.wait()))
            before[signal.SIGUSR1 - 1] = own
            worker = multiprocessing.get_context("fork").Process(target=lambda: say(str(handlers() == before)))
            before[signal.SIGINT - 1] = signal.default_int_handler
            handler.start(worker)
            worker.join()
        """)
        self.assertEqual(program.finish()[:2], (0, ["True", "-15", "True"]))

    def test_own_handler_of_another_signal_that_raises_while_the_end_is_under_way(self):
        program = self.run_program("""
            signal.signal(signal.SIGALRM, lambda *_: sys.exit(5))
            handler = abot_trace.get_shutdown_handler(grace=0.5)
            abot_trace.register_cleanup_callback(say, "callback")
            handler.popen(["sh", "-c", "trap 'kill -ALRM $PPID' TERM; echo ready; while :; do sleep 0.01; done"])
            time.sleep(60)
        """)
        program.until("ready")
        code, out, err = program.finish(signal.SIGTERM)
        self.assertEqual(out, ["callback"], err)
        self.assertEqual(carrying(program.mark), [], err)

    def test_asyncio(self):
        for order in ("before", "after"):
            with self.subTest(order):
                own = "loop.add_signal_handler(signal.SIGTERM, stop.set)"
                install = "abot_trace.register_cleanup_callback(say, 'callback')"
                lines = [own, install] if order == "before" else [install, own]
                program = self.run_program("""
import asyncio
async def main():
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    %s
    say("ready")
    await stop.wait()
    say("orderly")
asyncio.run(main())
""" % "\n    ".join(lines))
                program.until("ready")
                self.assertEqual(program.finish(signal.SIGTERM)[:2], (0, ["orderly", "callback"]))

    def test_asyncio_interrupted(self):
        program = self.run_program("""
            import asyncio
            async def main():
                abot_trace.register_cleanup_callback(say, "callback")
                try:
                    say("ready")
                    await asyncio.sleep(60)
                finally:
                    say("cancelled")
            asyncio.run(main())
        """)
        program.until("ready")
        code, out, _ = program.finish(signal.SIGINT)
        self.assertEqual((code, sorted(out)), (-signal.SIGINT, ["callback", "cancelled"]))

    def test_second_signal_forces(self):
        program = self.run_program("""
            handler = abot_trace.get_shutdown_handler(grace=60)
            abot_trace.register_cleanup_callback(say, "callback")
            child = handler.popen(["sh", "-c", "trap 'echo told' TERM; echo ready; while :; do sleep 0.01; done"])
            time.sleep(60)
        """)
        program.until("ready")
        program.process.terminate()
        program.until("told")
        code, out, err = program.finish(signal.SIGINT)
        self.assertEqual((code, out), (-signal.SIGTERM, []))
        self.assertIn("1 callbacks did not run", err)

    def test_second_signal_interrupts_a_callback(self):
        program = self.run_program("""
            abot_trace.register_cleanup_callback(say, "not reached")
            abot_trace.register_cleanup_callback(wait)
            say("up")
            time.sleep(60)
        """)
        program.until("up")
        program.process.terminate()
        program.until("ready")
        code, out, err = program.finish(signal.SIGTERM)
        self.assertEqual((code, out), (-signal.SIGTERM, []))
        self.assertIn("interrupted by a second signal", err)

    def test_twice_at_once_is_one(self):
        program = self.run_program("""
            abot_trace.register_cleanup_callback(say, "callback")
            say("ready")
            time.sleep(60)
        """)
        program.until("ready")
        program.process.terminate()
        self.assertEqual(program.finish(signal.SIGTERM)[:2], (-signal.SIGTERM, ["callback"]))

    def test_ignored_signals_stay_ignored(self):
        program = self.run_program("""
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            abot_trace.get_shutdown_handler()
            say(str(signal.getsignal(signal.SIGINT) == signal.SIG_IGN))
        """)
        self.assertEqual(program.finish()[1], ["True"])

    def test_not_the_main_thread(self):
        program = self.run_program("""
            thread = threading.Thread(target=abot_trace.register_cleanup_callback, args=(say, "callback"))
            thread.start()
            thread.join()
            abot_trace.get_shutdown_handler()
            wait()
        """)
        program.until("ready")
        code, out, err = program.finish(signal.SIGTERM)
        self.assertEqual((code, out), (-signal.SIGTERM, ["callback"]))
        self.assertIn("not the main thread", err)

    def test_exit_functions_of_others(self):
        program = self.run_program("""
            import atexit
            atexit.register(say, "other")
            abot_trace.register_cleanup_callback(say, "callback")
            sys.stdout.write("flushed\\n")
            wait()
        """)
        program.until("ready")
        self.assertEqual(program.finish(signal.SIGTERM)[:2], (-signal.SIGTERM, ["callback", "other", "flushed"]))

    def test_exit_function_of_others_that_does_not_end(self):
        """As multiprocessing's wait for a thread of a queue, whose lock the signal has met."""
        for number in (signal.SIGTERM, signal.SIGINT):
            with self.subTest(number):
                program = self.run_program("""
                    import atexit
                    abot_trace._EXIT_PATIENCE = 0.2
                    atexit.register(threading.Event().wait)
                    abot_trace.register_cleanup_callback(say, "callback")
                    wait()
                """)
                program.until("ready")
                self.assertEqual(program.finish(number)[:2], (-number, ["callback"]))

    def test_interrupt_that_the_program_catches(self):
        program = self.run_program("""
            import atexit
            abot_trace._EXIT_PATIENCE = 0.01
            atexit.register(lambda: (time.sleep(0.2), say("other")))
            abot_trace.register_cleanup_callback(say, "callback")
            try:
                wait()
            except KeyboardInterrupt:
                say("caught")
        """)
        program.until("ready")
        self.assertEqual(program.finish(signal.SIGINT)[:2], (0, ["callback", "caught", "other"]))

    def test_thread_that_does_not_end(self):
        program = self.run_program("""
            threading.Thread(target=time.sleep, args=(60,)).start()
            abot_trace.register_cleanup_callback(say, "callback")
            wait()
        """)
        program.until("ready")
        self.assertEqual(program.finish(signal.SIGTERM)[:2], (-signal.SIGTERM, ["callback"]))

    def test_shutdown_in_a_thread_and_a_signal(self):
        program = self.run_program("""
            handler = abot_trace.get_shutdown_handler(grace=0.3)
            child = handler.popen(["sh", "-c", "trap 'echo told' TERM; echo ready; while :; do sleep 0.01; done"])
            sys.stdin.readline()
            threading.Thread(target=handler.shutdown).start()
            time.sleep(60)
        """)
        program.until("ready")
        program.process.stdin.write("go\n")
        program.process.stdin.flush()
        program.until("told")
        self.assertEqual(program.finish(signal.SIGTERM)[0], -signal.SIGTERM)


class Forks(Case):
    def test_worker_runs_no_callback_of_its_parent(self):
        for method in ("fork", "spawn", "forkserver"):
            for ending in ("os.kill(os.getpid(), signal.SIGTERM); time.sleep(60)", "pass", "sys.exit(3)", "1 / 0"):
                with self.subTest(method + " " + ending):
                    # At module level on purpose: spawn imports it anew in the worker.
                    program = self.run_program("""
import multiprocessing
abot_trace.register_cleanup_callback(lambda: say("callback %%d" %% os.getpid()))
def work():
    %s
if __name__ == "__main__":
    say(str(os.getpid()))
    worker = multiprocessing.get_context("%s").Process(target=work)
    worker.start()
    worker.join()
""" % (ending, method))
                    main = program.line()
                    code, out, _ = program.finish()
                    self.assertEqual((code, out), (0, ["callback", main]))

    def test_fork_that_exits(self):
        program = self.run_program("""
            abot_trace.register_cleanup_callback(say, "callback")
            if os.fork() == 0:
                sys.exit(0)
            os.wait()
        """)
        self.assertEqual(program.finish()[:2], (0, ["callback"]))

    def test_fork_in_a_callback(self):
        program = self.run_program("""
            abot_trace.register_cleanup_callback(say, "first")
            @abot_trace.register_cleanup_callback
            def fork():
                if os.fork() == 0:
                    say("child")
                    os._exit(0)
                os.wait()
            wait()
        """)
        program.until("ready")
        self.assertEqual(program.finish(signal.SIGTERM)[:2], (-signal.SIGTERM, ["child", "first"]))

    def test_worker_with_children_of_its_own(self):
        for method in ("fork", "spawn", "forkserver"):
            with self.subTest(method):
                program = self.run_program("""
import multiprocessing
def work():
    child = abot_trace.get_shutdown_handler().popen(["sleep", "600"])
    abot_trace.register_cleanup_callback(lambda: say("worker's: %%s" %% alive(child.pid)))
    wait()
if __name__ == "__main__":
    handler = abot_trace.get_shutdown_handler(grace=30)
    abot_trace.register_cleanup_callback(say, "main's")
    handler.start(multiprocessing.get_context("%s").Process(target=work))
    time.sleep(60)
""" % method)
                program.until("ready")
                # TERM of the whole tree ends the grandchild at once or by its parent.
                code, out, _ = program.finish(signal.SIGTERM)
                self.assertEqual((code, out), (-signal.SIGTERM, ["worker's:", "False", "main's"]))


class Children(Case):
    def test_only_registered_ones(self):
        program = self.run_program("""
            import subprocess
            other = subprocess.Popen(["sleep", "600"])
            below = subprocess.Popen(["sh", "-c", "sleep 600 & echo $!; wait"], stdout=subprocess.PIPE, text=True)
            grandchild = int(below.stdout.readline())
            handler = abot_trace.get_shutdown_handler()
            mine = handler.popen(["sleep", "600"])
            handler.shutdown()
            say("%s %s %s %s" % (alive(mine.pid), alive(other.pid), alive(below.pid), alive(grandchild)))
            os.kill(grandchild, signal.SIGKILL); other.kill(); below.wait()
        """)
        self.assertEqual(program.finish()[:2], (0, ["False", "True", "True", "True"]))

    def test_unregistered(self):
        program = self.run_program("""
            handler = abot_trace.get_shutdown_handler()
            child = handler.popen(["sleep", "600"])
            handler.unregister_child_process(child)
            handler.shutdown()
            say(str(alive(child.pid)))
            child.kill()
        """)
        self.assertEqual(program.finish()[:2], (0, ["True"]))

    def test_keep(self):
        program = self.run_program("""
            handler = abot_trace.get_shutdown_handler(grace=0.2)
            read, write = os.pipe()
            kept = handler.popen(["sh", "-c", "sleep 600 & echo $!; wait"], env=dict(os.environ, ABOT_TRACE_KEEP="1"), stdout=write)
            below = int(os.read(read, 100))
            mine = handler.popen(["sleep", "600"])
            handler.shutdown()
            say("%s %s %s" % (alive(mine.pid), alive(kept.pid), alive(below)))
            os.kill(below, signal.SIGKILL); kept.wait()
        """)
        code, out, err = program.finish()
        self.assertEqual((code, out), (0, ["False", "True", "True"]), err)
        self.assertIn("ABOT_TRACE_KEEP=1", err)

    def test_what_is_no_child(self):
        program = self.run_program("""
            handler = abot_trace.get_shutdown_handler()
            for thing in (os.getppid(), 1, "sleep", object()):
                try:
                    handler.register_child_process(thing)
                except (TypeError, ValueError) as error:
                    say(type(error).__name__)
        """)
        self.assertEqual(program.finish()[:2], (0, ["ValueError", "ValueError", "TypeError", "TypeError"]))

    def test_reused_pid(self):
        program = self.run_program("""
            import subprocess
            handler = abot_trace.get_shutdown_handler()
            first = handler.popen(["true"])
            first.wait()
            # Another child with that pid: known by another start.
            try:
                with open("/proc/sys/kernel/ns_last_pid", "w") as f:
                    f.write(str(first.pid - 1))
            except OSError:
                say("not root"); sys.exit()
            time.sleep(0.05)
            second = subprocess.Popen(["sleep", "600"])
            handler.shutdown()
            say("%s" % alive(second.pid))
            second.kill()
        """)
        code, out, err = program.finish()
        self.assertEqual(code, 0, err)
        self.assertIn(out, (["True"], ["not", "root"]))

    def test_pool_that_replaces_its_workers(self):
        program = self.run_program("""
import multiprocessing
def work(_):
    time.sleep(0.001)
if __name__ == "__main__":
    handler = abot_trace.get_shutdown_handler(grace=1)
    pool = multiprocessing.Pool(2, maxtasksperchild=1)
    handler.register_child_process(pool)
    for i, _ in enumerate(pool.imap(work, range(1000000), chunksize=1)):
        if i == 20:
            say("ready")
""")
        program.until("ready")
        code, out, err = program.finish(signal.SIGTERM)
        self.assertEqual((code, out), (-signal.SIGTERM, []), err)

    def test_in_the_middle_of_starting(self):
        # Every signal finds children that are being started; none may be missed.
        for delay in range(0, 40, 4):
            program = self.run_program("""
                handler = abot_trace.get_shutdown_handler(grace=5)
                say("ready")
                while True:
                    handler.popen(["sleep", "600"], env={"MARK": str(os.getpid())})
            """)
            program.until("ready")
            mark = ("MARK=%d\0" % program.process.pid).encode()
            try:
                program.process.wait(delay / 1000)
            except subprocess.TimeoutExpired:
                pass
            code, _, err = program.finish(signal.SIGTERM)
            self.assertEqual(code, -signal.SIGTERM, err)
            self.assertEqual(carrying(mark), [], err)

    def test_in_the_middle_of_starting_in_a_thread(self):
        for ending in ("signal", "return"):
            for round in range(5):
                program = self.run_program("""
                    handler = abot_trace.get_shutdown_handler(grace=5)
                    def start():
                        while True:
                            handler.popen(["sleep", "600"])
                    for _ in range(3):
                        threading.Thread(target=start, daemon=True).start()
                    while len(handler._children) < 3:
                        time.sleep(0.001)
                    say("ready")
                    # In short steps: Linux may give the signal to a thread, and Python acts on
                    # it when the main thread wakes.
                    while %r == "signal":
                        time.sleep(0.01)
                """ % ending)
                program.until("ready")
                code, _, err = program.finish(signal.SIGTERM if ending == "signal" else None)
                self.assertEqual(code, -signal.SIGTERM if ending == "signal" else 0, err)
                self.assertEqual(carrying(program.mark), [], err)

    def test_without_procfs(self):
        if os.geteuid() != 0:
            self.skipTest("mounting needs root")
        program = self.run_program("""
            import ctypes, subprocess
            libc = ctypes.CDLL(None, use_errno=True)
            handler = abot_trace.get_shutdown_handler(grace=0.3)
            deaf = handler.popen(["sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.1; done"])
            gone = handler.popen(["true"])
            gone.wait()
            other = subprocess.Popen(["sleep", "600"])
            if libc.unshare(0x20000) or libc.mount(None, b"/", None, 0x44000, None) or libc.mount(b"tmpfs", b"/proc", b"tmpfs", 0, None):
                raise OSError(ctypes.get_errno(), "mount")
            handler.shutdown()
            say("%s %s" % (deaf.wait(), other.poll()))
            other.kill()
        """)
        program.until("up")
        self.assertEqual(program.finish()[:2], (0, ["-9", "None"]))

    def test_too_few_descriptors(self):
        for leak in (False, True):
            with self.subTest(leak=leak):
                self.too_few_descriptors(leak)

    def too_few_descriptors(self, leak):
        program = self.run_program("""
            import resource
            handler = abot_trace.get_shutdown_handler(grace=0.3)
            children = [handler.popen(["sh", "-c", "trap '' TERM; while :; do sleep 60; done"]) for _ in range(40)]
            abot_trace.register_cleanup_callback(lambda: say(str(sum(alive(c.pid) for c in children))))
            resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
            leaked = []
            while %s:
                try:
                    leaked.append(os.open("/dev/null", os.O_RDONLY))
                except OSError:
                    break
            wait()
        """ % leak)
        program.until("ready")
        code, out, err = program.finish(signal.SIGTERM)
        self.assertEqual((code, out), (-signal.SIGTERM, ["0"]), err)

    def test_many_short_lived(self):
        program = self.run_program("""
            handler = abot_trace.get_shutdown_handler()
            for _ in range(300):
                handler.popen(["true"]).wait()
            say(str(len(handler._children) < 300))
        """)
        self.assertEqual(program.finish()[:2], (0, ["True"]))


def carrying(mark):
    """The living processes with that in their environment."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open("/proc/%s/environ" % name, "rb") as f:
                    if mark in f.read():
                        found.append(int(name))
            except OSError:
                pass
    return found


class Cost(Case):
    def test_import(self):
        """The module costs an import of nothing that Python has not loaded."""
        script = "import sys, signal, select, os, atexit; before = set(sys.modules); import abot_trace; print(sorted(set(sys.modules) - before))"
        env = dict(os.environ, PYTHONPATH=HERE, PYTHONDONTWRITEBYTECODE="1")
        out = subprocess.run([sys.executable, "-c", script], env=env, stdout=subprocess.PIPE, text=True, check=True).stdout
        self.assertEqual(out.strip(), "['abot_trace']")


if __name__ == "__main__":
    unittest.main()
