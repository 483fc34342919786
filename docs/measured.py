"""Results in Markdown, from tables that are committed: `python docs/measured.py` puts them into README.md.

A study, or a measurement on a GPU, has its rows as soon as its files are there. Nothing is typed.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import pandas as pd
from braintuning.alignment.stats import mean_interval

ROOT = Path(__file__).resolve().parents[1]
FIGURES, BENCHMARKS, README = ROOT / "figures", ROOT / "benchmarks" / "results", ROOT / "README.md"
BEGIN, END = "<!-- made by docs/measured.py -->", "<!-- end -->"
PRETRAINED = "pretrained"
REGIONS = {"late_language": "late language regions", "primary_auditory": "primary auditory cortex"}
JOINTLY = {"multi-brain-tuned": "multi-random-brain-tuned"}
PAIRS = {"brain-tuned": "random-brain-tuned", **JOINTLY}
"""Conditions that learn from responses, and the control of each, which learns from permuted ones."""
NOTHING = "–"
"""Where something was not measured, or not compared."""
ENOUGH = 6
"""Participants from whom on one interval over participants is given, instead of one for each."""
STUDIES = {
    "demo-eight": "eight simulated listeners",
    "real-brains": "people, tuned on Pie Man",
}
TASKS = {"phonemes": "phonemes", "word_identity": "words", "emotion": "emotions", "intent": "intents", "mfcc": "MFCCs"}
TASKS |= {"asr": "recognition", "asr_tuned": "recognition, trunk tuned"}
JOINT = ", tuned jointly"
HEAD = (
    *("study", "measure", "pretrained", "brain-tuned", "permuted"),
    *("brain-tuned − pretrained (95 % interval)", "brain-tuned − permuted (95 % interval)"),
)


def number(value: float, digits: int = 3) -> str:
    """A value with a proper minus, or a dash where there is none."""
    return NOTHING if pd.isna(value) else f"{value:.{digits}f}".replace("-", "−")


def change(row: pd.Series, digits: int = 3) -> str:
    """A difference with its sign and its interval, or a dash where there is none.

    It is starred if its test over participants has q < .05.
    """
    if pd.isna(row["difference"]):
        return number(row["difference"])
    star = row.get("q", 1.0) < 0.05 and row.get("n_participants", 1) >= ENOUGH
    sign = "+" if row["difference"] >= 0 else ""
    interval = f"({number(row['low'], digits)} to {number(row['high'], digits)})"
    return f"{sign}{number(row['difference'], digits)} {interval}" + (r" \*" if star else "")


def probability(value: float, equals: str = "") -> str:
    """A p or q value; the least that is told apart is .001."""
    return "< 0.001" if value < 0.001 else equals + number(value)


def markdown(head: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A table in Markdown."""
    head = list(head)
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in (head, ["---"] * len(head), *rows))


def read(study: str, name: str) -> pd.DataFrame:
    """A committed table of a study, empty where it has none."""
    path = FIGURES / study / f"{name}.csv"
    return pd.read_csv(path) if path.is_file() else pd.DataFrame()


def rows_where(table: pd.DataFrame, **values: object) -> pd.DataFrame:
    """Rows of a table that have a value in each of some columns."""
    return table[(table[list(values)] == list(values.values())).all(axis=1)]


