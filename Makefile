# `make demo`, `make test` and `make test-eval`. Each makes its own environment on first use.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
OUT    ?= runs/demo

CHECK_PYTHON = $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "eegprompt needs Python 3.11 or newer; name one with: make PYTHON=python3.12 ...")'

.PHONY: demo test test-eval lint env clean

demo: env
	$(BIN)/eegprompt demo --out $(OUT)

test: env $(VENV)/.dev-installed lint
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal

# The field's feature networks and baselines, in an environment of their own: packages there may not
# import beside every build of torch, and would then break transformers and diffusers as well.
test-eval: $(VENV)-eval/.installed
	$(VENV)-eval/bin/python -m pytest -n 2 tests/test_pretrained_features.py tests/test_baselines.py

$(VENV)-eval/.installed: pyproject.toml constraints.txt constraints-eval.txt
	@$(CHECK_PYTHON)
	$(PYTHON) -m venv $(VENV)-eval
	$(VENV)-eval/bin/python -m pip install --upgrade pip
	$(VENV)-eval/bin/python -m pip install "$$(grep '^torch==' constraints.txt)"
	$(VENV)-eval/bin/python -m pip install -c constraints.txt -e '.[test]'
	$(VENV)-eval/bin/python -m pip install --no-deps -r constraints-eval.txt
	touch $@

lint: $(VENV)/.dev-installed
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/mypy

env: $(VENV)/.installed

# torch is asked for first and by its exact version, so that nothing else decides which build comes.
$(VENV)/.installed: pyproject.toml constraints.txt
	@$(CHECK_PYTHON)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --upgrade pip
	$(BIN)/python -m pip install "$$(grep '^torch==' constraints.txt)"
	$(BIN)/python -m pip install -c constraints.txt -e .
	touch $@

$(VENV)/.dev-installed: $(VENV)/.installed
	$(BIN)/python -m pip install -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-eval build dist src/*.egg-info
