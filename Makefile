STUDY ?= demo
DEVICE ?= cpu
ROOT ?=
PYTHON ?= python3
CORES ?= $(shell nproc 2>/dev/null || sysctl -n hw.ncpu)
BIN ?= .venv/bin
READY = $(if $(filter .venv/bin,$(BIN)),.venv/ready)
DOCS_READY = $(if $(filter .venv/bin,$(BIN)),.venv/docs-ready)
RUN = $(if $(PRECISION),BRAINTUNING_PRECISION=$(PRECISION)) "$(BIN)"/python -m braintuning

.PHONY: figures viewer data test docs bench lab clean

figures: $(READY)
	@$(RUN) figures --study "$(STUDY)" --device $(DEVICE) --cores $(CORES) $(if $(ROOT),--root "$(ROOT)") $(if $(MAX_MEMORY),--max-memory $(MAX_MEMORY)) $(if $(GPU_JOBS),--gpu-jobs $(GPU_JOBS)) $(if $(DRY_RUN),--dry-run)

viewer: $(READY)
	@$(RUN) viewer --study "$(STUDY)" $(if $(ROOT),--root "$(ROOT)")

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
	@"$(BIN)"/jupyter lab --notebook-dir notebooks

clean:
	rm -rf data/results data/cache .snakemake figures/*/notebooks figures/*/viewer figures/*/report.html docs/_build

.venv/ready: requirements.lock pyproject.toml
	@echo "making .venv from requirements.lock"
	@$(PYTHON) -m venv .venv
	@.venv/bin/python -m pip install -qq --disable-pip-version-check -r requirements.lock
	@.venv/bin/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

.venv/docs-ready: requirements-docs.lock .venv/ready
	@echo "adding requirements-docs.lock to .venv"
	@.venv/bin/python -m pip install -qq --disable-pip-version-check -r requirements-docs.lock
	@touch $@
