#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Installs what building the BPF programs and testing need, where it is missing, and
# what its arguments name, as below.
# For Debian 12 and later; elsewhere it says what is missing.
set -euo pipefail

# command:package
needs=(
	gcc:gcc make:make git:git                                   # go test -race
	clang:clang llvm-strip:llvm clang-format:clang-format       # go generate, formatting
	gunicorn:gunicorn npm:npm                                   # what examples and jobs use
	python3:python3 node:nodejs tmux:tmux ps:procps setsid:util-linux sudo:sudo # workloads of the tests
	tini:tini dumb-init:dumb-init                               # what supervise is measured beside
	qemu-system-x86_64:qemu-system-x86 dpkg-deb:dpkg            # guest kernels
	qemu-system-aarch64:qemu-system-arm qemu-aarch64-static:qemu-user-static # those of arm64
	systemd-nspawn:systemd-container debootstrap:debootstrap jq:jq mke2fs:e2fsprogs # the installed package
	forkstat:forkstat bpftrace:bpftrace pstree:psmisc taskset:util-linux # what tracing is measured beside
	lintian:lintian xz:xz-utils man:man-db rpm:rpm              # packages
	zsh:zsh fish:fish                                           # completion
)
missing=()
for need in "${needs[@]}" "$@"; do
	PATH=$PATH:/usr/sbin:/sbin command -v "${need%%:*}" >/dev/null || missing+=("${need#*:}")
done
[ -e /usr/include/bpf/bpf_helpers.h ] || missing+=(libbpf-dev)
[ -e /usr/lib/python3/dist-packages/xdist ] || missing+=(python3-pytest-xdist)
for module in celery ipykernel jupyter_client; do # of examples
	[ -e "/usr/lib/python3/dist-packages/$module" ] || missing+=("python3-${module//_/-}")
done
[ -e /usr/include/stdlib.h ] || missing+=(libc6-dev)
[ ${#missing[@]} -gt 0 ] || exit 0

echo "setup: installing ${missing[*]}"
if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
	echo "setup: this needs apt-get and root; install them otherwise and run it again" >&2
	exit 1
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { apt-get update && DEBIAN_FRONTEND=noninteractive \
	apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
	tail -n 20 "$log" >&2
	exit 1
fi
