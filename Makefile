STUDY ?= demo
DEVICE ?= cpu
ROOT ?=
PYTHON ?= python3.11 python3.12 python3.13 python3
FITS = import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))
CORES ?= $(shell nproc 2>/dev/null || sysctl -n hw.ncpu)
BIN ?= .venv/bin
READY = $(if $(filter .venv/bin,$(BIN)),.venv/ready)
DOCS_READY = $(if $(filter .venv/bin,$(BIN)),.venv/docs-ready)
RUN = $(if $(PRECISION),BRAINTUNING_PRECISION=$(PRECISION)) "$(BIN)"/python -m braintuning

.PHONY: figures check viewer publish data test docs bench lab strip clean

figures: $(READY)
	@$(RUN) figures --study "$(STUDY)" --device $(DEVICE) --cores $(CORES) $(if $(ROOT),--root "$(ROOT)") $(if $(MAX_MEMORY),--max-memory $(MAX_MEMORY)) $(if $(GPU_JOBS),--gpu-jobs $(GPU_JOBS)) $(if $(DRY_RUN),--dry-run)

check: $(READY)
	@$(RUN) check --study "$(STUDY)" $(if $(ROOT),--root "$(ROOT)")

viewer: $(READY)
	@$(RUN) viewer --study "$(STUDY)" $(if $(ROOT),--root "$(ROOT)")

publish: $(READY)
	@$(RUN) publish --study "$(STUDY)"

data: $(READY)
	@$(RUN) fetch --study "$(STUDY)" $(if $(PARTICIPANTS),--participants $(PARTICIPANTS)) $(if $(ROOT),--dest "$(ROOT)") $(if $(DRY_RUN),--dry-run)

test: $(READY) $(DOCS_READY)
	@"$(BIN)"/ruff check . && "$(BIN)"/ruff format --check .
	@OMP_NUM_THREADS=1 "$(BIN)"/python -m pytest tests --numprocesses $(CORES) --dist loadfile --no-loadscope-reorder

docs: $(READY) $(DOCS_READY)
	@"$(BIN)"/python docs/make_site.py

bench: $(READY)
	@"$(BIN)"/python benchmarks/speed.py --device $(DEVICE)
	@[ $(DEVICE) = cuda ] || "$(BIN)"/python benchmarks/hop.py

lab: $(READY)
	@"$(BIN)"/python -m ipykernel install --sys-prefix --name python3 --display-name "braintuning"
	@"$(BIN)"/jupyter lab --notebook-dir notebooks $$([ "$$(id -u)" != 0 ] || echo --allow-root)

strip: $(READY)
	@git config filter.nbstripout.clean "'$$("$(BIN)"/python -c 'import sys; print(sys.executable)')' -m nbstripout --keep-id"
	@echo "git now leaves out notebook outputs; to undo: git config --remove-section filter.nbstripout"

clean:
	rm -rf data/results data/cache .snakemake docs/_build

.venv/ready: requirements.lock pyproject.toml
	@for python in $(PYTHON); do \
		"$$python" -c "$(FITS)" 2>/dev/null || continue; \
		echo "making .venv from requirements.lock, with $$python"; \
		{ .venv/bin/python -c "$(FITS)" && .venv/bin/python -m pip --version; } >/dev/null 2>&1 || "$$python" -m venv --clear .venv; \
		exit; \
	done; echo "error: found no Python 3.11, 3.12 or 3.13 with venv among: $(PYTHON); install one, or say where one is: make PYTHON=<path>" >&2; exit 1
	@.venv/bin/python -m pip install -qq --disable-pip-version-check -r requirements.lock
	@.venv/bin/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

.venv/docs-ready: requirements-docs.lock .venv/ready
	@echo "adding requirements-docs.lock to .venv"
	@.venv/bin/python -m pip install -qq --disable-pip-version-check -r requirements-docs.lock
	@touch $@
