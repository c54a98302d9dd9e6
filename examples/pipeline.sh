#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# A pipeline, a background job and a job that left the session: what a shell
# leaves behind when it is killed.
#
#     abot-trace supervise -- sh examples/pipeline.sh

setsid sh -c 'echo ready >&2; exec sleep 600' &
sh -c 'echo ready >&2; exec sleep 600' &
tail -f /dev/null | while read -r line; do echo "$line"; done | sh -c 'echo ready >&2; exec cat'
