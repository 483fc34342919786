"""Real brains: alignment of people's regions, and where it lies."""

from collections.abc import Iterator, Mapping, Sequence
from string import ascii_lowercase

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from braintuning.alignment.stats import false_discovery_q
from braintuning.cortex.figure import cortex_figure
from braintuning.cortex.parcels import drawn_parcels, parcel_table
from braintuning.cortex.regions import DEFAULT_GROUPS, GROUPS, JOINED, distinct
from braintuning.cortex.subject import Cortex
from braintuning.datasets.base import Dataset
from braintuning.errors import InputError
from braintuning.figures.compare import CHANCE, EVERYONE, LEVEL, NUISANCE, over_participants
from braintuning.figures.style import POINTS, REGIONS_OF_ALICE, condition_bars, legend_and_small_print, title_of
from braintuning.figures.tables import unlearnt
from braintuning.pipeline.recipes import of_means
from braintuning.results import load_arrays
from braintuning.study import Study

SCORES = ("score", "nuisance_score", "ceiling")
COLUMNS = ("participant", "people", "story", "condition", "backbone", "layer", "untuned", "region", *SCORES)
TUNED_ON, HELD_OUT = "tuned on", "held out"
"""Whether a joint model learnt from a participant's responses; '' in a study without such models."""
ALL, WIDTH = "all regions", 7.2
STAR = "q < .05, two-sided signed-rank test over people, false discovery rate over a row's differences"
CEILING_LINE: dict[str, object] = {"color": "0.25", "lw": 0.9, "ls": ":"}


def gather(study: Study, dataset: Dataset, means: bool = False) -> pd.DataFrame:
    """Score of every model in every participant and region in use, at the figure's layer.

    With `means` those of the means over people, `Study.groups`, and of every layer.

    Returns
    -------
    DataFrame
        `COLUMNS`: `people` is `TUNED_ON` or `HELD_OUT`, `score` the correlation r with the test story's responses,
        `nuisance_score` that of word rate, envelope and position alone, `ceiling` the region's noise ceiling, `untuned`
        whether no epoch made the model better, and so it is as it was pretrained.
    """
    found = []
    for participant, run in of_means(study) if means else study.alignments():
        kept, beside = load_arrays(study.scores_file(participant, run)), load_arrays(study.nuisance_file(participant))
        people = (TUNED_ON if participant in study.tuned_together else HELD_OUT) if study.tuned_together else ""
        who = {"participant": participant, "people": people, "story": ", ".join(study.stories_for(participant).test)}
        who |= {"condition": run.condition, "backbone": run.backbone, "untuned": bool(unlearnt(study, [run]))}
        who |= {"region": dataset.region_names(participant), "ceiling": kept["ceiling"], "nuisance_score": beside["r"]}
        for layer in range(len(kept["r"])) if means else [study.figures.layer]:
            rows = pd.DataFrame({**who, "layer": layer % len(kept["r"]), "score": kept["r"][layer]})
            found.append(rows.astype(dict.fromkeys(SCORES, float)).dropna(subset="score"))
    return pd.concat(found, ignore_index=True)[list(COLUMNS)] if found else pd.DataFrame(columns=COLUMNS)


def where_regions_lie(study: Study, dataset: Dataset) -> pd.DataFrame:
    """Groups of the regions of participants' test stories, and why: `story`, `region` and `parcels.parcel_table`."""
    found = {}
    for participant in study.participants:
        if (story := ", ".join(study.stories_for(participant).test)) and story not in found:
            names, cortex = dataset.region_names(participant), dataset.cortex(participant)
            table = parcel_table(drawn_parcels(cortex), range(1, len(names) + 1)).drop(columns="parcel")
            found[story] = table.assign(story=story, region=names, mostly_in=table["region"])
    table = pd.concat(found.values(), ignore_index=True)
    return table[["story", "region", *table.columns.drop(["story", "region"])]]


