# Every chore; `make help` lists them. The scripts in scripts/ do the work, and can be run by hand
# as well.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory --no-builtin-rules

# Settings, given on the command line or in the environment:
#   PYTHON=/path/to/python3.12    the Python that the demo uses
#   GATEVISOR_DEMO_HOME=/path     another place for the demo than .demo/home
#   AGENT=openclaw                the agent of the demo: hermes or openclaw
#   HERMES=0.22                   the Hermes of the demo and of the image: 0.19 or 0.22
export AGENT HERMES

##@ First steps

.PHONY: help
help: ## Show this list
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z0-9-]+:.*## / { \
			line = sprintf("  make %-18s", $$1); \
			count = split($$2, words, " "); \
			for (i = 1; i <= count; i++) { \
				if (length(line) + length(words[i]) + 1 > 100) { print line; line = sprintf("%25s", "") } \
				line = line " " words[i] \
			} \
			print line \
		}' $(firstword $(MAKEFILE_LIST))

.PHONY: up
up: ## Build, and run a demo with two real Hermes gateways (HERMES=0.22: one for all; AGENT=openclaw: two of OpenClaw); Ctrl-C ends it
	@exec scripts/up.sh

.PHONY: test
test: ## Run every test
	@exec scripts/test.sh

##@ Building

.PHONY: setup
setup: ## Install what is missing on this machine for everything below
	@exec scripts/setup.sh test

.PHONY: build
build: ## Build the static release binary, target/gatevisor
	@scripts/setup.sh build
	@exec scripts/build.sh

.PHONY: image
image: build ## Build the images gatevisor:latest (with Hermes; HERMES=0.22: another one) and gatevisor:latest-minimal
	@scripts/setup.sh image
	@scripts/docker.sh start
	@exec scripts/image.sh

.PHONY: dist
dist: ## Build a release into dist/: static binaries, tarballs, .deb, SBOM, images, checksums
	@scripts/setup.sh build
	@exec scripts/dist.sh

.PHONY: dist-test
dist-test: ## Test what make dist has built: checksums, tarball, package, crates, cargo install
	@exec scripts/dist-test.sh

.PHONY: deploy-test
deploy-test: ## Use the files of deploy/: compose on the engine, Kubernetes and systemd as far as they can be checked
	@exec scripts/deploy-test.sh

.PHONY: prometheus-test
prometheus-test: build ## Have Debian's Prometheus read the metrics, and try the alert rules
	@exec scripts/prometheus-test.sh

.PHONY: fmt
fmt: ## Format the source
	cargo fmt --all

.PHONY: doc
doc: ## Write the documentation of the crates, target/doc/gatevisor
	RUSTDOCFLAGS='-D warnings' cargo doc --workspace --no-deps --document-private-items

.PHONY: clean
clean: ## Remove everything that was built (the demo stays)
	cargo clean

##@ Parts of make test

.PHONY: lint
lint: ## Check the format, clippy, the documents and the rules of the house
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	@scripts/check-docs.sh
	@scripts/house.py --check

.PHONY: unit
unit: ## Run all tests that need neither Hermes nor Docker
	cargo nextest run --workspace --filterset 'not test(real_hermes) and not binary(container)'

.PHONY: container
container: override HERMES =
container: image ## Build the images and run their tests
	@HERMES=0.22 scripts/image.sh
	cargo nextest run -p gatevisor --test container

.PHONY: e2e
e2e: build ## Run the tests with the real Hermes
	HERMES_BIN="$$(scripts/hermes-venv.sh)/bin/hermes" HERMES_022_BIN="$$(scripts/hermes-venv.sh 0.22)/bin/hermes" GATEVISOR_BIN="$$PWD/target/gatevisor" \
		cargo nextest run --workspace --filterset 'test(real_hermes)'

.PHONY: conformance
conformance: ## Run the conformance cases on s6 and on us, and write docs/design/conformance.md
	@exec scripts/conformance.sh

