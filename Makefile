# Two commands are all a newcomer needs: `make demo` and `make test`. Everything that is built
# or fetched is cached outside the repository, in the user's cache directory.

SHELL    := /bin/bash
GO       ?= go
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS  := -s -w -X main.version=$(VERSION)
CACHE    := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/mooring
BINARIES := mooring-dns mooring-proxy mooringctl
SOURCE   ?= manifests
FUZZTIME ?= 30s
STOCK    := $(CACHE)/stock/1.15.0
# The linter is built once for each version; the key is its module file.
LINT     := $(CACHE)/tools/golangci-lint-$(shell cksum internal/tools/golangci/go.sum | cut -d' ' -f1)-$(shell $(GO) env GOVERSION)

.PHONY: help build $(BINARIES) images demo test test-unit test-kernel test-system test-differential test-deploy test-node test-takeover test-scale soak check fuzz bench bench-dns bench-scale bench-proxy compare fmt lint tidy clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: $(BINARIES) ## build bin/mooring-dns, bin/mooring-proxy and bin/mooringctl, static

$(BINARIES):
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags "$(LDFLAGS)" -o bin/$@ ./cmd/$@

images: ## build the container images, amd64 and arm64, as archives in bin/images; no daemon, nothing pulled
	$(GO) run -C internal/tools/images . -source "$(CURDIR)" -out "$(CURDIR)/bin/images" -version "$(VERSION)"

demo: build ## play the story of one Service on a real kernel; SOURCE=kubernetes with a real API server
	$(GO) run ./test/cmd/demo --source=$(SOURCE) --bin=bin

test: test-unit test-kernel test-system test-differential test-deploy ## run all tests: units, the real kernel, the real API server

# What needs neither a kernel with IPVS nor a control plane.
test-unit:
	$(GO) test -shuffle=on $$($(GO) list ./... | grep -v /mooring/test/)

# The packages that talk to the kernel, inside the kernel machine.
test-kernel:
	$(GO) test -count=1 ./test/vm/...
	MOORING_IPVS=required CGO_ENABLED=0 $(GO) test -count=1 -timeout 20m -exec "$(CURDIR)/test/vm/run" ./proxy ./proxy/dataplane/... ./test/scenarios ./test/survive

# Stock CoreDNS and mooring-dns, asked the same about random clusters. In CI these are the same ones each
# time: a difference of two rare properties at once that nobody has looked into is no fault of the change.
test-differential:
	$(if $(CI),TEST_SEED=$${TEST_SEED:-1}) $(GO) -C test/differential test -count=1 ./...

# What deploy/ holds, against a real API server, and how the images are made.
test-deploy:
	$(GO) -C test/deploy test -count=1 ./...
	$(GO) -C internal/tools/images test -count=1 ./...

# Long: part of nightly runs.
test-node: ## build the Dockerfile, deploy to a real kubelet and containerd in the kernel machine, update, migrate and go back
	MOORING_NODE=1 $(GO) -C internal/tools/images test -count=1 -v -timeout 1h -run TestDockerfileGivesTheSameImages .
	MOORING_NODE=1 $(GO) test -count=1 -v -timeout 2h ./test/node

# Some five minutes.
test-takeover: ## take over from kube-proxy in each of its modes, and give back, under connections
	MOORING_TAKEOVER=1 $(GO) test -count=1 -v -timeout 1h -run '^TestTakeOver$$' ./test/takeover

# The control plane, what is read from it, and the story as a newcomer sees it.
test-system: build
	MOORING_BIN=$(CURDIR)/bin $(GO) test -count=1 -p 1 -timeout 30m $$($(GO) list ./test/... | grep -v /test/vm)

# The long form of what test-kernel has at 10,000 Services, at 50,000 too: some ten minutes.
test-scale: ## count and measure what a change costs beside up to 50,000 Services, on the real kernel
	MOORING_SCALE=long MOORING_IPVS=required CGO_ENABLED=0 $(GO) test -count=1 -v -timeout 1h -exec "$(CURDIR)/test/vm/run" \
		-run "DoesNotGrow|ManyServices" ./proxy