def by_group(table: pd.DataFrame, where: pd.DataFrame, groups: Sequence[str] = DEFAULT_GROUPS) -> pd.DataFrame:
    """A table of `COLUMNS` with means over groups of regions, and over `ALL` that it has, in place of regions.

    `where` has story, region and label, as from `where_regions_lie`. A group that no region belongs to has no row, and
    groups of the same regions have one together, named by both (`regions.distinct`). A story none of whose regions
    belongs to a group keeps its regions.
    """
    keys = ["participant", "people", "story", "condition", "backbone", "layer", "untuned"]
    labelled = table.merge(where[["story", "region", "label"]], on=["story", "region"], validate="many_to_one")
    found = []
    for _, rows in labelled.groupby(["story", "people"], sort=False):
        together = distinct(rows["label"].to_numpy(), groups)
        found += [rows] if not together and rows["region"].nunique() > 1 else []
        parts = {name: rows[rows["label"].isin(GROUPS[group])] for group, name in together.items()}
        whole = [name for name, own in parts.items() if len(own) == len(rows)]
        for name, own in {**parts, **dict.fromkeys(whole or [ALL], rows)}.items():
            means = own.groupby(keys, sort=False)[list(SCORES)].mean()
            found.append(means.reset_index().assign(region=JOINED.join([name, ALL]) if name in whole else name))
    return pd.concat(found, ignore_index=True)[list(COLUMNS)]


