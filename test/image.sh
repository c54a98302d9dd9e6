#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Builds the container image from its recipe, offline, and runs it as the recipe says:
# it must see a leak of the host's and say why. "The host" is a pid namespace of its own.
# podman's state is of this run only; it needs neither a service nor systemd.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "${1:-}" != inside ]; then
	work=$(mktemp -d /tmp/abot-trace-image-XXXXXX)
	trap 'rm -rf "$work"' EXIT
	unshare --pid --fork --mount --mount-proc --kill-child "$0" inside "$work"
	exit
fi
work=$2

podman() {
	command podman --root "$work/storage" --runroot "$work/run" --storage-driver vfs \
		--cgroup-manager cgroupfs --runtime runc --events-backend none "$@"
}
# The image's processes die with the namespace; its mounts go first.
trap 'podman rm --all --force --time 2 >/dev/null 2>&1 || true' EXIT
fail() {
	echo "image: $*" >&2
	podman logs abot-trace >&2 || true
	exit 1
}

# A Go image of what is here, in the place of the registry's.
echo "image: building"
mkdir -p "$work/go/bin" "$work/go/tmp" "$work/go/usr/local/go" "$work/go/etc"
cp "$(command -v busybox)" "$work/go/bin/"
for name in sh sed; do ln -s busybox "$work/go/bin/$name"; done
goroot=$(go env GOROOT)
cp -r "$goroot"/{bin,go.env,lib,pkg,src,VERSION} "$work/go/usr/local/go/"
tar -C "$work/go" -c . | podman import --quiet --change ENV=PATH=/usr/local/go/bin:/bin \
	--change ENV=GOPROXY=off --change ENV=GOFLAGS=-mod=readonly --change ENV=GOMODCACHE=/modules \
	--change ENV=GOCACHE=/tmp/cache --change ENV=GOTOOLCHAIN=local - go-of-this-machine >/dev/null
rm -rf "$work/go"
go mod download
podman build --quiet --isolation chroot --layers=false --volume "$(go env GOMODCACHE):/modules:O" \
	--file deploy/container/Dockerfile --build-arg GO_IMAGE=go-of-this-machine --build-arg VERSION=v0.0.4 \
	--tag abot-trace . >/dev/null
podman rmi --force go-of-this-machine >/dev/null

# Nothing is in it but this.
container=$(podman create abot-trace)
files=$(podman export "$container" | tar -t | grep -vE '/$|^(dev|proc|sys|run)/|^etc/(hosts|hostname|resolv.conf|mtab)$' | sort | xargs)
[ "$files" = "etc/abot-trace/config.yaml usr/bin/abot-trace" ] || fail "the image has $files"
podman rm "$container" >/dev/null

echo "image: running"
mkdir "$work/socket" "$work/state" "$work/bpf"
mount -t bpf -o mode=700 bpf "$work/bpf"
podman run --detach --name abot-trace --pid=host --network=none --read-only \
	--cap-drop=ALL --cap-add=BPF --cap-add=PERFMON --cap-add=KILL \
	--cap-add=SYS_PTRACE --cap-add=DAC_READ_SEARCH --cap-add=SYS_NICE \
	--security-opt no-new-privileges --security-opt seccomp=unconfined \
	--ulimit "nofile=$(ulimit -Hn)" --ulimit "nproc=$(ulimit -Hu)" \
	-v /sys/kernel/btf:/sys/kernel/btf:ro -v /sys/fs/cgroup:/sys/fs/cgroup:ro \
	-v "$work/bpf:/sys/fs/bpf" \
	-v "$work/socket:/run/abot-trace" -v "$work/state:/var/lib/abot-trace" \
	abot-trace >/dev/null

# until_so COMMAND...: waits for what nothing announces, a minute at most.
until_so() {
	for _ in $(seq 600); do
		"$@" >/dev/null 2>&1 && return
		sleep 0.1
	done
	fail "not so after a minute: $*"
}
inside() { podman exec abot-trace abot-trace "$@"; }
leaked() { inside orphans --verdict leaked | grep -q "sleep 301"; }

until_so inside tree
inside version | grep -q 'abot-trace v0.0.4' || fail "it is $(inside version)"
bash -c 'sleep 301 & kill -9 $$' || true
until_so leaked
inside orphans --verdict leaked
# As the DaemonSet's liveness probe.
inside doctor || fail "doctor finds something missing"
podman stop --time 20 abot-trace >/dev/null
[ "$(podman inspect --format '{{.State.ExitCode}}' abot-trace)" = 0 ] || fail "it does not end with 0"
[ -s "$work/state/state" ] || fail "no state was saved"

# What happens while it is down is seen when it is there again.
leaked() { inside orphans --verdict leaked | grep -q "sleep 302"; }
bash -c 'sleep 302 & kill -9 $$' || true
podman start abot-trace >/dev/null
until_so leaked
podman logs abot-trace 2>&1 | grep -E 'has a gap|event=lost' && fail "the restart has a gap"
echo "image: ok"
