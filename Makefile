# make demo   train on GeoMNIST with the callback attached and print the summary
# make test   run the tests with two workers
# make check  lint, spelling, types and which rooms may import which
# make docs   the documentation as a site, site/index.html; a warning is an error
# make tables   write the tables in docs/tags.md and docs/kinds.md
# make screenshots   pictures of the tab in README and docs, from the demo's run and five others; needs chromium
# make package   build the package, check it, and fit in an environment that has nothing else
# make mutants   change lines and see whether the tests notice (an hour); MUTANTS='le_callback.verdict.*' for one file
# make overhead   own cost beside bare kernels
# make gpu   own cost on a GPU, which it needs
# make log-step REVISION=…   a log step beside that of another revision
# make collapse   neural collapse at any number of classes, beside a dense implementation
# make collapse-figure   docs/collapse.png: two trainings in which neural collapse happens
# make memory   memory, time and checkpoints with very many classes, and what is held by their number
# make paper   the source paper's experiments: figures 1 to 5 and tables; interrupted, it goes on where it was
#              make paper RUNS=10 CIFAR=cifar-10-python.tar.gz   averages of ten trainings, with CIFAR-10
# make accuracy, make tail-index, make phase-transition, make forecast, make imitation
#              long reproductions with progress bars; make imitation CIFAR=cifar-10-python.tar.gz   with CIFAR-10
PYTHON ?= python3
BIN := .venv/bin
export OMP_NUM_THREADS ?= 2
export MPLBACKEND ?= Agg

.PHONY: demo test check docs tables screenshots package mutants format clean

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,docs,loggers]'
	touch $@

demo: .venv/ready
	$(BIN)/python examples/demo.py

test: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

check: .venv/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

docs: .venv/ready
	$(BIN)/sphinx-build -q -W --keep-going -b html docs site

tables: .venv/ready
	$(BIN)/python -m le_callback.report.reference docs/tags.md
	$(BIN)/python tests/kinds/page.py docs/kinds.md

RUN ?= runs
screenshots: .venv/ready
	test -d $(RUN) || $(BIN)/python examples/demo.py --logdir $(RUN)
	$(BIN)/python tests/page/screenshots.py $(RUN) docs
	$(BIN)/python tests/page/screenshots.py five docs

# With what the package requires and no more: neither the extras nor the checkout can be imported there.
package: .venv/ready
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*
	$(PYTHON) -m venv --clear dist/environment
	dist/environment/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt dist/*.whl
	dist/environment/bin/python -I .ci/small_fit.py
	rm -rf dist/environment

MUTANTS ?=
mutants: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/mutmut run --max-children 2 $(if $(MUTANTS),'$(MUTANTS)')
	$(BIN)/python .ci/mutants.py

format: .venv/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf .venv dist site mutants runs .pytest_cache .mypy_cache .ruff_cache .hypothesis

# Long reproductions; their results are committed.
.PHONY: accuracy live recorded tail-index overhead gpu memory collapse collapse-figure log-step phase-transition forecast imitation paper
overhead: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/overhead.py

gpu: .venv/ready
	$(BIN)/python benchmarks/gpu.py

memory: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/memory.py
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/held.py

log-step: .venv/ready
	$(BIN)/python benchmarks/log_step.py $(REVISION)

collapse-figure: .venv/ready
	$(BIN)/python examples/collapse.py

collapse: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/collapse.py

accuracy: .venv/ready
	$(BIN)/python benchmarks/accuracy.py --runs 200

live: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/live.py

recorded: .venv/ready  # live coefficients of real trainings, beside those of a revision
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/recorded.py $(or $(REVISION),e25a54d)

tail-index: .venv/ready
	$(BIN)/python benchmarks/tail_index.py

phase-transition: .venv/ready
	$(BIN)/python examples/paper/phase_transition.py

forecast: .venv/ready
	$(BIN)/python benchmarks/forecast.py

imitation: .venv/ready
	$(BIN)/python benchmarks/imitation.py $(if $(CIFAR),--cifar $(CIFAR))

RUNS ?= 1
CIFAR ?=
paper: .venv/ready
	OMP_NUM_THREADS=1 $(BIN)/python examples/paper/reproduce.py --processes 2 --runs $(RUNS) $(if $(CIFAR),--cifar $(CIFAR))