def last_layer(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of each backbone's last layer."""
    return table[table["layer"] == table.groupby("backbone")["layer"].transform("max")]


def of_participants(changes: pd.DataFrame) -> str:
    """Differences over participants where these are `ENOUGH`, else participant by participant; a dash for none."""
    over = changes[changes["participant"] == "all"]
    if len(over) and over["n_participants"].iloc[0] >= ENOUGH:
        return change(over.iloc[0])
    return "<br>".join(change(row) for _, row in changes.drop(over.index).iterrows()) or NOTHING


def mean_change(differences: pd.Series, digits: int = 3) -> str:
    """Mean of participants' differences and its interval, where there are `ENOUGH`, else a dash."""
    known = differences.dropna()
    if len(known) < ENOUGH:
        return NOTHING
    low, high = mean_interval(known.to_numpy())
    return change(pd.Series({"difference": known.mean(), "low": low, "high": high}), digits)


def difference(table: pd.DataFrame, value: str, condition: str, reference: str, digits: int = 3) -> str:
    """Mean difference of two conditions and its interval, over participants who have a model of each.

    A model that all participants share, in a row without a participant, is the reference of each of them.
    """
    rows = table.drop_duplicates(["participant", "condition"]).set_index("participant")
    own, others = (rows.loc[rows["condition"] == name, value] for name in (condition, reference))
    shared = len(others) == 1 and others.index.isna().all()
    return mean_change(own - (others.iloc[0] if shared else others), digits)


def compared(table: pd.DataFrame) -> Iterator[tuple[str, tuple[str, str, str], str]]:
    """Each backbone of a table with a tuned condition: name, the three conditions compared, and words for both."""
    several = table["backbone"].nunique() > 1
    for backbone, rows in table.groupby("backbone", sort=False):
        for condition, control in PAIRS.items():
            if condition in set(rows["condition"]):
                words = (f", {backbone}" if several else "") + (JOINT if "multi" in condition else "")
                yield backbone, (PRETRAINED, condition, control), words


def means(table: pd.DataFrame, value: str, conditions: Iterable[str], digits: int = 3) -> list[str]:
    """Mean of a column in each condition."""
    found = table.groupby("condition")[value].mean()
    return [number(found.get(condition, float("nan")), digits) for condition in conditions]


def people(study: str) -> Iterator[list[str]]:
    """Rows of `HEAD`: correlation with people's responses, means over all regions and over seeds."""
    table, changes = read(study, "real_brains"), read(study, "real_brains_statistics")
    if table.empty:
        return
    parts = table.assign(people=table["people"].fillna("")).groupby(["story", "people", "backbone"], sort=False)
    for (story, of, backbone), rows in parts:
        rows = rows_where(rows, region="all regions")
        conditions = [over_seeds(rows, condition) for condition in (PRETRAINED, *next(iter(JOINTLY.items())))]
        own = rows_where(
            changes.fillna({"people": ""}), story=story, people=of, backbone=backbone, region="all regions"
        )
        seeds = " and ".join(dict.fromkeys(filter(None, (name.partition(", ")[2] for name in conditions[1:]))))
        whom = ", ".join(filter(None, [f"{rows['participant'].nunique()} people {of}".strip(), seeds]))
        name = f"r over all regions, {story}, {whom}"
        yield [name, *means(rows, "score", conditions), *changed(own, "reference", conditions)]


def changed(changes: pd.DataFrame, column: str, conditions: tuple[str, str, str]) -> list[str]:
    """Differences of the tuned condition from the pretrained and from the permuted one, which `column` names."""
    own = rows_where(changes, condition=conditions[1]) if "condition" in changes else changes
    return [of_participants(own[own[column] == reference]) for reference in (PRETRAINED, conditions[2])]


def over_seeds(table: pd.DataFrame, condition: str) -> str:
    """The name under which a table has the mean of a condition over seeds; the condition's own where it has none."""
    return next((name for name in table["condition"].unique() if name.startswith(f"{condition}, ")), condition)


def alignment(study: str) -> Iterator[list[str]]:
    """Rows of `HEAD`: alignment over the noise ceiling at the last layer, from figure 2."""
    table, changes = read(study, "fig2"), read(study, "fig2_statistics")
    for backbone, conditions, words in compared(table) if len(table) else ():
        for roi, region in REGIONS.items():
            rows = rows_where(last_layer(table), backbone=backbone, roi=roi)
            own = changed(rows_where(changes, backbone=backbone, roi=roi), "reference", conditions)
            yield [f"alignment, {region}{words}", *means(rows, "alignment", conditions), *own]


def impact(study: str, removal: str = "every lag") -> Iterator[list[str]]:
    """Rows of `HEAD`: low-level impact R of all features together in late language regions, in %, from figure 3."""
    table, changes = read(study, "fig3"), read(study, "fig3_statistics")
    for backbone, conditions, words in compared(table) if len(table) else ():
        where = {"backbone": backbone, "roi": "late_language", "feature": "all", "removal": removal}
        own = rows_where(changes, condition=conditions[1], **where)
        rows = rows_where(last_layer(table), **where)
        values = means(rows, "r_percent", conditions, 0)
        name = f"low-level impact R (removal: {removal}), late language regions, %{words}"
        yield [name, *values, change(own.iloc[0], 1), difference(rows, "r_percent", *conditions[1:], 1)]


def residual(study: str) -> str:
    """How well ridge regression still decodes low-level features after their removal, from figure 3, with chance.

    Of the pretrained model's last layer; for `all` of the feature that is left most above chance.
    """
    table = rows_where(last_layer(read(study, "fig3")), condition=PRETRAINED, roi="late_language")
    columns = ["readout", "readout_removed", "readout_chance"]
    found = table.groupby(["removal", "feature"], sort=False)[columns].mean()
    rows = ([feature.replace("_", " "), way, *(number(r, 2) for r in row)] for (way, feature), row in found.iterrows())
    return markdown(("removed", "how", "decoded before", "decoded after", "chance"), rows)


def preference(study: str) -> Iterator[list[str]]:
    """Rows of `HEAD`: semantic preference of the last layer, from figure 5."""
    table, changes = read(study, "fig5"), read(study, "fig5_statistics")
    for backbone, conditions, words in compared(table) if len(table) else ():
        rows = rows_where(last_layer(table), backbone=backbone)
        own = rows_where(last_layer(changes), backbone=backbone, condition=conditions[1])
        over = mean_change(own["difference"]) if len(own) >= ENOUGH else of_participants(own)
        beyond = difference(rows, "preference", *conditions[1:])
        yield [f"semantic preference{words}", *means(rows, "preference", conditions), over, beyond]


def chosen_layer(study: str) -> pd.DataFrame:
    """Scores of every model on every task at the layer that validation chose, from figure 4."""
    table, model = read(study, "fig4"), ["task", "backbone", "condition", "participant"]
    if table.empty:
        return table
    above = table[table["layer"] > 0]
    return above.loc[above.groupby(model, dropna=False)["validation"].idxmax()]


def tasks(study: str) -> Iterator[list[str]]:
    """Rows of `HEAD`: scores of downstream tasks at the layer that validation chose, from figure 4."""
    best, changes = chosen_layer(study), read(study, "fig4_statistics")
    for backbone, conditions, words in compared(best) if len(best) else ():
        for task, title in TASKS.items():
            rows = rows_where(best, task=task, backbone=backbone)
            own = rows_where(changes, task=task, backbone=backbone)
            of_joint = own["participant"].isna().all()
            if len(rows) and len(own) and of_joint == ("multi" in conditions[1]):
                name = f"{title}, {rows['metric'].iloc[0]}{words}"
                yield [name, *means(rows, "value", conditions), *changed(own, "against", conditions)]


def rows_of(study: str) -> list[list[str]]:
    """All rows of `HEAD` that a study has, without its name."""
    return [row for part in (people, alignment, impact, preference, tasks) for row in part(study)]


def results(study: str) -> str:
    """Results of a study, or a sentence that says that there are none."""
    rows = rows_of(study)
    return markdown(HEAD[1:], rows) if rows else f"*Tables of the study `{study}` are not in the repository yet.*"


def claims(study: str) -> str:
    """Each claim of the paper with its effect, interval and verdict, from `claims.csv`."""
    table = read(study, "claims").rename(columns={"effect": "difference"})
    heads = ("claim", "model", "measure", "effect (95 % interval)", "q", "verdict")
    shown = (
        [row["claim"], row["backbone"], row["measure"], change(row), probability(row["q"]), row["verdict"]]
        for _, row in table.iterrows()
    )
    return markdown(heads, shown)


def conditions(study: str) -> str:
    """Mean alignment of the last layer in late language regions, a row a backbone and a column a condition."""
    table = rows_where(last_layer(read(study, "fig2")), roi="late_language")
    wide = table.pivot_table("alignment", "backbone", "condition", sort=False)
    return markdown(("", *wide.columns), ([name, *map(number, row)] for name, row in wide.T.items()))


def keeping(study: str) -> str:
    """What brain-tuning changes, and with the condition `keeping`, in figures 2 to 5, over participants."""
    late = {"roi": "late_language"}
    removed = {"feature": "all", "removal": "every lag"}
    rows = [
        *((f"alignment, {of}", rows_where(last_layer(read(study, "fig2")), roi=roi), "alignment", 3)
          for roi, of in REGIONS.items()),
        ("low-level impact R, late language regions, %", rows_where(last_layer(read(study, "fig3")), **late, **removed),
         "r_percent", 1),
        ("semantic preference", last_layer(read(study, "fig5")), "preference", 3),
        *((f"{name}, {rows['metric'].iloc[0]}", rows, "value", 3) for task, name in TASKS.items()
          if len(rows := rows_where(chosen_layer(study), task=task))),
    ]  # fmt: skip
    pairs = (("brain-tuned", PRETRAINED), ("keeping", PRETRAINED), ("keeping", "brain-tuned"))
    cells = (
        [name, *(difference(table, value, *pair, digits) for pair in pairs)] for name, table, value, digits in rows
    )
    return markdown(("", *(f"{one} − {other}" for one, other in pairs)), cells)


def gains(study: str) -> str:
    """Gain in late language regions by amount of tuning, each listener with an interval over blocks, from figure C1."""
    table = read(study, "figC1").rename(columns={"gain": "difference"})
    rows = []
    for (tuning, together, _), dose in table.groupby(["tuning", "participants", "n_stories"], sort=False):
        over = (dose[dose["over"] == reference] for reference in (PRETRAINED, "permuted"))
        cells = ("<br>".join(change(row) for _, row in of_one.iterrows()) or "–" for of_one in over)
        rows.append([tuning, together, number(dose["minutes"].mean(), 0), *cells])
    return markdown(("tuning", "listeners tuned jointly", "minutes of each", "over pretrained", "over permuted"), rows)


def expected_gains(study: str) -> str:
    """What the fitted curve expects of one participant's minutes alone, with its interval, from figure C1."""
    table = rows_where(read(study, "figC1_expected"), participants=1).rename(columns={"gain": "difference"})
    by = ["tuning", "over"]
    rows = ([*names, *(change(row) for _, row in of_law.iterrows())] for names, of_law in table.groupby(by, sort=False))
    return markdown((*by, *(f"{minutes} min" for minutes in table["minutes"].unique())), rows)


def regions(study: str) -> str:
    """Mean correlation with people's responses in each region: noise ceiling, nuisance and the pretrained model."""
    table = rows_where(read(study, "real_brains_parcels"), condition=PRETRAINED)
    heads = {"ceiling": "noise ceiling", "nuisance_score": "word rate, envelope, position", "score": "model"}
    shown = ([row["region"], *(number(row[name]) for name in heads)] for _, row in table.iterrows())
    return markdown(("region", *heads.values()), shown)


def untuned(study: str) -> str:
    """Semantic preference of pretrained models at the last layer, in words that voices spoke and in people's."""
    tables = {"by voices": read(study, "fig5"), "by people": read(study, "fig5_recorded")}
    found = {name: rows_where(last_layer(table), condition=PRETRAINED) for name, table in tables.items() if len(table)}
    models = list(dict.fromkeys(backbone for rows in found.values() for backbone in rows["backbone"]))
    firsts = {name: rows.groupby("backbone").first() for name, rows in found.items()}
    cells = ([interval(rows.loc[model], "preference") for rows in firsts.values()] for model in models)
    return markdown(("words spoken", *firsts), ([model, *row] for model, row in zip(models, cells, strict=True)))


def interval(row: pd.Series, value: str) -> str:
    """A value with its interval."""
    return f"{number(row[value], 2)} ({number(row['low'], 2)} to {number(row['high'], 2)})"


def probes() -> str:
    """Phonemes of an hour of LibriSpeech, at the layer that validation chose, from `probes*.csv`."""
    scores = pd.read_csv(BENCHMARKS / "probes_scores.csv")
    scores = rows_where(scores[scores["layer"] > 0], task="phonemes")
    best = scores.loc[scores.groupby("model", sort=False)["validation"].idxmax()]
    against = pd.read_csv(BENCHMARKS / "probes_differences.csv")
    rows = []
    for _, row in best.iterrows():
        beyond = rows_where(against, task="phonemes", model=row["model"])
        said = (f"{one['against']}: {change(one)}, p {probability(one['p'], '= ')}" for _, one in beyond.iterrows())
        more = "<br>".join(said)
        rows.append([row["model"], interval(row, "value"), number(row["duration_loudness"], 2), more])
    return markdown(("model", "macro F1", "from duration and loudness alone", "more than"), rows)


def minutes(study: str) -> str:
    """How long the jobs of a study took, and its longest step; '' where nothing says so."""
    table = read(study, "times")
    if table.empty:
        return ""
    column, kind = ("cpu_minutes", "CPU time") if "cpu_minutes" in table else ("minutes", "jobs")
    step, longest = table.set_index("step")[column].idxmax(), table[column].max()
    machine = f" on {table['machine'].iloc[0]}" if "machine" in table else ""
    return f"It took {table[column].sum():.0f} minutes of {kind}{machine}, {longest:.0f} of them in step `{step}`."


def speed(device: str) -> str:
    """What each step does in a second on `cpu` or `cuda`, at its largest size, beside the published procedure."""
    table = pd.read_csv(BENCHMARKS / f"{device}.csv").dropna(subset="per_second")
    table = table[table["part"].isin(["tuning", "features", "features, models", "ridge"])]
    table = table[table["size"] == table.groupby("part")["size"].transform("max")]
    rows = (
        [
            row["part"],
            row["variant"],
            f"{row['per_second']:,.{2 if row['per_second'] < 100 else 0}f} {row['unit']}",
            number(row["over_published"], 1),
            number(row["peak_gib"], 1),
        ]
        for _, row in table.sort_values("part", kind="stable").iterrows()
    )
    (machine,) = table["device"].unique()
    return f"{machine}.\n\n" + markdown(("step", "variant", "rate", "times published", "GiB"), rows)


def speed_in_a_sentence() -> str:
    """The same in one sentence, for README.md."""
    table = pd.read_csv(BENCHMARKS / "cuda.csv").dropna(subset="over_published").sort_values("size")
    times = table.groupby(["part", "variant"])["over_published"].last()
    tuning, device = times["tuning"], table["device"].iloc[-1].partition(";")[0]
    return (
        f"On one {device}, tuning is {number(tuning['ours'], 1)} times as fast as the published procedure "
        f"({number(tuning['ours, spans and components'], 1)} with spans and components), features "
        f"{number(times['features', 'ours'], 1)} times, and a layer's encoding models "
        f"{number(times['ridge', 'ours'], 0)} times; the published procedure fits those on the CPU."
    )


def precision() -> str:
    """How far losses and alignment in bfloat16 are from float32, by recipe."""
    table = pd.read_csv(BENCHMARKS / "cuda.csv")
    table = table[table["part"] == "precision"]
    return markdown(("tuned with", "bfloat16 beside float32"), table[["variant", "note"]].to_numpy())


def block() -> str:
    """The part of README.md between `BEGIN` and `END`, both included."""
    rows = []
    for study, title in STUDIES.items():
        own = [row for row in rows_of(study) if not row[0].endswith(JOINT)]
        rows += [["" if n else f"**{study}**: {title}", *row] for n, row in enumerate(own)]
    return f"{BEGIN}\n{markdown(HEAD, rows)}\n\n{speed_in_a_sentence()}\n{END}"


def with_results(text: str) -> str:
    """A text with the results put between its two marks."""
    return re.sub(rf"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: block(), text, count=1, flags=re.DOTALL)


if __name__ == "__main__":
    README.write_text(with_results(README.read_text()))
