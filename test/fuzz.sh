#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Runs every fuzz target of the module, one after the other, for the time given each.
set -euo pipefail

for package in $(go list -f '{{if or .TestGoFiles .XTestGoFiles}}{{.ImportPath}}{{end}}' ./...); do
	for target in $(go test -list '^Fuzz' "$package" | grep '^Fuzz' || true); do
		echo "fuzz: $package $target"
		go test -run '^$' -fuzz "^$target\$" -fuzztime "$1" "$package"
	done
done