def compare(
    table: pd.DataFrame, families: Mapping[str, str] | None = None, controls: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """Each condition over participants against the pretrained model, its control, chance and the nuisance score.

    Tests are Wilcoxon's signed-rank test from six participants on. The false discovery rate is controlled within
    families: a story, whether its people were tuned on, and a reference; over all backbones, conditions and regions. A
    model that is as it was pretrained is not tested again: it has no p.

    Parameters
    ----------
    table
        `COLUMNS`, one layer.
    families
        What families of their own some conditions belong to, such as variants to 'variants'.
    controls
        Conditions that some others are compared with as well.

    Returns
    -------
    DataFrame
        story, people, backbone, condition, reference ('chance': the score itself; 'nuisance'), region, participant
        ('all'), n_participants, untuned (in all of them), difference, low, high (95 % interval), p, family, q, star.
    """
    keys, rows = ["story", "people", "backbone", "condition", "region"], []
    scores = {key: one.set_index("participant") for key, one in table.groupby(keys, sort=False)}
    for key, own in scores.items():
        story, people, backbone, condition, region = key
        others = {CHANCE: 0.0, NUISANCE: own["nuisance_score"]}
        for name in dict.fromkeys(("pretrained", (controls or {}).get(condition, "pretrained"))):
            if name != condition and (other := scores.get((story, people, backbone, name, region))) is not None:
                others[name] = other["score"]
        for against, other in others.items():
            differences = (own["score"] - other).dropna()
            row = {**dict(zip(keys, key, strict=True)), "reference": against, "participant": EVERYONE}
            row |= {"n_participants": len(differences), "untuned": bool(own["untuned"].all())}
            row |= over_participants(differences) | ({"p": np.nan} if row["untuned"] else {})
            of = (families or {}).get(condition, "conditions")
            rows.append(row | {"family": f"{story} {people}".strip() + f": {of} against {against}"})
    found = pd.DataFrame(rows)
    found["q"] = found.groupby("family")["p"].transform(false_discovery_q)
    return found.assign(star=~found["reference"].isin([CHANCE, NUISANCE]) & (found["q"] < LEVEL))


def panels(fig: Figure, table: pd.DataFrame) -> Iterator[tuple[tuple[str, str], str, Axes, pd.DataFrame]]:
    """A row a story and kind of people, those tuned on last, and a panel a region: both, axes, and rows of a table."""
    rows = sorted(table.groupby(["story", "people"], sort=False), key=lambda row: row[0][1] == TUNED_ON)
    parts = fig.subfigures(len(rows), squeeze=False)[:, 0]
    for letter, subfigure, (who, of_row) in zip(ascii_lowercase[: len(rows)], parts, rows, strict=True):
        regions = list(of_row["region"].unique())
        axes = subfigure.subplots(1, len(regions), sharey=True, squeeze=False)[0]
        n_people = of_row["n_participants"].max() if "n_participants" in of_row else of_row["participant"].nunique()
        subfigure.text(0.005, 0.99, letter * (len(rows) > 1), va="top", weight="bold")
        axes[0].set_ylabel(f"{who[0]}\n{n_people} people {who[1]}".strip())
        for ax, region in zip(axes, regions, strict=True):
            ax.set_title(title_of(region))
            yield who, region, ax, of_row[of_row["region"] == region]


def draw(table: pd.DataFrame, statistics: pd.DataFrame, conditions: Sequence[str], note: str) -> Figure:
    """Bars of every backbone and condition, a row a story and kind of people and a panel a region.

    Points: people; dashed: the nuisance score; dotted: the mean noise ceiling; star: differs from pretrained over
    participants; '=': left as pretrained. `table` is from `by_group` (or `gather`, of a few regions), `statistics` from
    `compare`, `conditions` are in the order of bars.
    """
    stars = statistics[statistics["star"] & (statistics["reference"] == "pretrained")]
    fig = Figure(figsize=(WIDTH, 0.9 + 1.9 * table.groupby(["story", "people"]).ngroups), layout="constrained")
    for (story, people), region, ax, shown in panels(fig, table):
        earned = stars[(stars[["story", "people", "region"]] == [story, people, region]).all(axis=1)]
        marked = set(earned[["backbone", "condition"]].itertuples(index=False, name=None))
        backbones, label = list(shown["backbone"].unique()), f"{ax.get_ylabel()}\nr" if ax.get_ylabel() else ""
        condition_bars(ax, shown, "score", backbones, conditions, label, marked, "nuisance_score", "untuned")
        ax.axhline(shown.groupby("participant")["ceiling"].first().mean(), zorder=1.5, **CEILING_LINE)
    short = f". {REGIONS_OF_ALICE}" if "LPreM" in set(table["region"]) else ""
    note = f"{note}. {POINTS}. Dotted: mean noise ceiling{short}"
    if (statistics["reference"] == "pretrained").any():
        note += f". *: {STAR} from pretrained. =: validation kept the pretrained model, not tested"
    return legend_and_small_print(fig, conditions, note, baseline="nuisance (word rate, envelope, position)")


def people_of(table: pd.DataFrame, story: str) -> list[str]:
    """Participants of a table who heard a story: those whom no model was tuned on, where there are such."""
    heard = table[table["story"] == story]
    unseen = heard[heard["people"] != TUNED_ON]
    return list((unseen if len(unseen) else heard)["participant"].unique())


def maps(
    study: Study, dataset: Dataset, table: pd.DataFrame, condition: str
) -> dict[str, tuple[np.ndarray, np.ndarray | None, Cortex, str]]:
    """What `draw_map` shows of each story whose regions lie on the cortex, means over people of a table from `gather`.

    Scores of a condition, their change from the pretrained model (None where there is no such), (regions,) float with
    NaN for regions in use in nobody, the cortex, and who these people are.
    """
    found = {}
    for story, rows in table[table["backbone"] == study.figure_backbone].groupby("story", sort=False):
        people = people_of(rows, story)
        cortex, names = dataset.cortex(people[0]), dataset.region_names(people[0])
        wide = rows[rows["participant"].isin(people)].pivot(
            index=["participant", "region"], columns="condition", values="score"
        )
        means = wide.groupby("region").mean().reindex(names)
        both = condition != "pretrained" and "pretrained" in means
        change = (means[condition] - means["pretrained"]).to_numpy() if both else None
        if drawn_parcels(cortex).any():
            kind = rows.loc[rows["participant"] == people[0], "people"].iloc[0]
            who = f"mean of {len(people)} people {kind}".strip()
            found[story] = means[condition].to_numpy(), change, cortex, who
    return found


def draw_map(cortex: Cortex, values: np.ndarray, label: str, note: str, symmetric: bool = False) -> Figure:
    """Values of regions, (regions,) float, on the flat map and inflated views, every parcel outlined.

    NaN shows the folds. Groups are outlined around their parcels, groups of the same parcels once. `InputError` where
    the cortex's regions are on no vertex.
    """
    parcels = drawn_parcels(cortex)
    if not parcels.any():
        raise InputError("map of regions: found none on the cortex, expected an atlas or centroids in the dataset")
    labels = np.array([*cortex.voxel_labels, ""])[parcels - 1]
    groups = distinct(labels, DEFAULT_GROUPS)
    look = {"symmetric": symmetric, "labels": labels, "parcels": parcels, "groups": groups}
    note = f"{note}. Grey: no region, or none in use"
    return cortex_figure(cortex.surface, cortex.to_vertices(values), label=label, note=note, **look)
