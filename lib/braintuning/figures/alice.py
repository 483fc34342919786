"""Figure of jointly tuned models on real fMRI: the Alice study."""

import pandas as pd
from matplotlib.figure import Figure

from braintuning.alignment.stats import false_discovery_q
from braintuning.datasets.alice import REGIONS
from braintuning.figures.compare import over_participants
from braintuning.figures.style import condition_bars, legend_and_small_print
from braintuning.pipeline.recipes import ALICE_CONDITIONS, HELD_OUT, MEANS, TUNED_TOGETHER
from braintuning.results import generator


def differences(table: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Each tuned model minus the pretrained one at the last layer, within each group, region by region and in the mean.

    Returns
    -------
    DataFrame
        condition, group, roi (`all`: mean over regions), n_participants, difference, low, high (95 % interval over
        participants), p (signed rank), q (false discovery rate over all rows).
    """
    last = table[(table["layer"] == table["layer"].max()) & (table["group"] != MEANS)]
    mean = last.groupby(["condition", "group", "participant"], as_index=False)["r"].mean().assign(roi="all")
    wide = pd.concat([last, mean]).pivot(index=["group", "roi", "participant"], columns="condition", values="r")
    rows = []
    for condition in ALICE_CONDITIONS[1:]:
        for (group, roi), change in (wide[condition] - wide["pretrained"]).groupby(level=["group", "roi"]):
            row = {"condition": condition, "group": group, "roi": roi, "n_participants": len(change)}
            rows.append(row | over_participants(change, generator(seed, condition, group, roi)))
    found = pd.DataFrame(rows)
    return found.assign(q=false_discovery_q(found["p"].to_numpy()))


def draw(table: pd.DataFrame, note: str = "") -> Figure:
    """Mean over regions for those who tuned, those held out and the mean of each; region by region for the held out."""
    fig = Figure(figsize=(7.2, 2.8), layout="constrained")
    left, right = fig.subplots(1, 2, width_ratios=[1.5, 2.4])
    last = table[table["layer"] == table["layer"].max()]
    mean = last.groupby(["condition", "group", "participant"], as_index=False)["r"].mean()
    groups = (TUNED_TOGETHER, HELD_OUT, MEANS)
    condition_bars(left, mean.rename(columns={"group": "backbone"}), "r", groups, ALICE_CONDITIONS)
    left.set(title="mean over six regions", ylabel="r, last three minutes")
    held_out = last[last["group"] == HELD_OUT].drop(columns="group").rename(columns={"roi": "backbone"})
    condition_bars(right, held_out, "r", REGIONS, ALICE_CONDITIONS)
    right.set_title("held-out participants, region by region")
    return legend_and_small_print(fig, ALICE_CONDITIONS, note)
