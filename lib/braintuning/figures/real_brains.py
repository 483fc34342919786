"""Real brains: alignment of people's regions, and where it lies."""

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.gridspec import GridSpec, GridSpecFromSubplotSpec

from braintuning.alignment.stats import false_discovery_q
from braintuning.cortex.figure import cortex_figure
from braintuning.cortex.parcels import GROUPED, drawn_parcels, parcel_table
from braintuning.cortex.regions import GROUPS
from braintuning.cortex.subject import Cortex
from braintuning.datasets.base import Dataset
from braintuning.errors import InputError
from braintuning.figures.compare import CHANCE, EVERYONE, NUISANCE, over_participants, starred
from braintuning.figures.style import ROI_TITLES, condition_bars, legend_and_small_print
from braintuning.pipeline.recipes import of_means
from braintuning.results import generator, load_arrays
from braintuning.study import Study

COLUMNS = (
    *("participant", "people", "story", "condition", "backbone", "layer"),
    *("region", "score", "nuisance_score", "ceiling"),
)
TUNED_ON, HELD_OUT = "tuned on", "held out"
"""Whether a joint model learnt from a participant's responses; '' in a study without such models."""
ALL = "all regions"
WIDTH = 7.2
CEILING_LINE: dict[str, object] = {"color": "0.25", "lw": 0.9, "ls": ":"}


def region_names(dataset: Dataset, participant: str) -> list[str]:
    """Names of a participant's regions: the dataset's, or the numbers of its voxels."""
    if hasattr(dataset, "region_names"):
        return list(dataset.region_names(participant))
    return list(map(str, range(dataset.n_voxels(participant))))


def gather(study: Study, dataset: Dataset) -> pd.DataFrame:
    """Score of every model in every participant and region in use, at the figure's layer.

    Returns
    -------
    DataFrame
        `COLUMNS`: `people` is `TUNED_ON` or `HELD_OUT`, `score` the correlation r with the test story's responses,
        `nuisance_score` that of word rate, envelope and position alone, `ceiling` the region's noise ceiling.
    """
    found = []
    for participant, run in study.alignments():
        kept = load_arrays(study.scores_file(participant, run))
        layer = study.figures.layer % len(kept["r"])
        (story,) = study.stories_for(participant).test
        rows = pd.DataFrame(
            {
                "region": region_names(dataset, participant),
                "score": kept["r"][layer].astype(float),
                "nuisance_score": load_arrays(study.nuisance_file(participant))["r"].astype(float),
                "ceiling": kept["ceiling"].astype(float),
            }
        )
        people = (TUNED_ON if participant in study.tuned_together else HELD_OUT) if study.tuned_together else ""
        who = {"participant": participant, "people": people, "story": story}
        model = {"condition": run.condition, "backbone": run.backbone, "layer": layer}
        found.append(rows[rows["score"].notna()].assign(**who, **model))
    return pd.concat(found, ignore_index=True)[list(COLUMNS)]


def gather_means(study: Study, dataset: Dataset) -> pd.DataFrame:
    """Scores of the means over people, `Study.groups`, in every region in use and at every layer; as of `gather`."""
    found = []
    for participant, run in of_means(study):
        kept, beside = load_arrays(study.scores_file(participant, run)), load_arrays(study.nuisance_file(participant))
        people = HELD_OUT if study.tuned_together else ""
        who = {"participant": participant, "people": people, "story": ", ".join(study.stories_for(participant).test)}
        who |= {"condition": run.condition, "backbone": run.backbone, "region": region_names(dataset, participant)}
        for layer, r in enumerate(kept["r"].astype(float)):
            rows = {**who, "layer": layer, "score": r, "nuisance_score": beside["r"], "ceiling": kept["ceiling"]}
            found.append(pd.DataFrame(rows).dropna(subset="score"))
    return pd.concat(found, ignore_index=True)[list(COLUMNS)] if found else pd.DataFrame(columns=COLUMNS)


