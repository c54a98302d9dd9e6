#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Builds the .deb and .rpm: build.sh VERSION DIST ARCH..., from the top folder, by
# `make package`. The same commit gives the same bytes.
set -euo pipefail

version=$1
dist=$2
shift 2
export SOURCE_DATE_EPOCH
# Modes in the packages are those of the files staged here.
umask 022

mkdir -p $dist
rm -rf $dist/stage-* $dist/*.deb $dist/*.rpm
for arch in "$@"; do
	stage=$dist/stage-$arch
	make --no-print-directory --silent install GOARCH=$arch DESTDIR=$stage PREFIX=/usr
	doc=$stage/usr/share/doc/abot-trace
	printf 'abot-trace (%s-1) unstable; urgency=medium\n\n  * See the release notes of %s.\n\n -- %s  %s\n' \
		"$version" "$version" 'The abot-trace authors <maintainers@abot-trace.invalid>' \
		"$(date -u -R -d "@$SOURCE_DATE_EPOCH")" | gzip -9n >$doc/changelog.Debian.gz
	install -D -m 644 deploy/package/lintian-overrides $stage/usr/share/lintian/overrides/abot-trace
	install -D -m 644 -t $stage/usr/lib/python3/dist-packages clients/python/abot_trace.py
	find $stage -exec touch --no-dereference --date "@$SOURCE_DATE_EPOCH" {} +
	for format in deb rpm; do
		# Of no use where there is no dpkg.
		[ $format = deb ] || rm -r $doc/changelog.Debian.gz $stage/usr/share/lintian $stage/usr/share/zsh/vendor-completions \
			$stage/usr/lib/python3
		GOARCH=$arch PKG_VERSION=$version STAGE=$stage \
			dist/nfpm package --config deploy/nfpm.yaml --packager $format --target $dist/
	done
	rm -rf $stage
done
(cd "$dist" && sha256sum -- *.deb *.rpm | tee SHA256SUMS)
