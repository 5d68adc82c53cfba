# Every target is documented by `make help`. `make test` needs Go and make only;
# the tools of the other targets have their versions here and land in .cache/,
# which `make clean` removes.

SHELL := /bin/sh
.SHELLFLAGS := -euc
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-builtin-rules --no-print-directory --warn-undefined-variables

GOLANGCI_LINT_VERSION := v2.15.0
BENCHSTAT_VERSION     := v0.0.0-20260908200009-22c9c6c9d4da
GOVULNCHECK_VERSION   := v1.9.0

# To be set on the command line: make bench PKG=./decision COUNT=10
ACTIVITIES ?= 10000
PKG        ?= ./...
FUZZTIME   ?= 10s
BENCH      ?= .
BENCHTIME  ?= 1s
COUNT      ?= 6
BASE       ?= HEAD
MINUTES    ?= 3
CASES      ?= 2000
SEED       ?= 0
ROUNDS     ?= 30
KAFKA      ?= 4
KAFKA_PKGS ?= ./internal/kafkatest/... ./pipeline/... ./cmd/processor/...

BIN := $(CURDIR)/.cache/bin
# A tool's version is part of its file name, so a new version is a new file.
GOLANGCI_LINT := $(BIN)/golangci-lint-$(GOLANGCI_LINT_VERSION)
BENCHSTAT     := $(BIN)/benchstat-$(BENCHSTAT_VERSION)
GOVULNCHECK   := $(BIN)/govulncheck-$(GOVULNCHECK_VERSION)

.PHONY: help
help: ## Show this list
	@awk 'BEGIN { FS = ":.*## "; print "make TARGET [VARIABLE=value]\n" } \
	  /^##@ / { printf "\n%s\n", substr($$0, 5) } \
	  /^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' Makefile

##@ First steps

.PHONY: run
run: ## See it work: an in-process broker, ACTIVITIES (10000) sample activities, a summary
	@go run ./cmd/processor dev --activities $(ACTIVITIES) --exit

.PHONY: test
test: ## Run the tests; needs Go and make only
	go test -timeout 30m ./...

.PHONY: build
build: ## Build ./processor
	go build -trimpath -o processor ./cmd/processor

##@ Before a commit

.PHONY: check
check: static test ## All that must be green: fmt, vet, lint, tidy, test

.PHONY: static
static: fmt-check vet lint tidy-check ## The parts of check that look but do not run

.PHONY: fmt
fmt: ## Format the Go code
	gofmt -w .

.PHONY: fmt-check
fmt-check:
	@files=$$(gofmt -l .); test -z "$$files" || { echo "not formatted (make fmt):"; echo "$$files"; exit 1; }

.PHONY: vet
vet:
	go vet ./...

.PHONY: lint
lint: $(GOLANGCI_LINT) ## Lint, import rules included (.golangci.yml)
	$(GOLANGCI_LINT) run

.PHONY: tidy
tidy: ## Tidy go.mod and go.sum
	go mod tidy

.PHONY: tidy-check
tidy-check:
	go mod tidy -diff

.PHONY: vuln
vuln: $(GOVULNCHECK) ## Look for known vulnerabilities (fetches their database)
	$(GOVULNCHECK) ./...

##@ Deeper

.PHONY: race
race: ## Run the tests, the longest in their short form, under the race detector; needs a C compiler
	go test -race -short -timeout 30m ./...

.PHONY: fuzz
fuzz: ## Run each fuzz target in PKG for FUZZTIME (10s)
	FUZZTIME=$(FUZZTIME) scripts/fuzz.sh $(PKG)

.PHONY: vectors
vectors: ## Compare with the recorded answers of the SDKs: passed/total by file
	scripts/vectors.sh

.PHONY: oracle
oracle: ## Compare with the Python SDK on CASES (2000) fresh random cases; needs Python 3 with venv (SEED repeats a run)
	@python=$$(internal/oracle/python/install.sh) && go run ./internal/oracle --cases $(CASES) --seed $(SEED) --python "$$python"

.PHONY: foreign
foreign: ## The official Python and JavaScript SDKs against the emulator; needs Python 3 with venv, and Node.js with npm
	@SORTITION_FOREIGN=$$(internal/emulator/foreign/install.sh) go test -count=1 -run '^TestForeign' ./internal/emulator

