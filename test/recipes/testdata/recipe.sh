#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Runs the commands of one recipe in a container, each by a shell of its own, and notes how
# each ended. What never ends by itself is interrupted after a while: 124.
cd /work || exit 1
export LC_ALL=C.UTF-8 PATH=/work/bin:/usr/local/bin:$PATH

# Waits for a fact, at most 60 s.
await() {
	local n
	for ((n = 0; n < 1200; n++)); do
		! "$@" >/dev/null 2>&1 || return 0
		sleep 0.05
	done
	echo "gave up: $*"
	return 1
}

daemon=''
stop_daemon() {
	[[ -z $daemon ]] || { kill "$daemon" && wait "$daemon"; }
	daemon=''
}

# start_daemon runs a command line that is a daemon, until the next one or the end.
start_daemon() {
	stop_daemon
	mkdir -p /run/test /run/abot-trace
	bash -c "exec $1" >/recipe/daemon.log 2>&1 &
	daemon=$!
	await grep -q msg=ready /recipe/daemon.log
}

# Process 4711 is a leaked worker. A thread of the daemon could take that number first, and keep
# it: so it is asked for right before the fork, and there is another try where it was in use.
leak() {
	mkdir -p /recipe/proc
	mountpoint -q /recipe/proc || mount -t proc proc /recipe/proc
	rm -f /recipe/leaked
	echo 4600 >/recipe/proc/sys/kernel/ns_last_pid
	bash -c 'for ((n = 0; n < 100; n++)); do
			echo 4710 >/recipe/proc/sys/kernel/ns_last_pid
			python3 -c "import time; time.sleep(3600)" &
			[[ $! != 4711 ]] || break
			kill -KILL $! && wait $!
		done
		echo $! >/recipe/leaked
		wait' &
	await test -s /recipe/leaked
	kill -KILL $!
	await bash -c "abot-trace orphans --json | jq -e 'any(.[]; .pid == 4711 and .orphan.leak != null)'"
	abot-trace events --json >/work/recorded.ndjson
}

# named puts the ids of this leak in the place of those that examples name.
named() {
	local id fingerprint start
	id=$(abot-trace orphans --json | jq -r '.[] | select(.pid == 4711).orphan.leak')
	start=$(abot-trace orphans --json | jq -r '.[] | select(.pid == 4711).start_ns')
	await bash -c "abot-trace leaks --json | jq -e 'any(.leaks[]; .id == \"$id\")'"
	fingerprint=$(abot-trace leaks --json | jq -r ".leaks[] | select(.id == \"$id\").fingerprint")
	sed -i "s/L0123456789ab/$id/g; s/F0123456789ab/$fingerprint/g; s/4711@81230000000/4711@$start/g" "$1"
}

if [[ ${DAEMON:-} == true ]]; then
	start_daemon 'abot-trace daemon'
	leak
elif [[ ${DAEMON:-} == service ]]; then
	await test -S /run/abot-trace/abot-trace.sock
	leak
fi
for file in /recipe/commands/[0-9][0-9][0-9]; do
	command=$(<"$file")
	if [[ $command =~ ^(sudo )?abot-trace\ daemon ]]; then
		start_daemon "$command" >"$file.out"
		code=$?
		cat /recipe/daemon.log >>"$file.out"
		[[ ! -S /run/abot-trace/abot-trace.sock || -s /recipe/leaked ]] || leak
	else
		limit=60
		[[ ! $command =~ --(follow|watch)|follow=1 ]] || limit=3
		if [[ $command =~ [LF]0123456789ab|abot-trace\ kill ]]; then
			kill -0 4711 2>/dev/null || leak
			named "$file"
		fi
		timeout --signal=INT --kill-after=5 $limit bash "$file" >"$file.out" 2>&1 </dev/null
		code=$?
	fi
	echo "$code" >"$file.code"
done
stop_daemon
true
