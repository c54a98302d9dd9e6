# SPDX-License-Identifier: Apache-2.0
"""An application of which each worker starts a process in a session of its own."""

import os
import sys
import time

import abot_trace

abot_trace.get_shutdown_handler().popen(["sleep", "600"], start_new_session=True)
os.write(1, b"ready\n")  # when it is registered: gunicorn's INT handler raises wherever it meets the worker

if os.environ["EXAMPLE_WAY"]:
    # One of the two, when both are ready: gunicorn leaves with another code where a second
    # worker fails while it stops for the first.
    folder = os.environ["JOBS_FOLDER"]
    os.mkdir(os.path.join(folder, str(os.getpid())))
    try:
        os.mkdir(os.path.join(folder, "fails"))
    except FileExistsError:
        pass
    else:
        while len(os.listdir(folder)) < 3:
            time.sleep(0.01)
        if os.environ["EXAMPLE_WAY"] == "exit":
            sys.exit(3)
        raise RuntimeError("no database")


def wsgi(environ, start_response):
    start_response("200 OK", [])
    return [b"%d\n" % os.getpid()]