.PHONY: kill
kill: ## Kill real processes with SIGKILL amid their work, ROUNDS (30) times each; nothing may be lost
	KILL_ROUNDS=$(ROUNDS) go test -count=1 -run 'Kill' ./client ./cmd/processor ./decision/datafile ./sinks

.PHONY: chaos
chaos: ACTIVITIES = 1000000
chaos: ## Kill, stop and restart processes and a real Kafka for MINUTES (3) amid ACTIVITIES (1000000), then take account (SEED repeats)
	go run ./internal/chaos --minutes $(MINUTES) --activities $(ACTIVITIES) --seed $(SEED)

.PHONY: newcomer
newcomer: ACTIVITIES = 20000
newcomer: ## Clone the repository into an empty folder, and `make run` there with a bare environment
	scripts/newcomer.sh $(ACTIVITIES)

.PHONY: redis
redis: ## Start a real Redis on loopback; prints its address; needs redis-server
	@scripts/redis.sh start

.PHONY: redis-stop
redis-stop: ## Stop the Redis that `make redis` started
	@scripts/redis.sh stop

.PHONY: test-redis
test-redis: ## Run the tests of profiles and segments on the real Redis named by SORTITION_REDIS
	@test -n "$${SORTITION_REDIS:-}" || { echo "set SORTITION_REDIS=redis://host:port/0; make redis starts one and prints its address" >&2; exit 2; }
	go test -count=1 ./odp ./profiles

.PHONY: kafka
kafka: ## Start a real Apache Kafka (KAFKA=4 or 3.9) on loopback; prints its address; needs Java and Maven
	@KAFKA_VERSION=$(KAFKA) internal/kafkatest/kafka.sh start

.PHONY: kafka-stop
kafka-stop: ## Stop the Kafka that `make kafka` started
	@internal/kafkatest/kafka.sh stop

.PHONY: test-kafka
test-kafka: ## Run the broker tests (KAFKA_PKGS) on the real Kafka named by SORTITION_KAFKA=host:port
	@test -n "$${SORTITION_KAFKA:-}" || { echo "set SORTITION_KAFKA=host:port; make kafka starts one and prints its address" >&2; exit 2; }
	go test -count=1 $(KAFKA_PKGS)

.PHONY: compose-check
compose-check: ## Check docker-compose.yml and the image's build; with SORTITION_KAFKA=host:port also run the stack as plain processes
	scripts/compose-check.sh

##@ Speed

.PHONY: bench
bench: ## Run the benchmarks of PKG and write them to docs/bench/ (BENCH, BENCHTIME, COUNT)
	BENCH='$(BENCH)' BENCHTIME=$(BENCHTIME) COUNT=$(COUNT) scripts/bench.sh $(PKG)

.PHONY: bench-compare
bench-compare: $(BENCHSTAT) ## Compare the working tree with revision BASE (HEAD), run by turns
	BENCH='$(BENCH)' BENCHTIME=$(BENCHTIME) COUNT=$(COUNT) BENCHSTAT=$(BENCHSTAT) scripts/bench-compare.sh $(BASE) $(PKG)

.PHONY: bench-stream
bench-stream: ## Measure the stream on a real Kafka (that of SORTITION_KAFKA, or a fresh one) and write docs/bench/stream.txt
	@scripts/bench-stream.sh

##@ Other

.PHONY: readme
readme: ## Run the commands of README.md that are marked for it
	scripts/readme.sh README.md

.PHONY: clean
clean: ## Remove what was built, the tools, and what the examples wrote; stops Kafka and Redis
	internal/kafkatest/kafka.sh stop
	scripts/redis.sh stop
	rm -rf processor .cache out

$(GOLANGCI_LINT):
	scripts/install.sh $@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(GOLANGCI_LINT_VERSION)

$(BENCHSTAT):
	scripts/install.sh $@ golang.org/x/perf/cmd/benchstat@$(BENCHSTAT_VERSION)

$(GOVULNCHECK):
	scripts/install.sh $@ golang.org/x/vuln/cmd/govulncheck@$(GOVULNCHECK_VERSION)
