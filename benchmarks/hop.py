"""How alignment depends on hop and length of the windows: the demo's pretrained model, its first listener, every layer.

    python benchmarks/hop.py [--hops 1 2 4 8] [--windows 4 8 16] [--hop-of-windows 4] [--stories 4]

Every hop with the study's length of the windows, 16 s, and every length at one hop: what a cheaper setting costs in
accuracy. Tokens are read from the last hop of each window, so that all but the last have heard what comes after them:
up to a hop of sound that the listener had not heard yet. The paper's hop is a tenth of a second. All but hop and
length is as in `data/studies/demo.yaml`. `processor_seconds` are those of the features of the stories that were fitted
and tested, summed over cores. Writes `benchmarks/results/hop.csv` and `hop.md`.
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
from braintuning.results import save_table
from braintuning.study import STUDIES, Run, Study, load_study
from measuring import RESULTS, save_page

REGIONS = ("late_language", "primary_auditory")
USUAL = 16.0
"""Seconds of a window in the demo and in the paper."""


def with_windows(hop: float, window: float, n_stories: int, folder: Path) -> Study:
    """The demo with one participant, windows of another hop and length, and fewer training stories."""
    content = yaml.safe_load((STUDIES / "demo.yaml").read_text())
    content["name"], content["conditions"] = f"hop-{hop:g}-window-{window:g}", ["pretrained"]
    content["participants"] = content["participants"][:1]
    content["features"] |= {"hop_seconds": hop, "window_seconds": window}
    content["stories"]["train"] = content["stories"]["train"][:n_stories]
    content["dataset"]["root"] = str(folder / "listener")
    path = folder / f"{content['name']}.yaml"
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
    windows = {"hop_seconds": study.features.hop_seconds, "window_seconds": study.features.window_seconds}
    return wide.reset_index().assign(**windows, processor_seconds=round(seconds, 1))


def write(table: pd.DataFrame, machine: str) -> None:
    """Table of every layer, and Markdown of the last one."""
    save_table(RESULTS / "hop.csv", table.assign(machine=machine).round(4))
    last = table[table["layer"] == table["layer"].max()].sort_values(["window_seconds", "hop_seconds"])
    columns = ["window_seconds", "hop_seconds", *REGIONS, "processor_seconds"]
    about = f"{machine}; {table['weights'].iloc[0]}, last layer, one simulated listener of the demo"
    save_page(RESULTS / "hop.md", about, columns, last[columns].round(3).itertuples(index=False))
    print(last[columns].round(3).to_string(index=False))


def main() -> None:
    """Measure from the cheapest setting up, and write after each what there is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--hops", nargs="+", type=float, default=[1.0, 2.0, 4.0, 8.0], help="seconds")
    parser.add_argument("--windows", nargs="+", type=float, default=[4.0, 8.0], help="seconds, beside the usual 16")
    parser.add_argument("--hop-of-windows", type=float, default=4.0, help="seconds between windows of other lengths")
    parser.add_argument("--stories", type=int, default=4, help="how many of the demo's training stories")
    given = parser.parse_args()
    machine = f"{torch.get_num_threads()} CPU threads, {torch.cpu.get_capabilities()['cpu_name']}, {precision('cpu')}"
    tables = []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["BRAINTUNING_RESULTS"] = folder
        settings = [(min(given.hop_of_windows, window), window) for window in given.windows]
        settings += [(hop, USUAL) for hop in given.hops]
        for hop, window in sorted(settings, key=lambda setting: setting[1] / setting[0]):
            study = with_windows(hop, window, given.stories, Path(folder))
            tables.append(measure(study).assign(weights=study.backbones["whisper-tiny.en"].name))
            write(pd.concat(tables), machine)


if __name__ == "__main__":
    main()
