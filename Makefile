# `make serve` and `make test` set everything up by themselves; CUDA=1 takes torch with CUDA. See deploy/set_up.py.
PYTHON ?= python3
BIN := .venv/bin
HOST ?= 127.0.0.1
PORT ?= 8080

.PHONY: serve test mutants lint train evaluate bench screenshots set-up clean

serve: set-up
	@$(BIN)/sceneshift serve --host $(HOST) --port $(PORT)

test: set-up lint tests/browser/node_modules
	@$(BIN)/python -m pytest

# axe-core, which reads the pages for faults that keep people out. Used by tests only, so it is not in the repository.
tests/browser/node_modules: tests/browser/package.json
	@if command -v npm >/dev/null; then npm install --silent --no-audit --no-fund --no-package-lock --prefix tests/browser; \
	else echo "npm is not installed: the tests with axe-core are left out"; fi

# Whether the tests notice a change of the code: minutes. SEED draws another sample. See tests/mutants/run.py.
SEED ?= 1
mutants: set-up
	@$(BIN)/python tests/mutants/run.py --seed $(SEED)

lint: set-up
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy

# Hours on two cores; resumable. Writes engine/embedded/weights.
train: set-up
	@OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m engine.embedded.train all --recipe small --resume

evaluate: set-up
	@OMP_WAIT_POLICY=PASSIVE $(BIN)/python -m engine.embedded.evaluate --json

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
