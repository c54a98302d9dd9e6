# SPDX-License-Identifier: Apache-2.0
"""celery_worker with a broker in a folder, and with two tasks to do when it is up."""

import os
import pathlib
import sys
import threading

from celery import signals
from celery.worker import state
from celery_worker import app, convert

folder = pathlib.Path(os.environ["JOBS_FOLDER"])
app.conf.broker_url = "filesystem://"
app.conf.broker_transport_options = {
    "data_folder_in": str(folder), "data_folder_out": str(folder), "control_folder": str(folder / "control")}
app.conf.task_ignore_result = True


@signals.worker_ready.connect
def give_work(**_):
    for _ in range(2):
        convert.delay("sleep", "600")
    if os.environ["EXAMPLE_WAY"]:
        threading.Thread(target=end, daemon=True).start()


def end():
    """Have Celery's loop end without a signal: as its remote control does, or by an exception."""
    sys.stdin.readline()
    if os.environ["EXAMPLE_WAY"] == "exit":
        state.should_stop = 0
    else:
        (folder / "writing").write_text("no message")
        (folder / "writing").rename(folder / "0.celery.msg")


@signals.task_success.connect
def tell(**_):
    os.write(1, b"ready\n")
