# make demo   sets up .venv and runs sweeps/quickstart.yaml on a local Ray
# make test   sets up .venv and passes the tests
# make gallery   runs the sweeps of docs/gallery.md and draws it anew: minutes
# make faults N=200   tells N stories of kills, outages and damage (docs/reliability.md): hours
# Exact versions come from constraints.txt; `make constraints` renews it.

PYTHON ?= python3
UV_VERSION := 0.13.8
BIN := .venv/bin
UV := $(shell command -v uv || echo $(BIN)/uv)
STORE ?= results
N ?= 12
SEED ?= 0

.PHONY: setup demo gallery test test-fast faults check format golden constraints clean

setup: .venv/.ready

.venv/.ready: pyproject.toml constraints.txt
	@test -x $(BIN)/python || if command -v uv >/dev/null; \
	  then uv venv --quiet --python '>=3.11,<3.14' .venv; else $(PYTHON) -m venv .venv; fi
	@command -v $(UV) >/dev/null || $(BIN)/python -m pip install --quiet uv==$(UV_VERSION)
	$(UV) pip install --quiet --compile-bytecode --python $(BIN)/python \
	  --constraint constraints.txt --editable . --group dev
	@touch $@

demo: setup
	$(BIN)/raylottery run sweeps/quickstart.yaml --store $(STORE)
	$(BIN)/raylottery compare quickstart --by prune.scope --store $(STORE)
	$(BIN)/raylottery compare quickstart --by rewind.weights --store $(STORE)
	$(BIN)/raylottery compare quickstart --by control --store $(STORE)

gallery: setup
	$(BIN)/python docs/gallery.py --store $(STORE)

test: test-fast
	$(BIN)/pytest -q -m ray

test-fast: setup
	$(BIN)/pytest -q -m "not ray" --numprocesses 2 --dist loadfile

faults: setup
	$(BIN)/python -m tests.faults $(N) --seed $(SEED) --out faults-$(SEED).jsonl $(FAULTS)

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/ty check
	$(BIN)/lint-imports

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

golden: setup
	REGOLD=1 $(BIN)/pytest -q tests/unit/spec tests/unit/cli

constraints: setup
	$(UV) pip compile --quiet --universal --python-version 3.11 --upgrade --no-annotate --no-header \
	  --no-emit-index-url --no-emit-find-links pyproject.toml --group dev -o constraints.txt

clean:
	rm -rf .venv
