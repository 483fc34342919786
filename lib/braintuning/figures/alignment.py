"""Figure 2: alignment of every model in late language and primary auditory regions, and where tuning changed it."""

import json

import pandas as pd
from matplotlib.figure import Figure

from braintuning.alignment.stats import FEWEST_PARTICIPANTS
from braintuning.datasets.base import Dataset
from braintuning.figures import tables
from braintuning.figures.compare import ASIDE, EVERYONE, LEVEL, OVER, starred
from braintuning.figures.map_and_bars import bars_above
from braintuning.study import Run, Study


def draw(study: Study, table: pd.DataFrame, statistics: pd.DataFrame, dataset: Dataset, note: str) -> Figure:
    """Bars of every backbone and condition, over a flat map of what brain-tuning changed, if there is any.

    `table` and `statistics` are from `tables.gather` and `compare.compare`; `note` is small print, after what the stars
    stand for and what replaces an objective that Whisper does not have.
    """
    changes, interval = changes_of(statistics)
    shown, conditions = tables.at_layer(table, study.figures.layer), tables.shown_conditions(study)
    star = what_a_star_is(statistics, statistics[statistics["condition"].isin(conditions)])
    note = ". ".join([tables.what_bars_are(study, interval), star, *stand_ins(study), note])
    change = tables.alignment_change(study, dataset) if tables.has_change(study) else None
    fig = tables.draw_change(study, dataset, change, "normalised alignment", note, smooth_mm=tables.SMOOTH_MM)
    label, stars = "alignment (r / ceiling)", starred(statistics)
    bars_above(fig, shown, "alignment", label, study.tuned_backbones, conditions, stars, tables.BASELINE, changes)
    return fig


def changes_of(statistics: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Differences from pretrained, over participants from six on, else in each, and what their interval is over."""
    changes = statistics[statistics["reference"] == "pretrained"]
    everyone = changes["participant"] == EVERYONE
    if changes["n_participants"].max() >= FEWEST_PARTICIPANTS:
        return changes[everyone], "mean over participants and its 95 % interval"
    return changes[~everyone], "each participant, with the 95 % interval over blocks of TRs"


def what_a_star_is(statistics: pd.DataFrame, drawn: pd.DataFrame) -> str:
    """The test behind the stars of the figure, or why there are none.

    `statistics` are from `compare.compare`, `drawn` are those of its rows that the figure shows.
    """
    tested = statistics[(statistics["participant"] == EVERYONE) & ~statistics["reference"].isin(ASIDE)]
    most = int(tested["n_participants"].max()) if len(tested) else 0
    if most < FEWEST_PARTICIPANTS:
        return f"No stars: over fewer than {FEWEST_PARTICIPANTS} participants no signed-rank test reaches p < {LEVEL:g}"
    stars = starred(drawn)
    family = tested.loc[tested["n_participants"] == most, "family"].iloc[0]
    n_tests, against = int(tested.loc[tested["family"] == family, "p"].count()), tested["reference"].iloc[0]
    counts = sorted(stars["n_participants"].unique())
    who = f"{most} participants" if counts in ([], [most]) else f"{counts[0]} to {counts[-1]} participants"
    apart = ", variants apart" if tested.loc[tested.index.isin(drawn.index), "family"].nunique() > 1 else ""
    test = f"{OVER} test over {who} against {against}, false discovery rate controlled over {n_tests} differences"
    return f"*: q < {LEVEL:g}, two-sided {test}{apart}" + ("" if len(stars) else "; none reached")


def stand_ins(study: Study) -> list[str]:
    """A sentence on stimulus-tuned Whisper, which has no self-supervised objective of its own."""
    for backbone in study.backbones:
        if "stimulus-tuned" in study.conditions_of(backbone):
            config = study.model_folder(Run(backbone, "stimulus-tuned")) / "config.json"
            if config.is_file() and json.loads(config.read_text()).get("model_type") == "whisper":
                return ["Whisper has no self-supervised objective: its stimulus-tuning reconstructs masked features"]
    return []
