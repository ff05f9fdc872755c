# `make serve` and `make test` set everything up by themselves; CUDA=1 takes torch with CUDA. See deploy/set_up.py.
PYTHON ?= python3
BIN := .venv/bin
HOST ?= 127.0.0.1
PORT ?= 8080
# A worker a core; long files of tests first, each file in one worker.
PYTEST = $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder

.PHONY: serve check test lint lock audit clients mutants train evaluate bench screenshots set-up clean

serve: set-up
	@$(BIN)/sceneshift serve --host $(HOST) --port $(PORT)

# For daily work: what needs neither a browser nor a model. These tests wait more than they compute: two workers a core.
check: set-up lint
	@$(PYTEST) --check -n $$($(PYTHON) -c "import os; print(min(8, 2 * os.cpu_count()))")

# All that a user would miss. SEED=n draws other random cases (`make test SEED=$$RANDOM`).
test: set-up lint tests/browser/node_modules
	@$(PYTEST)

# axe-core, which reads the pages for faults that keep people out; tsc and Biome, which check their scripts. None of it is
# in the repository or in the package.
%/node_modules: %/package.json
	@if command -v npm >/dev/null; then npm install --silent --no-audit --no-fund --no-package-lock --prefix $* && touch $@; \
	else echo "npm is not installed: the checks of $* are left out"; fi

# Whether the tests notice a change of the code: minutes. SEED draws another sample. See tests/mutants/run.py.
mutants: set-up
	@$(BIN)/python tests/mutants/run.py --seed $(or $(SEED),1)

lint: set-up deploy/javascript/node_modules
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy
	@$(BIN)/bandit --quiet --configfile pyproject.toml --recursive server engine client_web/python
	@$(BIN)/python deploy/javascript/check.py
	@$(BIN)/python deploy/check_size.py
	@$(BIN)/python deploy/count_words.py --check --quiet

# Pins and hashes of all that we install, from pyproject.toml. UPGRADE=1 takes the newest that it allows.
lock:
	@$(PYTHON) deploy/audit.py lock $(if $(UPGRADE),--upgrade)

# A bill of materials, licences and known holes of what is installed: runs/audit. See deploy/audit.py.
audit: set-up
	@$(PYTHON) deploy/audit.py

# What both SDKs know of the protocol, from server/protocol, and the JavaScript SDK's declarations; formats the scripts.
clients: set-up deploy/javascript/node_modules
	@$(BIN)/python -m server.protocol.clients
	@$(BIN)/python deploy/javascript/check.py --write

# Hours on two cores; resumable. Writes engine/embedded/weights.
train: set-up
	@OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m training.train all --recipe small --resume

evaluate: set-up
	@OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m training.evaluation.evaluate --json

bench: set-up
	@$(BIN)/sceneshift bench glass --browser chromium --prompts 20 --json
	@$(BIN)/sceneshift bench faults --rounds 20 --json
	@$(BIN)/sceneshift bench burst --json
	@$(BIN)/sceneshift bench engine --json

# The page's pictures need a server: `make serve` in another terminal.
screenshots: set-up
	@$(BIN)/python docs/screenshots/contact_sheet.py
	@$(BIN)/python docs/screenshots/morph.py
	@$(BIN)/python docs/screenshots/make.py
	@$(BIN)/python docs/screenshots/studio.py

set-up:
	@$(PYTHON) deploy/set_up.py

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache
