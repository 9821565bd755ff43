# `make` alone prints what there is. Every target is one command that a person can also type.
.DEFAULT_GOAL := help
.PHONY: help setup demo demo-stop check test lock bench

PYTHON := .venv/bin/python
# A release is a week old before we take it: most bad ones are withdrawn by then.
LOCK := .venv/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-header --no-annotate --exclude-newer "$$(date -u -d '7 days ago' +%Y-%m-%dT%H:%M:%SZ)"

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /  make \1@/p' Makefile | column -t -s @ 2>/dev/null || sed -n 's/^\([a-z-]*\):.*## /  make \1   /p' Makefile

setup: ## Python environment, Redis, Docker Engine with buildx, registry: whatever is missing here
	scripts/setup

demo: ## from a pull request to an image in a registry, for real, on this machine
	scripts/setup
	$(PYTHON) -m scripts.demo start

demo-stop: ## end the demo and leave nothing behind
	@if [ -x $(PYTHON) ]; then $(PYTHON) -m scripts.demo stop; fi

check: ## ruff, mypy --strict, import contracts
	scripts/setup --python --test
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/lint-imports
	$(PYTHON) scripts/reference.py --check

test: ## every test, against the real engine, registry, Redis, SQLite and Postgres
	scripts/setup --test
	.venv/bin/pytest $(TESTS)

lock: ## write requirements/*.txt anew from pyproject.toml, with hashes
	scripts/setup --python --test
	$(LOCK) --upgrade pyproject.toml requirements/build.in -o requirements/runtime.txt
	$(LOCK) --upgrade -c requirements/runtime.txt pyproject.toml --group dev requirements/build.in requirements/tools.in -o requirements/dev.txt

bench: ## the farm against the same builds by hand, as ratios of one run
	scripts/setup --test
	$(PYTHON) -m bench
