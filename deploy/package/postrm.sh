#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# After files were removed. dpkg: "remove", "purge", "upgrade NEW"; rpm: "0" or "1".
set -e

case "$1" in
remove | 0)
	# State and socket directory belong to one boot; a later install starts anew. The history
	# stays for it, until it is purged.
	rm -rf /run/abot-trace /run/abot-trace-notify
	for kept in /var/lib/abot-trace/* /var/lib/abot-trace/.[!.]*; do
		[ "$kept" = /var/lib/abot-trace/history ] || rm -rf "$kept"
	done
	rmdir /var/lib/abot-trace 2>/dev/null || true
	journalctl --update-catalog >/dev/null 2>&1 || true
	if [ -d /run/systemd/system ]; then
		systemctl daemon-reload || true
		systemctl reset-failed abot-trace.service abot-trace-notify.service \
			>/dev/null 2>&1 || true
	fi
	;;
purge)
	# The operator's own drop-ins go with the configuration that dpkg purges.
	rm -rf /var/lib/abot-trace
	rm -rf /etc/abot-trace /var/lib/systemd/timers/stamp-abot-trace-cleanup.timer
	;;
esac
exit 0
