# make test is the whole suite, as CI runs it. It needs Go, and for the real FTP clients and
# servers Debian or Ubuntu and root; without them the tests that need them are skipped (with
# CI=true a skip is a failure).

.PHONY: build test lint peers fuzz bench

build:
	CGO_ENABLED=0 go build -trimpath -o ftpgate ./cmd/ftpgate

test: peers lint
	go test -race -timeout 20m ./...

lint:
	@unformatted="$$(gofmt -l cmd internal)"; test -z "$$unformatted" || { echo "gofmt: $$unformatted"; exit 1; }
	go vet ./...
	go tool staticcheck ./...
	go mod tidy -diff

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

# How fast it is, beside routing and the kernel's helper; BENCH=-quick for a short run, -h for more.
bench:
	go run ./internal/bench $(BENCH)
