"""What each setting of tuning does to loss and alignment, on a listener who is in no figure.

    python benchmarks/choose_tuning.py [--only brain-tuned rate-1e-4]

Runs the study `choose-tuning`, or some of its conditions, as far as it has not run, and writes
`benchmarks/results/choose_tuning.csv`, a row for each condition and epoch, and `.md` with the epochs that were kept.
`fitted` is the loss on the validation stories of a ridge head fitted to the epoch's states, and `running` that of the
head that is tuned along, both as shares of predicting the mean, which compare where targets are the same; the epoch
with the lowest is `kept`, of the permuted control the best that was tuned. Of the model that was kept there is the
alignment of the last layer. `processor_seconds` are those of the last process of the step of tuning, less than all
where it was stopped and went on. Settings are chosen by the lowest share.
"""

import argparse
from collections.abc import Iterator

import pandas as pd
import torch
from braintuning.backbone.precision import precision
from braintuning.pipeline.engine import ensure
from braintuning.results import made_result, save_table
from braintuning.study import Run, Study, load_study
from braintuning.tuning.loop import best_epoch
from measuring import RESULTS, save_page

REGIONS = ["late_language", "primary_auditory"]


def tuning_rows(study: Study, run: Run) -> pd.DataFrame:
    """Losses of every epoch of a run, and which was kept; one row without losses for a model that was not tuned."""
    folder = study.model_folder(run)
    if not folder.is_dir():
        return pd.DataFrame({"epoch": [0], "kept": [True]})
    history = pd.read_csv(folder / "history.csv")
    mean, aim = history["mean_loss"][0], made_result(folder)["recipe"]["aim"]
    took = study.results / "times" / "tune" / f"{run.name}.tsv"
    return pd.DataFrame(
        {
            "epoch": history["epoch"],
            "fitted": history["fitted_loss"] / mean,
            "running": history["validation_loss"] / mean,
            "kept": history["epoch"] == best_epoch(history.to_dict("records"), aim),
            "processor_seconds": pd.read_csv(took, sep="\t")["cpu_time"].iloc[-1] if took.is_file() else None,
        }
    )


def rows(study: Study) -> Iterator[pd.DataFrame]:
    """The rows of each condition that has run."""
    for participant, run in study.alignments():
        path = study.scores_file(participant, run).with_suffix(".csv")
        if not path.is_file():
            continue
        table, scores = tuning_rows(study, run), pd.read_csv(path)
        last = scores[scores["layer"] == scores["layer"].max()].set_index("roi")
        for region in REGIONS:
            table[region] = last.loc[region, "alignment"]
        yield table.assign(condition=run.condition)


def main() -> None:
    """Run the study and write the table."""
    study = load_study("choose-tuning")
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=study.conditions, default=study.conditions)
    wanted = [
        (participant, run) for participant, run in study.alignments() if run.condition in parser.parse_args().only
    ]
    ensure(study, [study.scores_file(participant, run) for participant, run in wanted])
    machine = f"{torch.cpu.get_capabilities()['cpu_name']}, {precision('cpu')}"
    table = pd.concat(list(rows(study)), ignore_index=True).assign(machine=machine)
    first = ["condition", "epoch"]
    table = table[first + [name for name in table if name not in first]]
    save_table(RESULTS / "choose_tuning.csv", table.round(5))
    kept = table[table["kept"]].drop(columns=["kept", "machine"]).round(4).astype(object).fillna("")
    about = f"The epoch that was kept of each condition; {study.title.lower()}; {machine}"
    save_page(RESULTS / "choose_tuning.md", about, kept.columns, kept.itertuples(index=False))
    print(kept.to_string(index=False))


if __name__ == "__main__":
    main()
