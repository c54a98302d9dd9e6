#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Generates everything anew and fails where the result differs from what was there.
set -euo pipefail

# The objects depend on the compiler: only the one that made them can check them.
want=14
have=$(clang -dumpversion | cut -d . -f 1)
if [ "$have" != "$want" ]; then
	echo "generated: NOT CHECKED: the objects are made by clang $want, this is clang $have"
	exit 0
fi
sums() { sha256sum bpf/*_bpfel.go bpf/*_bpfel.o; }
before=$(sums)
go generate ./...
if ! diff <(echo "$before") <(sums); then
	echo "generated files were not up to date; they are now: commit them" >&2
	exit 1
fi
echo "generated files are up to date"
