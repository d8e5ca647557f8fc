# Everything a newcomer or CI runs. `make` alone lists the targets.

PYTHON ?= python3
VENV ?= .venv
PORT ?= 8000
MINUTES ?= 10
DEMO ?= .demo
ARGS ?=

BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help demo photos test fuzz lint format bench lock digests sbom licences

help: ## List the targets
	@sed -n 's/^\([a-z]*\): .*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 18
	@echo 'Variables: PHOTOS=~/Pictures, STARTER=starter-open, PORT=8000 (demo), MINUTES=10 (fuzz), ARGS="-k search" (test), PYTHON=python3.12, VENV=.venv, DEMO=.demo'

demo: $(INSTALLED) $(if $(PHOTOS),photos,$(DEMO)/gallery/CURRENT) ## Adapt the starter to line drawings, build a gallery, serve it at http://127.0.0.1:$PORT
	@exec $(BIN)/svdraw serve --gallery $(DEMO)/$(if $(PHOTOS),photos,gallery) --port $(PORT)

# With PHOTOS=FOLDER the demo searches that folder with the model that ships, and trains nothing.
photos: | $(INSTALLED)
	$(BIN)/svdraw index build --photos "$(patsubst ~/%,$(HOME)/%,$(PHOTOS))" $(if $(STARTER),--model $(STARTER)) --out $(DEMO)/photos

# Files of tests run side by side, in the order of tests/conftest.py, with one thread each for their arithmetic.
test: $(INSTALLED) ## Run the tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder $(ARGS)

fuzz: $(INSTALLED) ## Attack a service with made-up requests for MINUTES, and kill services and jobs
	SVDRAW_FUZZ_MINUTES=$(MINUTES) $(BIN)/python -m pytest -s tests/hostile $(ARGS)

lint: $(INSTALLED) ## Check style, types, the direction of imports, Dockerfile and compose files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml docker-compose.gpu.yml

bench: $(INSTALLED) ## Measure search over every kind of index against FAISS, usearch and hnswlib
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[bench]"
	$(BIN)/python bench/index_kinds.py $(ARGS)

# What the image installs, with the hashes of every file for both of its machines. With PIP_EXTRA_INDEX_URL, packages
# may come from that index too, such as PyTorch without CUDA.
# The package for JPEG XL is left out: it is under the GPL-3.0, and so would be every image that contains it.
IMAGE_EXTRAS := service training formats demo otel
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --only-binary :all: \
    --no-annotate --custom-compile-command "make lock" --constraint constraints.txt \
    $(if $(PIP_EXTRA_INDEX_URL),--extra-index-url $(PIP_EXTRA_INDEX_URL) --index-strategy unsafe-best-match \
    --upgrade-package torch --upgrade-package torchvision)

lock: $(INSTALLED) ## Lock what the image installs to its hashes, in deploy/image.lock and deploy/build.lock
	$(LOCK) pyproject.toml $(IMAGE_EXTRAS:%=--extra %) --no-emit-package pillow-jxl-plugin --output-file deploy/image.lock
	$(BIN)/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb'))['build-system']['requires'], sep='\n')" \
	    | $(LOCK) - --output-file deploy/build.lock

licences: $(INSTALLED) ## List the licence of everything that the image installs
	$(BIN)/python -m deploy.licences

sbom: $(INSTALLED) ## Write what the image contains to sbom.json, as CycloneDX does
	$(BIN)/python -m deploy.sbom sbom.json

digests: ## Find the digests of the images that Docker pulls, and write them to .env
	deploy/pin_images.sh

format: $(INSTALLED) ## Rewrite the sources in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The demo, step by step. Each command writes the file named here last, so that what is finished is not
# done again and what was interrupted goes on.
.PRECIOUS: $(DEMO)/data/split.json $(DEMO)/model/model.json $(DEMO)/evaluation.json $(DEMO)/gallery/CURRENT

$(DEMO)/data/split.json: | $(INSTALLED)
	$(BIN)/svdraw demo-data --out $(DEMO)/data

$(DEMO)/model/model.json: | $(DEMO)/data/split.json
	$(BIN)/svdraw fit --data $(DEMO)/data --split $(DEMO)/data/split.json --out $(DEMO)/model \
	    --cache $(DEMO)/cache --recipe training/fit/recipes/demo.json

$(DEMO)/evaluation.json: | $(DEMO)/model/model.json
	$(BIN)/svdraw evaluate --model $(DEMO)/model --data $(DEMO)/data \
	    --cache $(DEMO)/cache --gallery all --json $@ --plot $(DEMO)/evaluation.png

$(DEMO)/gallery/CURRENT: | $(DEMO)/evaluation.json
	$(BIN)/svdraw index build --model $(DEMO)/model --photos $(DEMO)/data/gallery.csv --out $(DEMO)/gallery

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	    echo 'error: $(PYTHON) is missing or older than Python 3.11; name another: make PYTHON=python3.12' >&2; \
	    exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e ".[dev]"
	@touch $@
