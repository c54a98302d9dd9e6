#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Leaks a Python worker and shows how it is seen and judged, in a few seconds.
#
# All of it runs in a pid namespace of its own: the daemon sees nothing else, so it can
# do nothing to anything else, and when this script ends the kernel ends what is left.
set -euo pipefail

if [ "$(id -u)" -ne 0 ]; then
	echo "demo: tracing needs root: sudo make demo" >&2
	exit 1
fi
if [ -z "${ABOT_DEMO_DIR:-}" ]; then
	binary=$(realpath "${ABOT_TRACE:-./abot-trace}")
	dir=$(mktemp -d)
	trap 'rm -rf "$dir"' EXIT
	ln -s "$binary" "$dir/abot-trace"
	# Not the shim that some installations have first in PATH: it would be part of the tree.
	ln -s "$(python3 -c 'import sys; print(sys.executable)')" "$dir/python3"
	ABOT_DEMO_DIR=$dir unshare --pid --fork --mount-proc --kill-child "$0"
	exit
fi
cd "$ABOT_DEMO_DIR"
export PATH=$PWD:$PATH ABOT_TRACE_SOCKET=$PWD/abot.sock

bold='' plain=''
if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
	bold=$'\033[1m' plain=$'\033[0m'
fi

step() { printf '\n%s== %s%s\n' "$bold" "$*" "$plain"; }

# Shows a command and runs it.
show() {
	printf '\n%s$ %s%s\n' "$bold" "$*" "$plain"
	"$@"
}

# Waits for a fact, at most 10 s.
await() {
	local n
	for ((n = 0; n < 200; n++)); do
		! "$@" 2>/dev/null || return 0
		sleep 0.05
	done
	echo "demo: gave up waiting for: $*" >&2
	cat daemon.log >&2
	return 1
}

cat >app.py <<'PYTHON'
import multiprocessing, os, time

def work(n):
    data = bytearray(48 << 20)
    open(f"worker-{n}.ready", "w").close()
    time.sleep(300)

if __name__ == "__main__":
    multiprocessing.set_start_method("fork")
    for n in (1, 2):
        multiprocessing.Process(target=work, args=(n,)).start()
    time.sleep(300)
PYTHON

cat >rules.yaml <<'YAML'
rules:
  - name: leaked-python
    match:
      verdict: [leaked]
      cmdline: python3
    grace: 5s
YAML
chmod 644 rules.yaml

step "A daemon starts. It sees this demonstration's processes and no others."
# Nothing of the host's: neither its configuration, nor its state, nor its programs.
abot-trace daemon --config rules.yaml --state state --pins pins 2>daemon.log &
await grep -q msg=ready daemon.log
grep msg=ready daemon.log
abot-trace events --follow --type signal,orphan >events.log &
follower=$!

step "A Python program starts two multiprocessing workers, 48 MiB each."
python3 app.py &
app=$!
await test -e worker-1.ready -a -e worker-2.ready
show abot-trace tree "$app"

step "Somebody kills the program with SIGKILL. Its workers live on: they are leaked."
# A child of this shell that was not waited for: its pid cannot be another's.
kill -KILL "$app"
wait "$app" 2>/dev/null || true
await grep -q 'orphan (leaked)' events.log

step "Something else is left behind on purpose: nohup, by a shell that then ends with 0."
sh -c 'nohup sleep 300 >/dev/null 2>&1 </dev/null & sleep 0.3'
await grep -q 'orphan (deliberate)' events.log
kill "$follower"
wait "$follower" || true

step "What the daemon told at those moments: who was orphaned, by whom, and why it thinks so."
show cat events.log

step "The tree by lineage: the dead program (†) still stands above its workers."
show abot-trace tree --orphans

step "The same as the kernel knows it: adopted by init, their origin forgotten."
show abot-trace tree --kernel

step "All orphans with what they hold. Listing never kills."
show abot-trace orphans

# A second after the death the verdict is final: rules wait for that, and leaks are told then.
final() { abot-trace leaks | grep -q '^L.* leaked'; }
await final
step "What one death has left is one leak."
show abot-trace leaks

step "What the daemon knows of one of them, and what its one rule, which only observes, would do."
show abot-trace explain "$(pgrep -f app.py | head -n 1)"
show abot-trace cleanup --config rules.yaml | tee cleanup.log
if ! grep -q leaked-python cleanup.log; then
	echo "demo: the rule would end nothing" >&2
	exit 1
fi

step "Done: nothing was signalled. The namespace ends, and with it everything in it."
