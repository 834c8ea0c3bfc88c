# Everything that people and CI do here. `make` alone lists it.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PY ?= python3
VENV := .venv
BIN := $(VENV)/bin
CODEGEN := .venv-codegen
STUBS := clients/python
COMPOSE ?= $(shell docker compose version >/dev/null 2>&1 && echo docker compose || echo docker-compose)
PIP = -m pip --disable-pip-version-check install --quiet
# Pins for the build backend too, which pip installs apart (older releases of pip read the first, newer ones the second).
PINNED = PIP_CONSTRAINT="$(CURDIR)/constraints.txt" PIP_BUILD_CONSTRAINT="$(CURDIR)/constraints.txt"

.PHONY: help setup demo test test-slow test-compose chaos soak rolling mutants bench loss calm check fmt lint proto proto-check up down constraints

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.stamp ## make .venv with headrace and all tools (needs Python >= 3.11)

$(VENV)/.stamp: pyproject.toml constraints.txt
	@$(PY) -c 'import sys; sys.exit("headrace needs Python 3.11 or newer; this is %s. Try: make setup PY=python3.12" % sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	@test -x $(BIN)/python || $(PY) -m venv $(VENV)
	@echo "installing headrace and its tools into $(VENV)"
	@$(PINNED) $(BIN)/python $(PIP) -e '.[dev]'
	@touch $@

demo: setup ## see it work: one job for every module of the standard library (KEEP=1 leaves it up)
	@$(BIN)/python -m examples.measure $(if $(KEEP),--keep) $(ARGS)

test: setup ## run the tests, on real Valkey and (where redis-server is installed) real Redis
	@$(BIN)/python -m pytest -m "not compose and not slow" -n 2 --dist worksteal $(ARGS)

test-slow: setup ## the tests that take too long for every run: leases of 30 s
	@$(BIN)/python -m pytest -m slow $(ARGS)

test-compose: setup ## test the Compose files with a real container engine
	@docker info >/dev/null 2>&1 || { echo "test-compose needs a running container engine (docker info fails). Where no registry is in reach, deploy/docker-standins makes one."; exit 1; }
	@deploy/docker-standins
	@$(BIN)/python -m pytest -m compose tests/system $(ARGS)

CHAOS = PYTHONPATH="$(CURDIR)/tests" $(BIN)/python -m chaos $(if $(SEED),--seed $(SEED))

chaos: setup ## hurt a whole headrace for a minute, and check that it kept its promises (SEED=1 for that plan again)
	@$(CHAOS) --seconds 60 $(ARGS)

soak: setup ## the same for longer (MINUTES=20)
	@$(CHAOS) --seconds $$(( $(or $(MINUTES),20) * 60 )) $(ARGS)

rolling: setup ## restart every process in its turn, under load (TIMES=20): no caller may notice
	@$(CHAOS) --rolling $(or $(TIMES),20) $(ARGS)

bench: setup ## measure headrace and its peers side by side; takes ten minutes of a quiet machine (ARGS="--only NAME")
	@$(BIN)/python -m bench $(ARGS)

mutants: setup ## break headrace on purpose, one fault at a time, and see that each is caught
	@PYTHONPATH="$(CURDIR)/tests" $(BIN)/python -m chaos.mutants $(ARGS)

loss: setup ## kill stores under load, setting by setting, and count the acknowledged jobs that are gone (Linux, cc)
	@$(BIN)/python -m bench.loss $(ARGS)

calm: setup ## see that without faults no job runs twice (JOBS=100000)
	@$(BIN)/python -m bench.calm --jobs $(or $(JOBS),100000) $(ARGS)

check: proto-check lint ## everything that must hold before a change is merged, but for the tests

lint: setup ## format, lint, types, and the arrows between the rooms
	@$(BIN)/ruff format --check --quiet . || { echo "Some files are not formatted: run make fmt."; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

fmt: setup ## format the code and fix what can be fixed safely
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix --quiet .
	@$(BIN)/buf format -w proto

$(CODEGEN)/.stamp: requirements-codegen.txt
	@test -x $(CODEGEN)/bin/python || $(PY) -m venv $(CODEGEN)
	@$(CODEGEN)/bin/python $(PIP) -r requirements-codegen.txt
	@touch $@

PROTOC = PATH="$(CURDIR)/$(CODEGEN)/bin:$$PATH" $(CODEGEN)/bin/python -m grpc_tools.protoc -Iproto -Ithird_party

proto: $(CODEGEN)/.stamp ## write the stubs in clients/python/headrace/v1 from proto/
	@$(PROTOC) --python_out=$(STUBS) --pyi_out=$(STUBS) --grpc_python_out=$(STUBS) --mypy_grpc_out=$(STUBS) \
	  --include_source_info --descriptor_set_out=$(STUBS)/headrace/v1/descriptors.binpb proto/headrace/v1/*.proto
	@rm -f $(STUBS)/headrace/v1/job_pb2_grpc.py* $(STUBS)/headrace/v1/queue_pb2_grpc.py*

proto-check: $(CODEGEN)/.stamp setup ## fail if the contract is unclean, or the stubs differ from it
	@$(BIN)/buf lint
	@$(BIN)/buf format --diff --exit-code proto
	@out=$$(mktemp -d); trap 'rm -rf "$$out"' EXIT; $(MAKE) proto STUBS="$$out"; cp $(STUBS)/headrace/v1/__init__.py "$$out/headrace/v1/"; \
	  diff -r -x __pycache__ "$$out/headrace/v1" $(STUBS)/headrace/v1 || { echo "The stubs differ from proto/: run make proto."; exit 1; }

up: ## start Valkey, the server and two workers in containers
	@$(COMPOSE) up --build --detach
	@for try in $$(seq 60); do $(COMPOSE) exec -T server python -m headrace_server.healthcheck >/dev/null 2>&1 && \
	  { echo "The server is ready at 127.0.0.1:$${HEADRACE_PORT:-50051}."; exit 0; }; sleep 0.5; done; \
	  $(COMPOSE) ps; echo "The server is not ready; see: $(COMPOSE) logs"; exit 1

down: ## let them finish what they run, and stop them; the data stays
	@$(COMPOSE) down

constraints: ## renew constraints.txt with the newest releases that pyproject.toml allows
	@dir=$$(mktemp -d); trap 'rm -rf "$$dir"' EXIT; $(PY) -m venv "$$dir"; \
	  "$$dir/bin/python" $(PIP) '.[dev]' hatchling editables async-timeout; \
	  { sed -n 1p constraints.txt; "$$dir/bin/python" -m pip freeze | grep -v '^headrace ' | LC_ALL=C sort -f; } > "$$dir/new"; \
	  cp "$$dir/new" constraints.txt
