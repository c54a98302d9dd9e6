# SPDX-License-Identifier: Apache-2.0
#
# `make build` needs Go alone. `make test`, `make demo` and the targets that they use
# install what else they need with apt-get, on Debian and as root: see test/setup.sh.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:

GO ?= go
GOARCH ?= $(shell $(GO) env GOARCH)
DESTDIR ?=
PREFIX ?= /usr
# Of packages.
DIST ?= dist
ARCHES ?= amd64 arm64
FUZZTIME ?= 30s
SOAK ?= 1h
SOAK_RATE ?= 120
SOAK_FILE ?= soak.csv
BENCH ?= .
BENCHFLAGS ?=
TESTFLAGS ?=
RUN ?=
SOFTWAREFLAGS ?=

# Where Go's own archive puts it, should PATH not say so.
export PATH := $(PATH):/usr/local/go/bin

# From the last tag: v1.2.0, or v1.2.0-5-gabc1234 after it. Before the first tag, or
# without git, v0.0.0 with as much as is known.
VERSION := $(shell git describe --tags --match 'v[0-9]*' --dirty 2>/dev/null || \
	echo "v0.0.0-$$(git rev-list --count HEAD 2>/dev/null || echo 0)-g$$(git rev-parse --short HEAD 2>/dev/null || echo unknown)")
# As packages want it: 1.2.0, 1.2.0+5.gabc1234.
PKG_VERSION := $(shell sed -E 's/^v//; s/-([0-9]+)-g/+\1.g/; s/-/./g' <<<'$(VERSION)')
export SOURCE_DATE_EPOCH ?= $(shell git log -1 --format=%ct 2>/dev/null || echo 1)

BUILDFLAGS := -trimpath -buildvcs=false -ldflags '-s -w -buildid= -X main.version=$(VERSION)'
# Man page and completion are printed by a binary that runs here, whatever GOARCH is.
HOST_BINARY := dist/host/abot-trace

all: build ## what a plain `make` does: build

build: ## build ./abot-trace, static, with Go alone
	CGO_ENABLED=0 GOARCH=$(GOARCH) $(GO) build $(BUILDFLAGS) -o abot-trace ./cmd/abot-trace

generate: ## compile bpf/ and write the bindings anew (clang 14, as Debian 12 has it)
	$(GO) generate ./...

fmt: ## format Go and C in place
	gofmt -w $$(git ls-files '*.go')
	clang-format -i $$(git ls-files 'bpf/*.c' 'bpf/*.h')

lint: ## gofmt, clang-format, go vet, staticcheck, errorlint, govulncheck where it can run
	test/lint.sh

setup: ## install what the tests need (Debian, root); does nothing when it is there
	test/setup.sh

test: setup ## the whole test suite, with a guest kernel, a container and verdicts on real software in short form
	# Not as nohup(1) leaves it: tests look at what is ignored.
	env --default-signal=HUP CGO_ENABLED=1 CI=true $(GO) test -race -timeout 30m $(TESTFLAGS) ./...
	$(GO) run ./test/vm -kernels 6.1
	$(GO) run ./test/service -short
	$(GO) run ./test/software -small

verify: lint ## lint, check that the generated files are up to date, and the manifests by Kubernetes' own types
	test/generated.sh
	cd test/kubernetes && $(GO) test -count=1 ./...

test-root: ## the packages' own tests, built here and run by root
	CI=true $(GO) test -timeout 30m -exec sudo $(TESTFLAGS) ./internal/... ./cmd/...

test-vm: setup ## kernel matrix (5.10 to the newest, and arm64) and the package on full systemd; writes docs/kernels.md, in half an hour
	$(GO) run ./test/vm -write docs/kernels.md
	$(GO) run ./test/service -machines host,6.1 -write docs/kernels.md

test-packages: setup ## packages for ARCHES: reproducible, accepted by lintian and rpm, the arm64 program emulated
	CI=true $(GO) test -count=1 -timeout 20m ./test/packages -arches '$(ARCHES)'

