#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Containers of a real docker, by name: in the tree, in the event of an orphan, in a rule and
# in a filter. dockerd runs in namespaces of this test's own and leaves nothing behind.
#
# usage: test/docker.sh ABOT_TRACE
set -euo pipefail
program=$(realpath "$1")
if [ "${2-}" != inside ]; then
	exec unshare --mount --pid --fork --kill-child --mount-proc "$0" "$program" inside
fi

dir=$(mktemp -d)
trap 'cd /; umount -l "$dir"; rmdir "$dir"' EXIT
mount -t tmpfs tmpfs "$dir"
cd "$dir"
# The default places, which are all that is looked at.
mkdir -p /var/lib/docker /run/containerd /var/lib/containerd
for place in /var/lib/docker /run/containerd /var/lib/containerd; do mount -t tmpfs -o mode=711 tmpfs $place; done

fail() { echo "docker: $*" >&2; exit 1; }
# until_ok waits for a command to succeed, a minute at most.
until_ok() {
	for _ in $(seq 300); do
		"$@" >/dev/null 2>&1 && return
		sleep 0.2
	done
	fail "$* did not succeed; the daemon said: $(tail -5 trace.log)"
}

export DOCKER_HOST=unix://$dir/docker.sock
dockerd --iptables=false --ip6tables=false --bridge=none --storage-driver=vfs -H "$DOCKER_HOST" --pidfile "$dir/docker.pid" \
	--exec-root "$dir/exec" >dockerd.log 2>&1 </dev/null &
until_ok docker info
mkdir -p box/bin
cp /bin/busybox box/bin/
for name in sh sleep; do ln -s busybox box/bin/$name; done
tar -C box -c . | docker import - registry.example/team/box:1.2 >/dev/null

cat >config.yaml <<'C'
rules:
  - {name: of-web, match: {container: web-*, image: "registry.example/*", verdict: [leaked, unknown]}}
  - {name: of-db, match: {container: db-*, verdict: [leaked, unknown]}}
protect: {containers: [db-*]}
history: off
C
"$program" daemon --config config.yaml --socket "$dir/trace.sock" --state "$dir/state" >trace.log 2>&1 </dev/null &
compact() { tr -d ' \n'; }
trace() { "$program" "$@" --socket "$dir/trace.sock"; }
until_ok trace tree

# An orphan in a container: the shell that made it is killed from outside.
leave() {
	docker run -d --network=none --name "$1" registry.example/team/box:1.2 sh -c "sh -c 'sleep $2; true' & sleep 86400; true" >/dev/null
	until_ok pgrep -fx "sleep $2"
	kill -9 "$(ps -o ppid= -p "$(pgrep -fx "sleep $2")" | tr -d ' ')"
	until_ok is_orphan "$2"
	pgrep -fx "sleep $2"
}
is_orphan() { trace orphans --json | compact | grep -q "\"sleep\",\"$1\""; }

pid=$(leave web-1 86391)
for words in '"container_name":"web-1"' '"container_image":"registry.example/team/box:1.2"' '"container":"'"$(docker inspect -f '{{.Id}}' web-1)"'"'; do
	trace orphans --json --container 'web-*' --image '*/box:*' | compact | grep -qF "$words" || fail "orphans does not say $words"
	trace tree --json | compact | grep -qF "$words" || fail "tree does not say $words"
	trace events --type orphan --json | compact | grep -qF "$words" || fail "no orphan event says $words"
done
[ "$(trace orphans --json --container other | compact)" = "[]" ] || fail "a filter by another container lets it pass"
explains() { trace explain "$1" | grep -q "$2"; }
until_ok explains "$pid" "in container web-1, .*, image registry.example/team/box:1.2"
until_ok explains "$pid" "of-web.*its container is web-1"

pid=$(leave db-1 86392)
until_ok explains "$pid" "its container db-1 is protected by the configuration"

# Somebody who names a group of his own like the protected container gains nothing by it.
for hierarchy in /sys/fs/cgroup/systemd /sys/fs/cgroup; do
	if [ -e $hierarchy/cgroup.procs ]; then break; fi
done
group=$hierarchy/abot-trace-test-$$
mkdir -p "$group"
chown nobody "$group"
own=$group/docker-$(docker inspect -f '{{.Id}}' db-1).scope
setpriv --reuid nobody mkdir "$own"
sh -c "echo \$\$ >$own/cgroup.procs; sh -c 'sleep 86393; true' & until pgrep -fx 'sleep 86393' >/dev/null; do sleep 0.1; done; kill -9 \$!; wait"
until_ok is_orphan 86393
pid=$(pgrep -fx "sleep 86393")
until_ok explains "$pid" "of-db.*its container is "
trace explain "$pid" >explained
if grep -q "protected\|db-1" explained; then fail "a group's name alone made a container: $(cat explained)"; fi
kill -9 "$pid"
until_ok rmdir "$own"
rmdir "$group"

docker rm -f web-1 db-1 >/dev/null
echo "docker: containers are known by name"
