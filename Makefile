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
CODE := clients/python broker server worker tests examples

.PHONY: help setup demo test test-quick test-compose check fmt lint proto proto-check up down clean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(VENV)/.stamp ## make .venv with headrace and all tools (needs Python >= 3.11)

$(VENV)/.stamp: pyproject.toml constraints.txt
	@$(PY) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "headrace needs Python 3.11 or newer; this is %s. Try: make setup PY=python3.12" % sys.version.split()[0])'
	@test -x $(BIN)/python || $(PY) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

$(CODEGEN)/.stamp: requirements-codegen.txt
	@test -x $(CODEGEN)/bin/python || $(PY) -m venv $(CODEGEN)
	@$(CODEGEN)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-codegen.txt
	@touch $@

PROTOC = PATH="$(CURDIR)/$(CODEGEN)/bin:$$PATH" $(CODEGEN)/bin/python -m grpc_tools.protoc -Iproto -Ithird_party

proto: $(CODEGEN)/.stamp ## write the stubs in clients/python/headrace/v1 from proto/
	@$(PROTOC) --python_out=$(STUBS) --pyi_out=$(STUBS) --grpc_python_out=$(STUBS) --mypy_grpc_out=$(STUBS) proto/headrace/v1/*.proto
	@rm -f $(STUBS)/headrace/v1/job_pb2_grpc.py*

proto-check: $(CODEGEN)/.stamp setup ## fail if the contract is unclean, or the stubs differ from it
	@$(BIN)/buf lint
	@$(BIN)/buf format --diff --exit-code proto
	@out=$$(mktemp -d); trap 'rm -rf "$$out"' EXIT; $(MAKE) proto STUBS="$$out"; touch "$$out/headrace/v1/__init__.py"; \
	  diff -r -x __pycache__ "$$out/headrace/v1" clients/python/headrace/v1 || { echo "The stubs differ from proto/: run make proto."; exit 1; }
