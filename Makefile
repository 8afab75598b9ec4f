# The book in two commands: `make book` reads it, `make test` checks it. `make` alone lists all targets.
# Paths are relative throughout: the clone's own path may contain spaces.
PYTHON ?= python3
BOOK := .venv-book/bin/python
FULL := .venv/bin/python
# What tests and checks the book, on top of what runs it. `make lab` does without.
DEV := requirements-book.txt requirements-dev.txt
# An environment is complete: what these add (modules, options, or a kernel of the same name) is another one's.
unexport PYTHONHOME PYTHONPATH PYTHONSAFEPATH PYTHONWARNINGS PYTHONOPTIMIZE PYTHONINSPECT PYTHONIOENCODING PYTHONSTARTUP
unexport PYTEST_ADDOPTS PYTEST_PLUGINS PYTEST_DISABLE_PLUGIN_AUTOLOAD MPLBACKEND
unexport JUPYTER_PATH JUPYTER_CONFIG_PATH JUPYTERLAB_DIR
export JUPYTER_PREFER_ENV_PATH := 1
# All files are UTF-8, and others' modules open some in the encoding of the reader's locale.
export PYTHONUTF8 := 1
# Not what the reader's shell has under this name.
LANGUAGE :=
NOTEBOOK ?=
PAGE ?=
ONLY ?=
# Two files at a time; what belongs together stays together, in its order (see conftest.py).
# The tests in workers/ have settings of their own, for running them without the book: here the book's hold.
SIDE_BY_SIDE := -c pyproject.toml -n 2 --dist loadscope --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help book pdf translate lab check test long kills execute draw measure save record claims bench bench-cluster lock clean
.PHONY: static .venv .venv-book data

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

book: .venv-book ## build the HTML from the stored outputs (no torch, no data): under 2 minutes the first time
	@$(BOOK) -m tools.build

pdf: .venv-book ## print the book: one PDF a language, with figures, links and formulas (needs Chromium)
	@$(BOOK) -m tools.pdf

translate: .venv-book ## bring the translations up to date with the pages, and list what is to be translated
	@$(BOOK) -m tools.translate

lab: DEV :=
lab: NOTEBOOKS := $(if $(LANGUAGE),$(LANGUAGE)/)notebooks
lab: .venv data ## open the notebooks in JupyterLab (TORCH=cpu: without NVIDIA's libraries, 2 GB in place of 6; LANGUAGE=ko)
	@$(if $(LANGUAGE),$(FULL) -m tools.translated $(LANGUAGE))
	@$(FULL) -m nbformat.sign $(NOTEBOOKS)/*.ipynb $(NOTEBOOKS)/solutions/*.ipynb > /dev/null
	@$(FULL) -m jupyterlab --allow-root --LabApp.default_url=/lab/tree/$(NOTEBOOKS)

check: static data ## style, types, and the quick tests: 1 minute
	@$(FULL) -m pytest tests workers/tests $(SIDE_BY_SIDE) -q -m "not cluster and not slow and not idle and not long"

test: $(if $(ONLY),,static) .venv data ## everything, notebooks with a short budget: 30 minutes (ONLY=notebooks/speedup.ipynb: that one)
	@$(FULL) -m pytest $(SIDE_BY_SIDE) -m "not long" $(ONLY)

long: .venv data ## what `make test` leaves out: environments from nothing, and the longest recipes and pages (25 minutes, 1 GB)
	@$(FULL) -m pytest -m long tests

kills: .venv ## kill, stop or fill up a process of 400 searches at random moments (90 minutes)
	@SEEDS="0 200" $(FULL) -m pytest -s tests/test_random_kills.py

static: .venv
	@$(FULL) -m ruff check .
	@$(FULL) -m ruff format --check .
	@$(FULL) -m mypy async_hpo workers/syne_tune_workers tools benchmarks
	@said=$$($(FULL) -c 'from importlinter.cli import lint_imports_command as lint; lint()' --no-logo) || { echo "$$said"; false; }
	@$(FULL) -m check_jsonschema --builtin-schema vendor.github-workflows .github/workflows/*.yml
	@$(FULL) -m check_jsonschema --builtin-schema vendor.citation-file-format CITATION.cff

execute: .venv data ## run a page that trains at full budget and store its outputs (NOTEBOOK=scheduler)
	@$(FULL) -m tools.execute $(NOTEBOOK)

draw: .venv data ## draw all figures again, from what is recorded: some minutes (PAGE=speedup: that page's)
	@$(FULL) -m tools.execute --draw $(PAGE)

measure: .venv data ## run what a page shows recordings of, on a machine with nothing else to do, and keep it (PAGE=speedup)
	@$(FULL) -m tools.execute --measure $(PAGE)

save: .venv ## write async_hpo/chapter.py and solutions.py from the cells marked #@save
	@$(FULL) -m tools.save

record: .venv data ## train the recorded tables' missing trials, then replay (50 + 130 minutes from nothing; interrupted, it goes on)
	@$(FULL) -m tools.record
	@$(FULL) -m tools.real_time

claims: .venv data ## check what the tests leave out: claims about speed, on a machine with nothing else to do
	@IDLE_MACHINE=1 $(FULL) -m pytest -m idle

bench: claims ## the claims, then the comparison with other systems (60 minutes; interrupted, it goes on)
	@$(FULL) -m benchmarks.bench

bench-cluster: .venv data ## compare RayBackend with ForkserverBackend (15 minutes; likewise)
	@$(FULL) -m benchmarks.bench cluster

lock: .venv ## compile requirements*.txt anew from requirements*.in (see CONTRIBUTING.md)
	@$(FULL) -m tools.lock

clean: ## remove what make made, except environments and data
	rm -rf _build experiments
	find locale -name '*.mo' -delete

# The script compares contents, not dates, and repairs what an interrupt left: it is called every time, and quick.
.venv-book:
	@$(PYTHON) tools/environment.py .venv-book requirements-book.txt

.venv:
	@$(PYTHON) tools/environment.py .venv requirements.txt . $(wildcard workers) $(DEV)

data: .venv
	@$(FULL) -m async_hpo.data
