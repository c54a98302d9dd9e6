#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# After unpacking, of both package formats. dpkg: "configure [old version]";
# rpm: "1" for an install, "2" for an upgrade.
set -e

case "$1" in
configure)
	# dpkg names an old version also after a removal; that took the state with it.
	if [ -n "$2" ] && [ -d /var/lib/abot-trace ]; then upgrade=yes; else upgrade=no; fi
	;;
1) upgrade=no ;;
2) upgrade=yes ;;
*) exit 0 ;;
esac

systemd-sysusers abot-trace.conf
systemd-tmpfiles --create abot-trace.conf || true
journalctl --update-catalog || true
# Else every program that imports the module compiles it anew: only root can store it.
for module in /usr/lib/python3/dist-packages/abot_trace.py /usr/share/abot-trace/python/abot_trace.py; do
	[ ! -e "$module" ] || python3 -m compileall -q "$module" >/dev/null 2>&1 || true
done

if [ "$upgrade" = no ]; then
	# Every shipped rule only observes until somebody arms it.
	systemctl enable abot-trace.service >/dev/null 2>&1 || true
fi
# In a chroot or an image being built there is nothing to start.
[ -d /run/systemd/system ] || exit 0

systemctl daemon-reload || true
if [ "$upgrade" = yes ]; then
	# Restarted and never stopped: only so does systemd hand the ring, the counters
	# and the links over to the new version, and nothing is missed in between. What
	# the operator has stopped or disabled stays so.
	systemctl try-restart abot-trace.service || failed=yes
else
	systemctl start abot-trace.service || failed=yes
fi
if [ -n "$failed" ]; then
	echo "abot-trace: the service did not start; 'abot-trace doctor' says why" >&2
fi
exit 0
