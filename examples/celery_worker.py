# SPDX-License-Identifier: Apache-2.0
"""A Celery application whose tasks start processes that end with the worker.

    celery --app celery_worker worker --pool prefork

Celery's own handlers stay in charge: TERM lets running tasks finish, QUIT does not. What
tasks have started is ended by the pool process that started it, and with the daemon, when
one is killed, by the daemon.
"""

import celery
from celery import signals

import abot_trace

app = celery.Celery("celery_worker")


@signals.worker_ready.connect
def register_pool(sender, **_):
    """In the main process: its pool processes end with it."""
    abot_trace.get_shutdown_handler(grace=5).register_child_process(sender.pool._pool)


@signals.worker_process_init.connect
def install(**_):
    """In each pool process, before its first task."""
    abot_trace.get_shutdown_handler(grace=5)


@signals.worker_process_shutdown.connect
def end(**_):
    """At the orderly end of a pool process, which runs no atexit functions."""
    abot_trace.get_shutdown_handler().shutdown()


@app.task
def convert(*command):
    """Start a helper that outlives the task, as a cache or a browser does."""
    return abot_trace.get_shutdown_handler().popen(command, start_new_session=True).pid
