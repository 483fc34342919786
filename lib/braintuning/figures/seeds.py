"""Seeds of tuning and other variants on people: what each model changed, against the pretrained one and its control."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from braintuning.figures.compare import CHANCE, CONTROLS, LEVEL, NUISANCE
from braintuning.figures.real_brains import ALL, COLUMNS, SCORES, STAR, WIDTH, panels
from braintuning.figures.style import small_print_below
from braintuning.study import Study

LOOKS = (
    dict(label="minus pretrained", color="black", marker="o", mfc="white"),
    dict(label="minus permuted control (mean over its seeds)", color="#0072b2", marker="s"),
)
LINE_INCHES = 0.13


def tuned_alike(study: Study) -> dict[tuple, list[str]]:
    """Conditions of the figure's backbone by what they stand for and all that they are tuned with, but for the seed."""
    alike: dict[tuple, list[str]] = {}
    for condition in study.conditions_of(study.figure_backbone):
        variant, tuning = study.variants.get(condition), study.tuning_of(condition).model_copy(update={"seed": 0})
        amount = (variant.n_stories, variant.n_together) if variant else (None, None)
        alike.setdefault((study.base(condition), tuning.model_dump_json(), amount), []).append(condition)
    return alike


def seeds_of(study: Study) -> dict[str, list[str]]:
    """Conditions that differ in nothing but their seed, two or more, by a name for their mean."""
    return {_name(names): names for names in tuned_alike(study).values() if len(names) > 1}


def _name(conditions: list[str]) -> str:
    return f"{conditions[0]}, {len(conditions)} seeds" if len(conditions) > 1 else conditions[0]


def with_means_over_seeds(study: Study, table: pd.DataFrame) -> pd.DataFrame:
    """A table of `real_brains.COLUMNS` with means over seeds, person by person, as further conditions."""
    how, found = dict.fromkeys(SCORES, "mean") | {"untuned": "all"}, [table]
    keys = [column for column in COLUMNS if column not in (*how, "condition")]
    for name, conditions in seeds_of(study).items():
        rows = table[table["condition"].isin(conditions)].groupby(keys, sort=False)
        found.append(rows.agg(how).reset_index().assign(condition=name))
    return pd.concat(found, ignore_index=True)[list(COLUMNS)]


def families_of(study: Study) -> dict[str, str]:
    """Families of tests that variants and means over seeds are in, for `real_brains.compare`."""
    return dict.fromkeys(study.variants, "variants") | dict.fromkeys(seeds_of(study), "means over seeds")


def controls_of(study: Study) -> dict[str, str]:
    """The control, its mean over seeds, of all that learns from responses and has one that is tuned in the same way."""
    alike, found = tuned_alike(study), {}
    for (base, *given), names in alike.items():
        if control := alike.get((CONTROLS.get(base), *given)):
            found |= dict.fromkeys((*names, _name(names)), _name(control))
    return found


def shown_tuned(study: Study, table: pd.DataFrame) -> tuple[str, str]:
    """What maps show and what time courses do of a table from `real_brains.gather`.

    The mean over seeds of the first condition that learns from responses, or it alone; and the first seed that learnt.
    """
    every, untuned = tuned_alike(study), table.groupby("condition")["untuned"].all()
    names = next((names for (base, *_), names in every.items() if base in CONTROLS), next(iter(every.values())))
    return _name(names), next((name for name in names if not untuned.get(name, True)), names[0])