def where_regions_lie(study: Study, dataset: Dataset) -> pd.DataFrame:
    """Which groups the regions of each test story belong to, and why: `story`, `region` and `parcels.parcel_table`."""
    found = {}
    for participant in study.participants:
        (story,) = study.stories_for(participant).test
        if story not in found:
            names, cortex = region_names(dataset, participant), dataset.cortex(participant)
            table = parcel_table(drawn_parcels(cortex), range(1, len(names) + 1)).drop(columns="parcel")
            found[story] = table.assign(story=story, region=names, mostly_in=table["region"])
    table = pd.concat(found.values(), ignore_index=True)
    return table[["story", "region", *table.columns.drop(["story", "region"])]]


def by_group(table: pd.DataFrame, where: pd.DataFrame, groups: Sequence[str] = GROUPED) -> pd.DataFrame:
    """A table of `COLUMNS` with means over groups of regions, and over `ALL` that it has, in place of regions.

    `where` has story, region and label, as from `where_regions_lie`. A group that no region belongs to has no row. A
    story none of whose regions belongs to a group keeps its regions.
    """
    keys = ["participant", "people", "story", "condition", "backbone", "layer"]
    labelled = table.merge(where[["story", "region", "label"]], on=["story", "region"], validate="many_to_one")
    known = {group: labelled["label"].isin(GROUPS[group]) for group in groups}
    with_groups = labelled.loc[np.any(list(known.values()), axis=0), "story"].unique()
    found = [table[~table["story"].isin(with_groups)]]
    for name, chosen in {**known, ALL: labelled["label"].notna()}.items():
        means = labelled[chosen].groupby(keys, sort=False)[["score", "nuisance_score", "ceiling"]].mean()
        found.append(means.reset_index().assign(region=name))
    return pd.concat(found, ignore_index=True)[list(COLUMNS)]


def compare(table: pd.DataFrame, reference: str = "pretrained", apart: Collection[str] = ()) -> pd.DataFrame:
    """Each condition over participants against a reference, against chance and against the nuisance score.

    Tests are Wilcoxon's signed-rank test from six participants on. The false discovery rate is controlled within
    families: a story, whether its people were tuned on, and a reference; over all backbones, conditions and regions.

    Parameters
    ----------
    table
        `COLUMNS`, one layer.
    reference
        A condition.
    apart
        Conditions that are families of their own, such as variants, which are not in the figure.

    Returns
    -------
    DataFrame
        story, people, backbone, condition, reference ('chance': the score itself; 'nuisance'), region, participant
        ('all'), n_participants, difference, low, high (95 % interval), p, family, q, star.
    """
    keys, rows = ["story", "people", "backbone", "condition", "region"], []
    scores = {key: one.set_index("participant") for key, one in table.groupby(keys, sort=False)}
    for key, own in scores.items():
        story, people, backbone, condition, region = key
        others = {CHANCE: 0.0, NUISANCE: own["nuisance_score"]}
        if condition != reference and (story, people, backbone, reference, region) in scores:
            others[reference] = scores[story, people, backbone, reference, region]["score"]
        for against, other in others.items():
            differences = (own["score"] - other).dropna()
            row = {**dict(zip(keys, key, strict=True)), "reference": against, "participant": EVERYONE}
            rng = generator(0, "real brains", *key, against)
            row |= {"n_participants": len(differences)} | over_participants(differences, rng)
            of = "variants" if condition in apart else "conditions"
            rows.append(row | {"family": f"{story} {people}".strip() + f": {of} against {against}"})
    found = pd.DataFrame(rows)
    found["q"] = found.groupby("family")["p"].transform(lambda p: false_discovery_q(p.to_numpy()))
    return found.assign(star=found.index.isin(starred(found).index))