.PHONY: differential
differential: ## Give N=2000 random sequences (of SEED=…) to s6 and to us, and compare the results
	GATEVISOR_DIFFERENTIAL_SEQUENCES="$${N:-2000}" GATEVISOR_DIFFERENTIAL_SEED="$${SEED:-$$RANDOM}" \
		cargo test -p gatevisor --test conformance -- --nocapture --exact \
		differential::random_lives_of_this_day_look_the_same_on_s6_and_on_us

.PHONY: miri
miri: ## Run the tests of the crates without I/O under Miri
	@scripts/miri.sh install && exec scripts/miri.sh

.PHONY: fuzz
fuzz: ## Fuzz every decoder, and root's ways through trees, for TIME=60 seconds each, or one: TARGET=name
	@exec scripts/fuzz.sh

.PHONY: deny
deny: ## Check licences, advisories and sources of the dependencies
	cargo deny --all-features check

.PHONY: docs-check
docs-check: ## Check what a machine can check about the documents
	@exec scripts/check-docs.sh

.PHONY: house
house: ## Print what breaks the rules of the source: circles, retired words, lengths
	@exec scripts/house.py

.PHONY: vm
vm: ## Run the tests of confinement in a virtual machine, for kernels that lack features; not a part of make test
	@scripts/docker.sh start
	@scripts/vm.sh

.PHONY: test-browser
test-browser: ## Use the page of gatevisor web in headless Chromium, as a person does
	@exec scripts/browser-test.sh

.PHONY: test-api
test-api: build ## Hold the document about the API of gatevisor web against its answers, with schemathesis
	@scripts/setup.sh demo
	@exec scripts/api-test.sh

.PHONY: screenshots
screenshots: ## Make the pictures of the page in docs/pictures anew, with headless Chromium
	@exec scripts/browser-test.sh pictures

.PHONY: test-kubernetes
test-kubernetes: ## Run the operator against a real API server, which is built first (once, ten minutes or more); not a part of make test
	@scripts/kubernetes.sh build >/dev/null
	@exec scripts/kubernetes-test.sh

.PHONY: soak
soak: ## Repeat rare cases for hours: races, killed leaders, attacks, liveness under load; the log is in target/soak
	@exec scripts/soak.sh

##@ Measuring

.PHONY: bench
bench: build ## Measure supervision beside s6, runit, supervisord and plain fork+exec; writes docs/design/benchmarks.md
	@scripts/setup.sh bench
	@bench/supervision.py --write

.PHONY: bench-logs
bench-logs: build ## Measure logging beside s6-log, svlogd, multilog and cat
	@scripts/setup.sh bench
	@bench/logs.py

.PHONY: bench-floods
bench-floods: build ## Measure how long a command takes while another user floods the supervisor, beside s6
	@scripts/setup.sh bench
	@bench/floods.py

.PHONY: bench-liveness
bench-liveness: build ## Measure how soon a frozen gateway works again, and what following 100 gateways costs; writes docs/reference/live.md
	@bench/liveness.py --write

.PHONY: bench-page
bench-page: build ## Measure the page: its first paint in headless Chromium, and a server with 200 clients and 500 services
	@bench/page.py

.PHONY: bench-publish
bench-publish: ## Measure how long publishing a status takes, on a disk and in memory
	@bench/publish.py

.PHONY: bench-instructions
bench-instructions: build ## Count the instructions of the supervisor for a start; fails if they are more than recorded
	@scripts/setup.sh payload
	@bench/instructions.py

.PHONY: bench-container
bench-container: image ## Measure how a container starts and ends beside one without our init
	@bench/container.py

##@ The demo

.PHONY: hermes
hermes: ## Make the Python environment with the real Hermes, and print its path
	@scripts/setup.sh demo
	@exec scripts/hermes-venv.sh

.PHONY: demo-home
demo-home: build ## Make the demo home without starting anything, and print its path
	@scripts/setup.sh demo
	@exec scripts/demo-home.sh

.PHONY: demo-clean
demo-clean: ## Remove the demo home, with its keys and logs
	@exec scripts/demo-clean.sh
