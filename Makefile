# `make demo` and `make test` are all that a fresh clone needs: they set up what they use.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup demo test test-faults lint type bench clean

setup: .venv/.test-ready

.venv/.ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "charrnn needs Python 3.11 or newer; try: make PYTHON=python3.12")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

.venv/.test-ready: .venv/.ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@

demo: .venv/.ready
	$(BIN)/charrnn train fables --minutes 1
	@for n in 1 2 3; do printf '\n----- sample %s\n' $$n; $(BIN)/charrnn sample --seed $$n --length 500 || exit 1; done
	@printf '\nWhat next:\n'
	@printf '  %s\n' \
	  '$(BIN)/charrnn sample --temp 0.5        calmer text' \
	  '$(BIN)/charrnn complete                 type, and the model goes on' \
	  '$(BIN)/charrnn train your-text.txt      learn a text of yours'

# Most tests are about formulas, and most of their time is compiling: those go without the compiler's optimisations and
# with its quicker emitters, where it still has them. What must agree to the bit when it is drawn one way and another
# goes with what everybody has.
PLAIN := --xla_backend_optimization_level=0
QUICK := $(PLAIN) --xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1
PYTEST := $(BIN)/python -m pytest -n 2 --dist worksteal -q

test: .venv/.test-ready
	@flags="$(XLA_FLAGS) $(QUICK)"; \
	XLA_FLAGS="$$flags" $(BIN)/python -c 'import jax; jax.devices("cpu")' 2>/dev/null || flags="$(XLA_FLAGS) $(PLAIN)"; \
	echo "XLA_FLAGS=$$flags"; XLA_FLAGS="$$flags" $(PYTEST) -m 'not faults and not as_drawn'
	$(PYTEST) -m as_drawn

test-faults: .venv/.test-ready
	CHARRNN_FAULTS=full $(BIN)/python -m pytest -q -s -m '' --timeout 900 tests/faults

lint: .venv/.test-ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: .venv/.test-ready
	$(BIN)/mypy

.venv/.bench-ready: .venv/.test-ready
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	@touch $@

bench: .venv/.bench-ready
	$(BIN)/python -m benchmarks.train_speed
	$(BIN)/python -m benchmarks.sample_speed
	$(BIN)/python -m benchmarks.score_speed corpora/fables.txt
	$(BIN)/python -m benchmarks.startup
	$(BIN)/python -m benchmarks.prepare_corpus corpora/fables.txt
	$(BIN)/python -m benchmarks.quality fables --minutes 1 --seeds 1

clean:
	rm -rf .venv build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