def draw(table: pd.DataFrame, statistics: pd.DataFrame, conditions: Sequence[str], note: str) -> Figure:
    """Bars of every backbone and condition, a row a story and kind of people and a panel a region.

    Every person is a point. Dashed across bars: the nuisance score; dotted: the mean noise ceiling. A star is for a
    condition that differs from the reference over participants.

    Parameters
    ----------
    table, statistics
        From `by_group` (or `gather`, of a few regions) and `compare`.
    conditions
        In the order of their bars.
    note
        Small print.
    """
    rows = sorted(table.groupby(["story", "people"], sort=False), key=lambda row: row[0][1] == TUNED_ON)
    fig, stars = Figure(figsize=(WIDTH, 0.9 + 1.9 * len(rows)), layout="constrained"), starred(statistics)
    grid = GridSpec(len(rows), 1, figure=fig)
    for place, ((story, people), of_row) in enumerate(rows):
        regions, first = list(of_row["region"].unique()), None
        for column, cell in enumerate(GridSpecFromSubplotSpec(1, len(regions), grid[place])):
            ax = fig.add_subplot(cell, sharey=first)
            shown = of_row[of_row["region"] == regions[column]]
            earned = stars[(stars[["story", "people", "region"]] == [story, people, regions[column]]).all(axis=1)]
            marked = set(earned[["backbone", "condition"]].itertuples(index=False, name=None))
            backbones = list(shown["backbone"].unique())
            condition_bars(ax, shown, "score", backbones, conditions, "", marked, "nuisance_score")
            ax.axhline(shown.groupby("participant")["ceiling"].first().mean(), zorder=1.5, **CEILING_LINE)
            ax.set_title(ROI_TITLES.get(regions[column], regions[column][:1].upper() + regions[column][1:]))
            if first is None:
                who = f"{shown['participant'].nunique()} people {people}".strip()
                first, _ = ax, ax.set_ylabel(f"{story}\n{who}\nr")
            else:
                ax.tick_params(labelleft=False)
    baseline = "nuisance (word rate, envelope, position)"
    return legend_and_small_print(fig, conditions, f"{note}. Dotted: noise ceiling", baseline=baseline)


def tuned_condition(study: Study) -> str:
    """The condition of the figure's backbone that maps and time courses show: the first that learns from responses."""
    conditions = study.conditions_of(study.figure_backbone)
    return next((c for c in conditions if study.base(c) in ("multi-brain-tuned", "brain-tuned")), conditions[0])


def people_of(table: pd.DataFrame, story: str) -> list[str]:
    """Participants of a table who heard a story: those whom no model was tuned on, where there are such."""
    heard = table[table["story"] == story]
    unseen = heard[heard["people"] != TUNED_ON]
    return list((unseen if len(unseen) else heard)["participant"].unique())


def maps(
    study: Study, dataset: Dataset, table: pd.DataFrame
) -> dict[str, tuple[np.ndarray, np.ndarray | None, Cortex]]:
    """What `draw_map` shows of each story whose regions lie on the cortex, means over people of a table from `gather`.

    Scores of the `tuned_condition`, their change from the pretrained model (None where there is no such), (regions,)
    float with NaN for regions in use in nobody, and the cortex.
    """
    condition, found = tuned_condition(study), {}
    shown = table[table["backbone"] == study.figure_backbone]
    for story, rows in shown.groupby("story", sort=False):
        people = people_of(rows, story)
        cortex, names = dataset.cortex(people[0]), region_names(dataset, people[0])
        wide = rows[rows["participant"].isin(people)].pivot(
            index=["participant", "region"], columns="condition", values="score"
        )
        means = wide.groupby("region").mean().reindex(names)
        both = condition != "pretrained" and "pretrained" in means
        change = (means[condition] - means["pretrained"]).to_numpy() if both else None
        if drawn_parcels(cortex).any():
            found[story] = means[condition].to_numpy(), change, cortex
    return found


def draw_map(
    cortex: Cortex, values: np.ndarray, label: str, note: str, threshold: float | None = None, symmetric: bool = False
) -> Figure:
    """Values of regions, (regions,) float, on the flat map and inflated views, every parcel outlined.

    NaN, and what is smaller than `threshold`, shows the folds. Groups are outlined around the parcels that belong to
    them. `InputError` where the cortex's regions are on no vertex.
    """
    parcels = drawn_parcels(cortex)
    if not parcels.any():
        raise InputError("map of regions: found none on the cortex, expected an atlas or centroids in the dataset")
    labels = np.array([*cortex.voxel_labels, ""])[parcels - 1]
    groups = [group for group in GROUPED if np.isin(labels, GROUPS[group]).any()]
    look = {"threshold": threshold, "symmetric": symmetric, "labels": labels, "parcels": parcels, "groups": groups}
    return cortex_figure(cortex.surface, cortex.to_vertices(values), label=label, note=note, **look)