test-software: setup ## verdicts on real software from Debian's packages, in two containers; RUN='expression' for some cases only
	$(GO) run ./test/software -run '$(RUN)' $(SOFTWAREFLAGS)

docs-verdicts: setup ## the same, each case several times; writes docs/verdicts.md, in half an hour
	$(GO) run ./test/software -write docs/verdicts.md $(SOFTWAREFLAGS)

test-image: ## the container image, built from its recipe and run by podman
	test/setup.sh podman:podman runc:runc busybox:busybox-static
	test/image.sh

test-docker: build ## containers of a real docker by name, in namespaces of the test's own
	test/setup.sh dockerd:docker.io busybox:busybox-static
	test/docker.sh ./abot-trace

test-chaos: setup ## the chaos suite in its long form: kills, stops, full disks, no memory, no pids, stalled readers; and many random shapes of leaks
	CI=true $(GO) test -count=1 -timeout 30m -run TestChaos ./internal/e2e -chaos
	CI=true $(GO) test -count=1 -timeout 30m -run TestRandomShapes ./internal/truth -shapes 600

test-history: setup ## the history through 50 kills of the daemon in storms, and 100 of its readers
	CI=true $(GO) test -count=1 -timeout 30m -v -run 'TestHistory|TestCursorFile|TestThePast' ./internal/e2e -chaos

test-attack: setup ## one user attacks the daemon beside two others at work; writes the table of docs/threat-model.md
	CI=true $(GO) test -count=1 -timeout 30m -v -run TestAttack ./internal/e2e -chaos -attack-file '$(abspath docs/threat-model.md)'

test-soak: setup ## SOAK (1h) of processes, leaks, leases, reloads and readers at SOAK_RATE (120) processes a second; curves go to SOAK_FILE
	CI=true $(GO) test -count=1 -timeout 0 -v -run TestSoak ./internal/e2e -soak $(SOAK) -soak-rate $(SOAK_RATE) -soak-file '$(abspath $(SOAK_FILE))'

test-python: setup ## the Python module: every combination of the matrix, by the Pythons of Debian 11, 12 and 13
	CI=true $(GO) test -count=1 -timeout 60m ./clients/python -all

fuzz: ## run every fuzz target for FUZZTIME (30s)
	test/fuzz.sh $(FUZZTIME)

bench: setup ## what it costs, beside other tracers (BENCHFLAGS='-full -write docs/performance.md'), then Go benchmarks that match BENCH
	$(GO) run ./test/bench $(BENCHFLAGS)
	$(GO) test -run '^$$' -bench '$(BENCH)' -benchmem ./...

demo: setup build ## leak a Python worker and watch it being seen, judged and shown
	test/demo.sh

dist/host/abot-trace: build
	mkdir -p $(@D)
	CGO_ENABLED=0 GOARCH= $(GO) build $(BUILDFLAGS) -o $@ ./cmd/abot-trace

