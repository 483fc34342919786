STUDY ?= demo
DEVICE ?= cpu
ROOT ?=
PYTHON ?= python3
CORES ?= $(shell nproc 2>/dev/null || sysctl -n hw.ncpu)
RUN = .venv/bin/python -m braintuning

.PHONY: figures viewer data test bench lab clean

figures: .venv/ready
	@$(RUN) figures --study $(STUDY) --device $(DEVICE) --cores $(CORES) $(if $(ROOT),--root "$(ROOT)") $(if $(MAX_MEMORY),--max-memory $(MAX_MEMORY)) $(if $(DRY_RUN),--dry-run)

viewer: .venv/ready
	@$(RUN) viewer --study $(STUDY) $(if $(ROOT),--root "$(ROOT)")

data: .venv/ready
	@$(RUN) fetch --study $(STUDY) $(if $(PARTICIPANTS),--participants $(PARTICIPANTS)) $(if $(ROOT),--dest "$(ROOT)") $(if $(DRY_RUN),--dry-run)

test: .venv/ready
	@.venv/bin/ruff check . && .venv/bin/ruff format --check .
	@OMP_NUM_THREADS=1 .venv/bin/python -m pytest tests --numprocesses $(CORES) --dist loadfile

bench: .venv/ready
	@.venv/bin/python benchmarks/speed.py --device $(DEVICE)

lab: .venv/ready
	@.venv/bin/python -m ipykernel install --sys-prefix --name python3 --display-name "braintuning"
	@.venv/bin/jupyter lab --notebook-dir notebooks

clean:
	rm -rf data/results data/cache .snakemake figures/*/notebooks figures/*/viewer figures/*/report.html

.venv/ready: requirements.lock pyproject.toml
	@echo "making .venv from requirements.lock"
	@$(PYTHON) -m venv .venv
	@.venv/bin/python -m pip install -qq --disable-pip-version-check -r requirements.lock
	@.venv/bin/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
