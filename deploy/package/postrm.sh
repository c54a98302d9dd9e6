#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# After files were removed. dpkg: "remove", "purge", "upgrade NEW"; rpm: "0" or "1".
set -e

case "$1" in
remove | 0)
	# State and socket directory belong to one boot; a later install starts anew.
	rm -rf /run/abot-trace /run/abot-trace-notify /var/lib/abot-trace
	journalctl --update-catalog >/dev/null 2>&1 || true
	if [ -d /run/systemd/system ]; then
		systemctl daemon-reload || true
		systemctl reset-failed abot-trace.service abot-trace-notify.service \
			>/dev/null 2>&1 || true
	fi
	;;
purge)
	# The operator's own drop-ins go with the configuration that dpkg purges.
	rm -rf /etc/abot-trace /var/lib/systemd/timers/stamp-abot-trace-cleanup.timer
	;;
esac
exit 0
