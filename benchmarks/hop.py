"""How alignment depends on the hop of the windows: the demo's pretrained model, its first listener, every layer.

    python benchmarks/hop.py [--hops 1 2 4 8] [--stories 4]

Tokens are read from the last hop of each window, so that all but the last have heard what comes after them: up to a hop
of sound that the listener had not heard yet. The paper's hop is a tenth of a second.
Everything but the hop is as in `data/studies/demo.yaml`. `processor_seconds` are those of the features of the stories
that were fitted and tested, summed over cores. Writes `benchmarks/results/hop.csv` and `hop.md`.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import pandas as pd
import torch
import yaml
from braintuning.backbone.precision import precision
from braintuning.pipeline.align import align
from braintuning.pipeline.ceiling import measure_ceiling
from braintuning.pipeline.check import make_listeners
from braintuning.pipeline.extract import extract_layers
from braintuning.results import atomic_path, save_table
from braintuning.study import STUDIES, Run, Study, load_study

RESULTS = Path(__file__).parent / "results"
REGIONS = ("late_language", "primary_auditory")


def with_hop(hop: float, n_stories: int, folder: Path) -> Study:
    """The demo with one participant, another hop, and fewer training stories."""
    content = yaml.safe_load((STUDIES / "demo.yaml").read_text())
    content["name"], content["conditions"] = f"hop-{hop:g}", ["pretrained"]
    content["participants"], content["features"]["hop_seconds"] = content["participants"][:1], hop
    content["stories"]["train"] = content["stories"]["train"][:n_stories]
    content["dataset"]["root"] = str(folder / "listener")
    path = folder / f"hop-{hop:g}.yaml"
    path.write_text(yaml.safe_dump(content))
    return load_study(path)


def measure(study: Study) -> pd.DataFrame:
    """Alignment of each layer in each region, and the processor time that the features took."""
    (participant,), (backbone,) = study.participants, study.backbones
    run = Run(backbone, "pretrained")
    make_listeners(study)
    measure_ceiling(study, participant)
    start = time.process_time()
    extract_layers(study, [run])
    seconds = time.process_time() - start
    table = pd.read_csv(align(study, participant, run).with_suffix(".csv"))
    wide = table[table["roi"].isin(REGIONS)].pivot(index="layer", columns="roi", values="alignment")[list(REGIONS)]
    return wide.reset_index().assign(hop_seconds=study.features.hop_seconds, processor_seconds=round(seconds, 1))


def write(table: pd.DataFrame, machine: str) -> None:
    """Table of every layer, and Markdown of the last one."""
    save_table(RESULTS / "hop.csv", table.assign(machine=machine).round(4))
    last = table[table["layer"] == table["layer"].max()].sort_values("hop_seconds")
    columns = ["hop_seconds", *REGIONS, "processor_seconds"]
    lines = [columns, ["---"] * len(columns), *last[columns].round(3).itertuples(index=False)]
    with atomic_path(RESULTS / "hop.md") as temporary:
        head = f"{machine}; {table['weights'].iloc[0]}, last layer, one simulated listener of the demo\n\n"
        temporary.write_text(head + "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines) + "\n")
    print(last[columns].round(3).to_string(index=False))


def main() -> None:
    """Measure from the longest hop down, and write after each what there is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hops", nargs="+", type=float, default=[1.0, 2.0, 4.0, 8.0], help="seconds")
    parser.add_argument("--stories", type=int, default=4, help="training stories, of the demo's four")
    given = parser.parse_args()
    machine = f"{torch.get_num_threads()} CPU threads, {torch.cpu.get_capabilities()['cpu_name']}, {precision('cpu')}"
    tables = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["BRAINTUNING_RESULTS"] = folder
        for hop in sorted(given.hops, reverse=True):
            study = with_hop(hop, given.stories, Path(folder))
            tables.append(measure(study).assign(weights=study.backbones["whisper-tiny.en"].name))
            write(pd.concat(tables), machine)


if __name__ == "__main__":
    main()
