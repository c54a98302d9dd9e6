# SPDX-License-Identifier: Apache-2.0
# Words for the scripts of cases. Sourced by bash with $run, a number of its own for each
# run of a case, and $dir, a folder of that run.
set -u
umask 022
cd "$dir"
export SOFTWARE_RUN=$run
export PATH=/test/inside:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root LC_ALL=C
# Some daemons close every descriptor that there may be, one by one.
ulimit -n 1024

# A command that does nothing for long, and that no other run has.
mark=86400.$((run + 10000))
job="sleep $mark"
# A port, and two more above it, that no other run has.
port=$((20000 + run % 10000 * 4))

fail() { echo "fail $*" >>"$dir/told"; exit 1; }

# until_ok COMMAND...: waits until it succeeds.
until_ok() {
	local until=$((SECONDS + 45))
	while [ $SECONDS -lt $until ]; do
		"$@" >/dev/null 2>&1 && return 0
		sleep 0.02
	done
	fail "waited in vain for: $*"
}

# start_of PID: when it was started, in ticks; nothing of a dead one.
start_of() {
	local line
	line=$(cat "/proc/$1/stat" 2>/dev/null) || return 1
	set -- ${line##*) }
	[ "$1" != Z ] && [ "$1" != X ] && echo "${20}"
}
alive() { start_of "$1" >/dev/null; }
dead() { ! alive "$1"; }
gone() { until_ok dead "$1"; }

# ask ROLE PID...: the case is about these processes.
ask() {
	local role=$1 pid start
	shift
	[ $# -gt 0 ] || fail "$role: no such process"
	for pid; do
		start=$(start_of "$pid") || fail "$role: process $pid is dead"
		echo "ask $role $pid $start" >>"$dir/told"
	done
}

# ask_living ROLE PID...: those of them that live, at least one.
ask_living() {
	local role=$1 pid start any=
	shift
	for pid; do
		start=$(start_of "$pid") && any=yes && echo "ask $role $pid $start" >>"$dir/told"
	done
	[ "$any" ] || fail "$role: all are dead"
}

# job_pids [COUNT]: the processes that run $job, at least so many.
jobs_now() { pgrep -fx "((/usr)?/bin/)?sleep $mark"; }
job_pids() {
	has_jobs() { [ "$(jobs_now | wc -l)" -ge "$1" ]; }
	until_ok has_jobs "${1:-1}" || return 1
	jobs_now
}
ask_job() { ask "$1" $(job_pids "${2:-1}"); }

# pid_in FILE: waits for a pid in a file, and prints it.
pid_in() {
	until_ok grep -qE '^ *[0-9]+' "$1" || return 1
	head -n 1 "$1" | tr -d ' '
}

# children PID [COUNT]: the children of a process, at least so many.
children() {
	has_children() { [ "$(pgrep -P "$1" | wc -l)" -ge "$2" ]; }
	until_ok has_children "$1" "${2:-1}" || return 1
	pgrep -P "$1"
}
# below PID: all its descendants.
below() {
	local child
	for child in $(pgrep -P "$1"); do
		echo "$child"
		below "$child"
	done
}

# found PATTERN: waits for the oldest process whose whole command line matches, and prints it.
found() { until_ok pgrep -of -- "$1" || return 1; pgrep -of -- "$1"; }

listening() { ss -Hltn "sport = :$1" | grep -q .; }

# running DAEMON PIDFILE: it runs, started where it did not. Another run may just have ended it.
running() {
	running_now() {
		local pid
		pid=$(cat "$2" 2>/dev/null) && [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = "$1" ] && alive "$pid" && return
		pgrep -x "$1" || "$1"
		false
	}
	until_ok running_now "$@"
}

# program NAME: the text on standard input is a program of that name for this run.
program() {
	cat >"$dir/$1"
	chmod 755 "$dir/$1"
}

parent_of() { ps -o ppid= -p "$1" | tr -d ' '; }

cleanup() { :; }

# ready: the deed is done. Waits for the test to have seen what it wants, and cleans up.
ready() {
	echo ready >>"$dir/told"
	while ! [ -e "$dir/go" ]; do sleep 0.05; done
	cleanup >"$dir/cleanup" 2>&1
	echo done >>"$dir/told"
}

# window NAME COMMAND...: opens a terminal emulator's window, for type_in and close_window.
window() {
	setsid terminal "$@" >"$1.screen" 2>&1 </dev/null &
	until_ok test -s "$1.emulator"
}
type_in() { printf '%s\n' "$2" >"$1.keys"; }
close_window() { kill -USR1 "$(cat "$1.emulator")"; gone "$(cat "$1.shell")"; }

# limited COMMAND...: becomes the command, in a control group with 40 MB of memory.
limited() {
	local group=/run/memory/software-$run
	if [ -d /run/memory ]; then
		mkdir -p "$group"
		echo 40M >"$group/memory.limit_in_bytes"
	else
		group=/sys/fs/cgroup/software-$run
		mkdir -p "$group"
		echo 40M >"$group/memory.max"
		echo 0 >"$group/memory.swap.max"
	fi
	echo $BASHPID >"$group/cgroup.procs"
	exec "$@"
}

# unit_pids UNIT: all processes of a unit.
unit_pids() {
	local group
	group=$(systemctl show -P ControlGroup "$1")
	find "/sys/fs/cgroup$group" -name cgroup.procs -exec cat {} +
}
