#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The linters, from the top folder. Each runs even where one before it complained.
set -uo pipefail

failed=0
check() {
	echo "lint: $1"
	shift
	"$@" || failed=1
}

gofmt_clean() {
	local files
	files=$(git ls-files '*.go' | xargs gofmt -l)
	[ -z "$files" ] || { echo "not formatted, see make fmt: $files" && return 1; }
}

# Its database has to be reached: where it cannot be, that is said and no failure.
govulncheck() {
	local out
	out=$(timeout 300 go tool -modfile=tools/lint.mod govulncheck ./... 2>&1) && return
	if grep -qE 'fetching vulnerabilities|dial tcp|no such host|timeout|Forbidden|403' <<<"$out"; then
		echo "govulncheck: NOT RUN: its database cannot be reached from here"
		return
	fi
	echo "$out"
	return 1
}

check gofmt gofmt_clean
check clang-format xargs clang-format --dry-run --Werror < <(git ls-files 'bpf/*.c' 'bpf/*.h')
check 'go vet' go vet ./...
check staticcheck go tool -modfile=tools/lint.mod staticcheck ./...
# Bare errnos of system calls are compared as such: nothing has wrapped them.
check errorlint go tool -modfile=tools/lint.mod go-errorlint -errorf=false -comparison=false ./...
check govulncheck govulncheck
exit $failed
