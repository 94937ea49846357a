.DEFAULT_GOAL := help
SHELL := /bin/sh

GO ?= go
# The packages that lint, test, bench and fuzz look at: make test PKG=./tasks/...
PKG ?= ./...
# Further flags for go test: make test PKG=./worker TESTFLAGS='-run TestDrain -count=20'
TESTFLAGS ?=
TEST_TIMEOUT ?= 15m
FUZZTIME ?= 20s
BENCHTIME ?= 1s

# Pinned in a module file of their own, built once and kept in Go's build cache.
TOOL := $(GO) tool -modfile=.ci/tools.mod

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build bin/forebay
	$(GO) build -trimpath -o bin/forebay .

.PHONY: check
check: fmt-check vet lint tidy-check vuln ## Check format, vet, linters, go.mod and known vulnerabilities

.PHONY: test
test: ## Run all tests under the race detector, installing what they need
	@.ci/install-test-deps
	CGO_ENABLED=1 $(TOOL) gotestsum --format pkgname -- -race -shuffle=on -timeout $(TEST_TIMEOUT) $(TESTFLAGS) $(PKG)

.PHONY: deploy-check
deploy-check: ## Check what stands in deploy/: image, Compose, Helm, systemd, Redis, Prometheus, Grafana, releases
	@.ci/install-test-deps
	@echo "deploy-check: no image is built, no container started and no cluster asked here" >&2
	cd deploy/check && $(GO) mod tidy -diff && $(GO) vet ./... && $(GO) test -count=1 ./...

# Of make chaos. A run prints its seed, and the command that repeats it.
SEED ?=
JOBS ?= 20000
KILLS ?= 100
REDIS_KILLS ?= 20
EVERY_MS ?= 4000
REDELIVERY_MS ?= 20000
DISK_MB ?= 0
CUT_KB ?= 0

.PHONY: chaos
chaos: ## Kill workers, schedulers, producers and Redis at random under load
	@.ci/install-test-deps
	FOREBAY_CHAOS_SEED=$(SEED) FOREBAY_CHAOS_JOBS=$(JOBS) FOREBAY_CHAOS_KILLS=$(KILLS) FOREBAY_CHAOS_REDIS_KILLS=$(REDIS_KILLS) \
	FOREBAY_CHAOS_EVERY_MS=$(EVERY_MS) FOREBAY_CHAOS_REDELIVERY_MS=$(REDELIVERY_MS) FOREBAY_CHAOS_DISK_MB=$(DISK_MB) FOREBAY_CHAOS_CUT_KB=$(CUT_KB) \
	$(GO) test -run='^TestChaos$$' -v -count=1 -timeout 60m .

.PHONY: bench
bench: ## Run the benchmarks
	$(GO) test -run='^$$' -bench=. -benchmem -benchtime=$(BENCHTIME) $(PKG)

.PHONY: fuzz
fuzz: ## Run each fuzz target for FUZZTIME (20s)
	@list="$$($(GO) test -list '^Fuzz' $(PKG))" || { echo "$$list"; exit 1; }; \
	echo "$$list" | awk '/^Fuzz/ { names[n++] = $$1 } \
		$$1 == "ok" { for (i = 0; i < n; i++) print $$2, names[i]; n = 0 }' | \
	while read -r package target; do \
		echo "$$package $$target"; \
		$(GO) test -run='^$$' -fuzz="^$$target\$$" -fuzztime=$(FUZZTIME) "$$package" || exit 1; \
	done

.PHONY: fmt
fmt: ## Format the Go files
	$(TOOL) golangci-lint fmt

.PHONY: fmt-check
fmt-check:
	$(TOOL) golangci-lint fmt --diff

.PHONY: vet
vet:
	$(GO) vet ./...

.PHONY: lint
lint: ## Run the linters only
	$(TOOL) golangci-lint config verify
	$(TOOL) golangci-lint run $(PKG)

.PHONY: tidy-check
tidy-check:
	$(GO) mod verify
	$(GO) mod tidy -diff

VULNDB := $(or $(GOVULNDB),https://vuln.go.dev)

.PHONY: vuln
vuln: ## Look for known vulnerabilities, where their database can be reached
	@if ! command -v curl >/dev/null; then \
		echo "govulncheck SKIPPED: it cannot be told whether its database can be reached (curl is not installed)" >&2; \
	elif ! curl -fsSL --max-time 5 -o /dev/null "$(VULNDB)/index/db.json" 2>/dev/null; then \
		echo "govulncheck SKIPPED: its database cannot be reached from here" >&2; \
	else \
		set -x; $(TOOL) govulncheck ./...; \
	fi

.PHONY: clean
clean: ## Remove what was built
	rm -rf bin coverage
