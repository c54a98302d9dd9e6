# SPDX-License-Identifier: Apache-2.0
"""A configuration of gunicorn whose workers end what they have started.

    gunicorn --config examples/gunicorn_hooks.py app:wsgi

The arbiter has handlers of its own and ends its workers. A worker that starts processes
leaves them when it is stopped, reloaded or, after a time-out, aborted.
"""

import abot_trace


def post_worker_init(worker):
    """In each worker, once the application is loaded. What the application starts it
    gives to abot_trace.register_child_process()."""
    abot_trace.get_shutdown_handler(grace=5)


def worker_int(worker):
    """At INT or QUIT of a worker."""
    abot_trace.get_shutdown_handler().shutdown()


def worker_abort(worker):
    """At ABRT, which a worker gets that has hung for too long."""
    abot_trace.get_shutdown_handler(grace=0).shutdown()


def worker_exit(server, worker):
    """At a worker's end; atexit functions run only after it."""
    abot_trace.get_shutdown_handler().shutdown()
