# Every target does its own set-up: a virtual environment in .venv with the exact versions of constraints.txt.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
export HF_HUB_OFFLINE ?= 1

.PHONY: help demo test android ios lint format venv web wheel clean
help:  ## what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/'

demo: .venv/base  ## learn a bundled subject on the embedded model, pictures in demo_out/
	@rm -rf demo_out
	@$(BIN)/edge-sdk demo

test: .venv/ready web  ## the whole test suite, in two processes
	@$(BIN)/python -m pytest -n 2 --dist loadfile --ignore tests/phones

android: .venv/ready  ## the Kotlin library, its command line and the app: tools, tests, an APK
	@$(BIN)/python android_demo/tools/build.py test
	@$(BIN)/python android_demo/tools/apk.py
	@$(BIN)/python -m pytest tests/phones -k 'kotlin or android'

ios: .venv/ready  ## the Swift package, its command line and the app: tools, tests, a type check of what only Apple runs
	@ios_demo/tools/test.sh; status=$$?; [ $$status = 3 ] || exit $$status
	@$(BIN)/python -m pytest tests/phones -k 'swift or ios'

lint: .venv/ready  ## ruff and mypy
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: .venv/ready  ## let ruff format the code
	@$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

venv: .venv/ready  ## only the set-up

# What a demo needs: numpy, ONNX Runtime, Pillow and tokenizers.
.venv/base: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed"; exit 2; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo "Python's venv module is needed: apt-get install python3-venv"; exit 2; }
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	@touch $@

# torch comes first and by its exact version: then nothing later pulls another build of it. Triton, whose interpreter runs
# a GPU's kernels in a test, lies apart: PyTorch would import it too, which takes memory.
.venv/ready: .venv/base
	@echo "setting up .venv (a few minutes, once)"
	@$(BIN)/pip install --quiet --disable-pip-version-check $$(grep '^torch==' constraints.txt) -c constraints.txt
	@$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[torch,coreml,dev]'
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --target .venv/triton triton==3.9.0 || \
	    echo "there is no Triton for this machine: the test of a GPU's kernels is left out"
	@touch $@

web: .venv/ready  ## what the web page and its tests need, where there is npm; without it they are skipped
	@cmp -s export/web/package-lock.json export/web/node_modules/.installed || { npm ci --silent --prefix export/web && \
	    cp export/web/package-lock.json export/web/node_modules/.installed; } || \
	    echo "npm has not set up export/web: the page and its tests are left out"

wheel: web  ## a wheel in dist/, with onnxruntime-web for the page
	@test -f export/web/node_modules/onnxruntime-web/dist/ort.wasm.min.mjs || \
	    { echo "a wheel needs onnxruntime-web for the page, and npm to fetch it: apt-get install npm"; exit 2; }
	@rm -rf build  # or what an earlier wheel had would be in this one
	@$(BIN)/pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir dist .

clean:  ## remove what the targets made
	@rm -rf .venv export/web/node_modules demo_out build *.egg-info .pytest_cache .mypy_cache .ruff_cache
