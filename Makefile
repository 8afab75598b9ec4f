# The book in two commands: `make book` reads it, `make test` checks it. `make` alone lists all targets.
# Paths are relative throughout: the clone's own path may contain spaces.
PYTHON ?= python3
BOOK := .venv-book/bin/python
FULL := .venv/bin/python
BENCH := .venv-bench/bin/python
NOTEBOOK ?=

.DEFAULT_GOAL := help
.PHONY: help book lab test execute save record bench bench-cluster lock clean .venv .venv-book .venv-bench data

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

book: .venv-book ## build the HTML from the stored outputs (no torch, no data): under 2 minutes the first time
	@$(BOOK) tools/build.py

lab: .venv data ## open the notebooks in JupyterLab
	@cd notebooks && ../$(FULL) -m jupyterlab $(if $(filter 0,$(shell id -u)),--allow-root)

test: .venv data ## ruff, unit tests, and every notebook with a shortened budget
	@$(FULL) -m ruff check .
	@$(FULL) -m ruff format --check .
	@$(FULL) -m pytest

execute: .venv data ## run the notebooks at full budget and store their outputs (NOTEBOOK=scheduler: only that one)
	@$(FULL) tools/nbtools.py execute $(NOTEBOOK)

save: .venv ## write async_hpo/chapter.py and solutions.py from the cells marked #@save
	@$(FULL) tools/nbtools.py save

record: .venv data ## train the recorded tables' missing trials (50 minutes from nothing; interrupt it as you like, it goes on)
	@$(FULL) tools/record.py

bench: .venv data .venv-bench ## compare with other systems (within 60 minutes; interrupt it as you like, it goes on)
	@$(BENCH) -m benchmarks.bench

bench-cluster: .venv data .venv-bench ## compare RayBackend with ForkserverBackend (20 minutes; likewise)
	@$(BENCH) -m benchmarks.bench cluster

lock: .venv ## compile requirements*.txt anew from requirements*.in (see CONTRIBUTING.md)
	@$(FULL) tools/lock.py

clean: ## remove what make made, except environments and data
	rm -rf _build experiments

# The script compares contents, not dates, and repairs what an interrupt left: it is called every time, and quick.
.venv-book:
	@$(PYTHON) tools/environment.py .venv-book requirements-book.txt

.venv:
	@$(PYTHON) tools/environment.py .venv requirements.txt --editable

.venv-bench: .venv
	@$(PYTHON) tools/environment.py .venv-bench benchmarks/requirements.txt --over .venv

data: .venv
	@$(FULL) -m async_hpo.data