def findings(study: Study, table: pd.DataFrame, statistics: pd.DataFrame) -> list[str]:
    """Sentences on what the figure's backbone reached: `table` from `real_brains.by_group`, with its statistics."""
    mean, tests = shown_tuned(study, table)[0], statistics[statistics["backbone"] == study.figure_backbone]
    left = ", ".join(tests.loc[tests["untuned"], "condition"].unique())
    found = [f"No epoch improved the validation loss, so left as pretrained: {left}."] if left else []
    for (story, people), rows in tests.groupby(["story", "people"], sort=False):
        is_whole = rows["region"].str.endswith(ALL)
        at = {(row.condition, row.reference): row for row in rows[is_whole].itertuples()}
        own = table.merge(rows.loc[is_whole, ["story", "people", "backbone", "region"]].drop_duplicates())
        score, alone, ceiling = own.loc[own["condition"] == "pretrained", list(SCORES)].mean()
        who = f"{story}, {rows['n_participants'].max()} people {people}".strip()
        what = f"r = {score:.3f} with the pretrained model, {alone:.3f} with word rate, envelope and position alone"
        found.append(f"{who}, all regions: {what}; the noise ceiling is {ceiling:.3f}.")
        beside = rows[(rows["condition"] == "pretrained") & (rows["reference"] == NUISANCE)]
        better, sure = beside["difference"] > 0, beside["q"] < LEVEL
        said = f"above these in {better.sum()} of {len(beside)} panels, significantly in {(better & sure).sum()}"
        found.append(f"{who}: the pretrained model is {said}; significantly below them in {(~better & sure).sum()}.")
        for against in dict.fromkeys(("pretrained", controls_of(study).get(mean))):
            if (mean, against) in at:
                found.append(f"{who}, all regions: {mean} minus {against} {_told(at[mean, against])}.")
    tested = tests[~tests["reference"].isin([CHANCE, NUISANCE]) & tests["p"].notna()]
    earned = tested[tested["star"]].itertuples()
    what = [f"{r.condition} minus {r.reference}, {r.region}, {r.story} {r.people} {_told(r)}" for r in earned]
    said = "; ".join(what) or "none"
    return found + [f"Of {len(tested)} tested differences between models, q < {LEVEL:g} in {said}."] * bool(len(tested))


def _told(row: tuple) -> str:
    return f"{row.difference:+.4f} (95 % interval {row.low:+.4f} to {row.high:+.4f}, q = {row.q:.2f})"


def draw(study: Study, statistics: pd.DataFrame, note: str) -> Figure:
    """Difference of every model over people, with its interval, from the pretrained model and from its control.

    Of the figure's backbone; `statistics` are those of `real_brains.compare` with `controls_of`. A row a story and kind
    of people, a panel a region. '=' is a model that is as it was pretrained, a star a difference with q < .05.
    """
    shown, controls = statistics[statistics["backbone"] == study.figure_backbone], controls_of(study)
    models: dict[str, str] = {}
    for mean, conditions in seeds_of(study).items():
        models |= {mean: mean} | {c: f"seed {study.tuning_of(c).seed}" for c in conditions}
    models |= {c: c for c in study.conditions if c not in models and c != "pretrained"}
    row_inches, n_rows = 0.55 + LINE_INCHES * len(models), shown.groupby(["story", "people"]).ngroups
    fig = Figure(figsize=(WIDTH, 0.7 + n_rows * row_inches), layout="constrained")
    drawn = shown["reference"].isin(["pretrained", *controls.values()])
    widest = 1.1 * shown.loc[drawn, ["low", "high", "difference"]].abs().max(axis=None)
    tick = float(f"{0.6 * widest:.0e}")
    for _, _, ax, of_region in panels(fig, shown):
        _lines(ax, of_region, list(models), controls)
        ax.set(xlim=(-widest, widest), ylim=(len(models) - 0.5, -0.5))
        ax.set_yticks(range(len(models)), models.values())
        ax.set_xticks([-tick, tick])
        ax.set_xlabel("change in r")
    fig.legend(handles=[Line2D([], [], ls="", ms=3.4, **look) for look in LOOKS], loc="outside upper center", ncols=2)
    small_print_below(fig, f"{note}. 95 % intervals over people. =: as pretrained. *: {STAR}; variants and means apart")
    return fig


def _lines(ax: Axes, rows: pd.DataFrame, models: list[str], controls: Mapping[str, str]) -> None:
    """One panel of `draw`."""
    for row in rows[rows["condition"].isin(models)].itertuples():
        control = row.reference == controls.get(row.condition)
        place = models.index(row.condition) + 0.17 * (1 if control else -1)
        if not control and row.untuned and row.reference == "pretrained":
            ax.text(0, place, "=", ha="center", va="center", fontsize=8)
        elif control or row.reference == "pretrained":
            ax.plot([row.low, row.high], [place, place], color=LOOKS[control]["color"], lw=0.9)
            ax.plot(row.difference, place, ls="", ms=2.8, mew=0.7, **LOOKS[control])
            if row.star:
                ax.text(row.high, place, " *", ha="left", va="center", fontsize=9, color=LOOKS[control]["color"])
    ax.axvline(0, color="0.5", lw=0.6, zorder=0)
