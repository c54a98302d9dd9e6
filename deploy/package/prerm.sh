#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Before files are removed. dpkg: "remove" or "upgrade NEW"; rpm: "0" for a removal,
# "1" for an upgrade. An upgrade never stops the service: see postinst.
set -e

case "$1" in
remove | deconfigure | 0) ;;
*) exit 0 ;;
esac

if [ -d /run/systemd/system ]; then
	# The stop drops the descriptor store, which detaches everything.
	systemctl disable --now abot-trace-cleanup.timer abot-trace.service >/dev/null 2>&1 || true
	systemctl stop abot-trace-notify.socket abot-trace-notify.service || true
fi
# What Python has compiled of the module.
rm -f /usr/lib/python3/dist-packages/__pycache__/abot_trace.*.pyc /usr/share/abot-trace/python/__pycache__/abot_trace.*.pyc
rmdir /usr/share/abot-trace/python/__pycache__ 2>/dev/null || true
# Of a daemon that ran without systemd: whom it left stopped, and its pins.
abot-trace thaw >/dev/null 2>&1 || true
abot-trace uninstall-probes >/dev/null 2>&1 || true
exit 0
