# make test is the whole suite; CI runs it, and make lint. It needs Go, and for the real FTP clients and
# servers Debian or Ubuntu and root; without them the tests that need them are skipped (with
# CI=true a skip is a failure).

.PHONY: build extras install install-systemd install-openrc uninstall packages release image \
	test test-packages test-kernels test-page test-image race lint peers fuzz soak bench

# The program, and in build/ what is installed beside it.
build:
	CGO_ENABLED=0 go build -trimpath -o ftpgate ./cmd/ftpgate
	$(MAKE) extras

# Files name /usr, and "make install" puts PREFIX in its place. BINARY is the program to install; another one
# that runs here can make the extras.
PREFIX ?= /usr/local
SYSCONFDIR ?= /etc
ZSHDIR ?= $(PREFIX)/share/zsh/site-functions
INIT ?= systemd# or openrc
BUILD ?= build
BINARY ?= ftpgate
RELEASE := $(shell cat internal/version/VERSION)
RELEASED := $(shell awk '$$2 == "$(RELEASE)" { print $$4; exit }' CHANGELOG.md)

extras: $(BINARY)
	mkdir -p $(BUILD)
	go -C release run ./manpage -program 'ftpgate $(RELEASE)' -date '$(RELEASED)' \
		-into '$(abspath $(BUILD))' $(abspath $(wildcard docs/man/*.md))
	for shell in bash zsh fish; do $(abspath $(BINARY)) completion $$shell >$(BUILD)/ftpgate.$$shell || exit 1; done
	$(abspath $(BINARY)) config >$(BUILD)/ftpgate.toml

$(BINARY) $(BUILD)/ftpgate.toml:
	@echo "there is no $@: run make build first, as an ordinary user" >&2; exit 1

# Nobody's configuration is overwritten. Neither Go nor the network is needed here.
AT = $(DESTDIR)$(PREFIX)
IN_PREFIX = sed 's|/usr/bin/ftpgate|$(PREFIX)/bin/ftpgate|g; s|/usr/share/doc/ftpgate|$(PREFIX)/share/doc/ftpgate|g'
# Documents for operators. A link to a file that is not installed becomes its text.
INSTALLED_DOCS = $(filter-out architecture.md,$(patsubst docs/%,%,$(wildcard docs/*.md docs/examples/*.md)))
WITHOUT_LINKS = /^<!-- lab/d; s/\[([^]]*)\]\((\.\.\/)?(\.\.\/(packaging|internal)|\.\.\/[A-Z]+\.md|architecture\.md|design|man)[^)]*\)/\1/g
install: $(BINARY) $(BUILD)/ftpgate.toml install-$(INIT)
	install -D -m 755 $(BINARY) $(AT)/bin/ftpgate
	$(IN_PREFIX) $(BUILD)/ftpgate.toml.5 | install -D -m 644 /dev/stdin $(AT)/share/man/man5/ftpgate.toml.5
	$(IN_PREFIX) $(BUILD)/ftpgate.8 | install -D -m 644 /dev/stdin $(AT)/share/man/man8/ftpgate.8
	install -D -m 644 $(BUILD)/ftpgate.bash $(AT)/share/bash-completion/completions/ftpgate
	install -D -m 644 $(BUILD)/ftpgate.zsh $(DESTDIR)$(ZSHDIR)/_ftpgate
	install -D -m 644 $(BUILD)/ftpgate.fish $(AT)/share/fish/vendor_completions.d/ftpgate.fish
	install -d $(AT)/share/doc/ftpgate/examples
	for file in $(INSTALLED_DOCS); do \
		sed -E '$(WITHOUT_LINKS)' "docs/$$file" | install -m 644 /dev/stdin "$(AT)/share/doc/ftpgate/$$file" || exit 1; done
	install -m 644 packaging/prometheus/ftpgate.rules.yml packaging/grafana/ftpgate.json \
		$(AT)/share/doc/ftpgate/examples
	cp -R packaging/fail2ban packaging/crowdsec $(AT)/share/doc/ftpgate/examples
	install -D -m 644 packaging/logrotate.d/ftpgate $(DESTDIR)$(SYSCONFDIR)/logrotate.d/ftpgate
	test -e $(DESTDIR)$(SYSCONFDIR)/ftpgate/ftpgate.toml || \
		install -D -m 644 $(BUILD)/ftpgate.toml $(DESTDIR)$(SYSCONFDIR)/ftpgate/ftpgate.toml

install-systemd:
	$(IN_PREFIX) packaging/systemd/ftpgate.service | \
		install -D -m 644 /dev/stdin $(AT)/lib/systemd/system/ftpgate.service
	install -D -m 644 packaging/sysusers.d/ftpgate.conf $(AT)/lib/sysusers.d/ftpgate.conf
	install -D -m 644 packaging/tmpfiles.d/ftpgate.conf $(AT)/lib/tmpfiles.d/ftpgate.conf

install-openrc:
	$(IN_PREFIX) packaging/openrc/ftpgate | install -D -m 755 /dev/stdin $(DESTDIR)$(SYSCONFDIR)/init.d/ftpgate

# Packages for Linux distributions, and with the rest of a release, in dist/.
packages release: build
	go -C release run . $@

# The container image alone, in dist/: an OCI layout, and an archive for each architecture. SOURCE is the
# address of the repository, which the image names.
image:
	go -C release run . -source '$(SOURCE)' image

# All but the configuration, and what the service wrote.
uninstall:
	rm -rf $(AT)/share/doc/ftpgate
	rm -f $(AT)/bin/ftpgate $(AT)/share/man/man5/ftpgate.toml.5 $(AT)/share/man/man8/ftpgate.8 \
		$(AT)/share/bash-completion/completions/ftpgate $(DESTDIR)$(ZSHDIR)/_ftpgate \
		$(AT)/share/fish/vendor_completions.d/ftpgate.fish $(AT)/lib/systemd/system/ftpgate.service \
		$(AT)/lib/sysusers.d/ftpgate.conf $(AT)/lib/tmpfiles.d/ftpgate.conf \
		$(DESTDIR)$(SYSCONFDIR)/init.d/ftpgate $(DESTDIR)$(SYSCONFDIR)/logrotate.d/ftpgate

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
	@unformatted="$$(gofmt -l cmd internal bench release)"; test -z "$$unformatted" || { echo "gofmt: $$unformatted"; exit 1; }
	go vet ./...
	go tool staticcheck ./...
	go mod tidy -diff
	go -C bench vet ./...
	go -C bench tool -modfile=../go.mod staticcheck ./...
	go -C bench mod tidy -diff
	go test ./internal/archtest

peers:
	./scripts/test-peers

# The packages: what lintian and rpmlint say, a clean Debian that boots systemd, installs, runs, upgrades and removes
# the deb, one that boots OpenRC, and a release that is built twice. It needs root, downloads these Debians, and takes
# minutes.
test-packages: build
	./scripts/test-peers packages
	go -C release vet ./...
	go -C release tool -modfile=../go.mod staticcheck ./...
	go -C release mod tidy -diff
	go -C release test -vet=off -count=1 -timeout 180m ./...

# Other kernels, in emulated machines: those that scripts/test-kernels lists, or KERNELS. It downloads them, and
# takes minutes for each.
test-kernels: peers
	./scripts/test-peers kernels
	./scripts/test-kernels $(KERNELS)

# The page at the admin address, in a browser, which is downloaded. PAGE_PHOTOS is where pictures of it go.
PAGE_PHOTOS ?= $(or $(TMPDIR),/tmp)/ftpgate-page
test-page:
	./scripts/test-peers page
	mkdir -p $(PAGE_PHOTOS)
	PAGE_PHOTOS='$(abspath $(PAGE_PHOTOS))' go test $(TESTFLAGS) -count=1 ./internal/e2e/page

# The image in a network with containers, compose.yaml and the chart for Kubernetes: as root. The libraries of
# Kubernetes take minutes to compile.
test-image: peers image
	go -C release/containertest vet ./...
	go -C release/containertest tool -modfile=../../go.mod staticcheck ./...
	go -C release/containertest mod tidy -diff
	go -C release/containertest test -vet=off -count=1 -timeout 60m ./...

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