soak: ## the long forms of what survives: 50 restarts, long outages, a million changes; about an hour
	MOORING_SOAK=1 $(GO) test -count=1 -v -timeout 2h -run TestMemoryGoroutinesAndFilesStayLevel ./proxy
	MOORING_SOAK=1 MOORING_IPVS=required CGO_ENABLED=0 $(GO) test -count=1 -v -timeout 1h -exec "$(CURDIR)/test/vm/run" ./test/survive
	MOORING_SOAK=1 $(GO) test -count=1 -v -timeout 1h -run TestAPIServerAwaySlowOrLying ./test/survive

check: lint ## format, vet, lint, import directions, unit tests with the race detector (needs gcc)
	$(GO) vet ./...
	$(GO) mod tidy -diff
	$(GO) test -short -race -shuffle=on ./...

# Every fuzz target of this module, as PACKAGE:NAME.
FUZZ = $(shell $(GO) list -f '{{range .TestGoFiles}}{{$$.ImportPath}} {{$$.Dir}}/{{.}}{{"\n"}}{{end}}{{range .XTestGoFiles}}{{$$.ImportPath}} {{$$.Dir}}/{{.}}{{"\n"}}{{end}}' ./... | \
	while read -r package file; do sed -nE "s|^func (Fuzz[A-Za-z0-9_]+).*|$$package:\1|p" "$$file"; done)

fuzz: ## fuzz each target for FUZZTIME (default 30s); what fails is kept under testdata/fuzz
	@targets="$(FUZZ)"; [ -n "$$targets" ] || { echo "no fuzz targets found" >&2; exit 1; }; \
	for target in $$targets; do \
		echo "$$target for $(FUZZTIME)"; \
		$(GO) test -run '^$$' -fuzz "^$${target##*:}\$$" -fuzztime $(FUZZTIME) "$${target%:*}" || exit; \
	done

bench: ## run every benchmark; compare two runs with `go tool -modfile=internal/tools/go.mod benchstat`
	$(GO) test -run '^$$' -bench . -benchmem ./internal/... ./plugin/... ./proxy/...

# The stock binary is what `go install` makes of the release: its own dependencies, our flags.
bench-dns: mooring-dns ## compare with stock CoreDNS (needs dnsperf); FLAGS=-short for a quick look
	GOBIN=$(STOCK) CGO_ENABLED=0 $(GO) install -trimpath -ldflags "-s -w" github.com/coredns/coredns@v$(notdir $(STOCK))
	mkdir -p docs
	$(GO) run ./test/bench/dns -stock $(STOCK)/coredns -mooring bin/mooring-dns -out docs/benchmarks-dns.md $(FLAGS)

bench-scale: ## memory and the cost of a change beside 100,000 Services and 1,000,000 endpoints, without a kernel
	$(GO) run ./test/bench/scale -out docs/scale.md $(FLAGS)

bench-proxy: ## compare with kube-proxy ipvs and nftables on one kernel; an hour or two; FLAGS=-short for a quick look
	mkdir -p docs
	$(GO) run ./test/bench/proxy -out docs/benchmarks-proxy.md $(FLAGS)

compare: ## run the scenarios against mooring-proxy and kube-proxy's modes ipvs and nftables; FLAGS=-scenarios=plain for a part
	$(GO) run ./test/compare -out docs/comparison.md $(FLAGS)

fmt: $(LINT) ## format the code
	$(LINT) fmt

lint: $(LINT) ## check format and style
	$(LINT) fmt --diff
	$(LINT) run

$(LINT):
	mkdir -p $(@D)
	$(GO) build -C internal/tools/golangci -o $@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

tidy: ## tidy all modules
	for module in . $(dir $(shell git ls-files '*/go.mod')); do $(GO) -C $$module mod tidy || exit; done

clean: ## remove what was built inside the repository; the cache stays
	rm -rf bin
