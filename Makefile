# make test is the whole suite; CI runs it, and make lint. It needs Go, and for the real FTP clients and
# servers Debian or Ubuntu and root; without them the tests that need them are skipped (with
# CI=true a skip is a failure).

.PHONY: build test race lint peers fuzz soak bench

build:
	CGO_ENABLED=0 go build -trimpath -o ftpgate ./cmd/ftpgate

# The race detector multiplies what a program costs, so the tests run without it where nothing runs at the same
# time: packages that start no goroutine, nor do their tests (internal/archtest holds them to that), and tests
# of the whole program with one session or command after the other. internal/e2e/proxy, ftps and observe run
# the same program with the detector. bench is no part of the program. The race target runs everything with it.
SINGLE = ./internal/core/... ./internal/cli/terminal ./internal/config ./internal/control/refusal \
	./internal/control/transcript ./internal/diagnose/doctor ./internal/diagnose/facts \
	./internal/diagnose/preflight ./internal/e2e/differential/script ./internal/kernel/netlink \
	./internal/kernel/nft ./internal/kernel/nftforeign ./internal/packagingtest ./internal/version
SEQUENTIAL = $(SINGLE) ./internal/e2e/diagnose ./internal/e2e/docs ./internal/e2e/interop \
	./internal/e2e/kernel ./internal/e2e/scripts

# make lint vets the code. Linking test binaries takes a fifth less time, and some
# 30 MB more, with GOGC=400. Tests wait a lot: hence -p.
TESTFLAGS = -vet=off -toolexec 'env GOGC=400' -p 4 -timeout 20m

# Without it, each program with the race detector sleeps for a second before it exits.
test race: export GORACE := atexit_sleep_ms=0 $(GORACE)

# The two halves run at the same time: where the tests of one wait, the other compiles. No package is compiled
# in both, because the race detector changes all packages.
test: peers
	$(MAKE) --jobs=2 test-concurrent test-sequential

.PHONY: test-concurrent test-sequential
test-concurrent:
	go test $(TESTFLAGS) -race $$(go list ./... | grep -vxF -e ftpgate/internal/archtest -e "$$(go list $(SEQUENTIAL))")
test-sequential:
	go test $(TESTFLAGS) ./internal/archtest $(SEQUENTIAL)
	go -C bench test $(TESTFLAGS) ./...

race: peers lint
	go test $(TESTFLAGS) -race ./...
	go -C bench test $(TESTFLAGS) -race ./...

# bench is a Go module of its own; its linter is the one that the root's go.mod names. The house's
# laws, such as the width of a line, are tests.
lint:
	@unformatted="$$(gofmt -l cmd internal bench)"; test -z "$$unformatted" || { echo "gofmt: $$unformatted"; exit 1; }
	go vet ./...
	go tool staticcheck ./...
	go mod tidy -diff
	go -C bench vet ./...
	go -C bench tool -modfile=../go.mod staticcheck ./...
	go -C bench mod tidy -diff
	go test ./internal/archtest

peers:
	./scripts/test-peers

# Each fuzz target for FUZZTIME.
FUZZTIME ?= 30s
fuzz:
	@for p in $$(go list ./internal/...); do \
		for f in $$(go test -list '^Fuzz' $$p | grep '^Fuzz'); do \
			echo "$$p $$f"; go test -run '^$$' -fuzz "^$$f$$" -fuzztime $(FUZZTIME) $$p || exit 1; \
		done; \
	done

# Random sessions, played directly and through the gateway, for as long as SOAK says.
SOAK ?= 1h
soak:
	SOAK=$(SOAK) go test -count=1 -timeout 0 -v -run '^TestSoak$$' ./internal/e2e/differential

# How fast it is, compared with routing and the kernel's helper; BENCH=-quick for a short run, -h for
# more. Paths in BENCH start from here, not from the module's folder.
bench:
	go -C bench build -o ../bench-results/bench .
	./bench-results/bench $(BENCH)