install: dist/host/abot-trace ## install under DESTDIR (PREFIX is /usr); starts nothing
	install -D -m 755 abot-trace $(DESTDIR)$(PREFIX)/bin/abot-trace
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/lib/systemd/system deploy/systemd/*.service deploy/systemd/*.socket deploy/systemd/*.timer
	sed -i 's|/usr/bin/abot-trace|$(PREFIX)/bin/abot-trace|' $(DESTDIR)$(PREFIX)/lib/systemd/system/abot-trace*.service
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/lib/systemd/catalog deploy/systemd/abot-trace.catalog
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/lib/sysusers.d deploy/sysusers.d/abot-trace.conf
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/lib/tmpfiles.d deploy/tmpfiles.d/abot-trace.conf
	install -d -m 755 $(DESTDIR)/etc/abot-trace/conf.d
	# A configuration that is there is the operator's.
	test -e $(DESTDIR)/etc/abot-trace/config.yaml || \
		install -D -m 644 deploy/config.yaml $(DESTDIR)/etc/abot-trace/config.yaml
	install -d $(DESTDIR)$(PREFIX)/share/man/man8 $(DESTDIR)$(PREFIX)/share/man/man5
	$(HOST_BINARY) man | gzip -9n > $(DESTDIR)$(PREFIX)/share/man/man8/abot-trace.8.gz
	$(HOST_BINARY) man docs/abot-trace.yaml.5.md | gzip -9n > $(DESTDIR)$(PREFIX)/share/man/man5/abot-trace.yaml.5.gz
	install -d $(DESTDIR)$(PREFIX)/share/bash-completion/completions \
		$(DESTDIR)$(PREFIX)/share/zsh/vendor-completions $(DESTDIR)$(PREFIX)/share/zsh/site-functions \
		$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
	$(HOST_BINARY) completion bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/abot-trace
	# Debian's zsh looks into the first, the others' into the second.
	$(HOST_BINARY) completion zsh > $(DESTDIR)$(PREFIX)/share/zsh/vendor-completions/_abot-trace
	$(HOST_BINARY) completion zsh > $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_abot-trace
	$(HOST_BINARY) completion fish > $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/abot-trace.fish
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/doc/abot-trace deploy/package/copyright README.md KNOWN_ISSUES.md CHANGELOG.md
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/doc/abot-trace/docs docs/*.md
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/doc/abot-trace/examples deploy/limits.d/abot-trace.conf \
		examples/*.py examples/*.js examples/*.sh
	# Where README and documents link to.
	for f in grafana/abot-trace.json prometheus/abot-trace.rules.yml kubernetes/daemonset.yaml container/Dockerfile limits.d/abot-trace.conf; do \
		install -D -m 644 deploy/$$f $(DESTDIR)$(PREFIX)/share/doc/abot-trace/deploy/$$f || exit 1; \
	done
	# For PYTHONPATH; the .deb has it in the system's own path, too.
	install -D -m 644 -t $(DESTDIR)$(PREFIX)/share/abot-trace/python clients/python/abot_trace.py

uninstall: ## remove what install put in place; configuration and state stay
	rm -f $(DESTDIR)$(PREFIX)/bin/abot-trace \
		$(DESTDIR)$(PREFIX)/lib/systemd/system/abot-trace{.service,-notify.service,-notify.socket,-cleanup.service,-cleanup.timer} \
		$(DESTDIR)$(PREFIX)/lib/systemd/catalog/abot-trace.catalog \
		$(DESTDIR)$(PREFIX)/lib/sysusers.d/abot-trace.conf $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/abot-trace.conf \
		$(DESTDIR)$(PREFIX)/share/man/man8/abot-trace.8.gz $(DESTDIR)$(PREFIX)/share/man/man5/abot-trace.yaml.5.gz \
		$(DESTDIR)$(PREFIX)/share/bash-completion/completions/abot-trace \
		$(DESTDIR)$(PREFIX)/share/zsh/{vendor-completions,site-functions}/_abot-trace \
		$(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/abot-trace.fish
	rm -rf $(DESTDIR)$(PREFIX)/share/doc/abot-trace $(DESTDIR)$(PREFIX)/share/abot-trace

package: ## .deb and .rpm for amd64 and arm64 in dist/, the same bytes for the same commit
	$(GO) build -modfile=tools/nfpm.mod -o dist/nfpm github.com/goreleaser/nfpm/v2/cmd/nfpm
	deploy/package/build.sh '$(PKG_VERSION)' $(DIST) $(ARCHES)

clean: ## remove what the other targets made in the tree
	rm -rf abot-trace dist coverage.out

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: all build generate fmt lint setup test test-root test-vm test-software docs-verdicts test-packages test-image test-docker test-chaos test-history test-python test-attack test-soak fuzz bench demo \
	verify install uninstall package clean help
