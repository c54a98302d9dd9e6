#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Families of processes for the tests. Each process says "ROLE PID" on descriptor 3, and
# lives five minutes at most. Verbs:
#
#   leaf [ROLE]          wait for a signal
#   deaf [ROLE]          the same, ignoring SIGTERM
#   tree                 a root with three leaves
#   deaftree             the same, ignoring SIGTERM
#   broad                a root with a hundred leaves
#   many N               start N leaves, say so, and wait; kill it to leave them behind
#   forking              start leaves without end, ignoring SIGTERM
#   parent VERB...       start VERB and wait; kill it to leave that behind
#   leave COMMAND...     start COMMAND in the background and exit with 0
me=$0
say() { echo "$1 $$" >&3; }
verb=$1
shift
case $verb in
leaf)
	say "${1:-leaf}"
	exec sleep 300
	;;
deaf)
	trap '' TERM
	say "${1:-deaf}"
	exec sleep 300
	;;
tree)
	for i in 1 2 3; do sh "$me" leaf & done
	say root
	wait
	;;
broad)
	i=0
	while [ $i -lt 100 ]; do
		sh "$me" leaf &
		i=$((i + 1))
	done
	say root
	wait
	;;
many)
	i=0
	while [ $i -lt "$1" ]; do
		sleep 300 &
		i=$((i + 1))
	done
	say parent
	wait
	;;
deaftree)
	trap '' TERM
	for i in 1 2 3; do sh "$me" deaf & done
	say root
	wait
	;;
forking)
	trap '' TERM
	say root
	i=0
	while [ $i -lt 500 ]; do
		sleep 300 &
		i=$((i + 1))
	done
	wait
	;;
parent)
	sh "$me" "$@" &
	say parent
	wait
	;;
leave)
	"$@" &
	exit 0
	;;
esac
