"""Each figure as a whole, drawn from planted tables: against a picture of it, and its texts apart and on the page."""

import subprocess
import sys
from importlib.resources import files
from itertools import combinations, product
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from braintuning.cortex.colours import Reliability
from braintuning.cortex.regions import GROUPS, hcp_mmp_labels, members
from braintuning.cortex.subject import fs_lr_cortex_of_vertices
from braintuning.cortex.surface import fs_lr
from braintuning.figures import alignment, claims, dose, impact, panels, preference, scheme, style, tables, tasks
from braintuning.figures.map_and_bars import draw_changes
from braintuning.lowlevel.features import FROM_TIER
from braintuning.lowlevel.nuisance import NUISANCE
from braintuning.lowlevel.removal import REMOVALS
from braintuning.preference.pairs import PAIR_TYPES
from braintuning.probes.tasks import TASKS
from braintuning.results import REPOSITORY
from braintuning.study import load_study
from matplotlib import rc_context
from matplotlib.figure import Figure

compared = pytest.mark.mpl_image_compare(
    baseline_dir="../../images", tolerance=4, style="default", deterministic=True, savefig_kwargs={"dpi": 70}
)
NOTE = "planted values. Surface and regions: HCP S1200 fs_LR, Glasser et al. 2016"
FEATURES = ("power_spectrum", "articulation", "all")


@pytest.fixture(scope="module")
def study():
    return load_study(REPOSITORY / "tests" / "grid.yaml")


def alignments(study, layers=3):
    """Alignment and impact R that rise with layer, region and condition; R of one model is missing in one region."""
    rows = []
    for participant, run in study.alignments():
        for layer in range(layers):
            for height, roi in enumerate(style.REGIONS):
                rank = study.conditions.index(run.condition)
                value = 0.1 + 0.02 * rank + 0.05 * layer + 0.2 * height + 0.01 * study.participants.index(participant)
                rows.append((participant, run.backbone, run.condition, layer, roi, value))
    table = pd.DataFrame(rows, columns=["participant", "backbone", "condition", "layer", "roi", "alignment"])
    table = table.assign(
        hours=(1 + table["layer"]) / 10, n_stories=1 + table["layer"], r_percent=100 * table["alignment"]
    )
    person = table["participant"].map(study.participants.index)
    table = table.assign(nuisance=0.13 + 0.015 * person + 0.1 * (table["roi"] == style.REGIONS[1]))
    table = table.assign(nuisance_percent=100 * table["nuisance"] / table["alignment"])
    table = table.assign(nuisance_features=", ".join(NUISANCE))
    lost = (table["condition"] == "stimulus-tuned") & (table["roi"] == style.REGIONS[0])
    return table.assign(r_percent=table["r_percent"].where(~lost), n_layers=layers, n_voxels=100, phones=FROM_TIER)


def cortex_maps(monkeypatch):
    """Planted maps in place of those of a study's results, and a dataset of one cortex."""
    labels, surface = hcp_mmp_labels(), fs_lr()
    change = 0.1 * members(labels, "late_language") - 0.1 * members(labels, "primary_auditory")
    ceiling = Reliability(
        0.8 * (members(labels, "late_language") | members(labels, "early_auditory")), "ceiling", 0.4, 0.6
    )
    change = np.where(surface.cortex, change, np.nan)
    monkeypatch.setattr(tables, "reliability", lambda *_: ceiling)
    monkeypatch.setattr(tables, "alignment_change", lambda *_, **__: change)
    monkeypatch.setattr(impact, "change_map", lambda *_: -change)
    return SimpleNamespace(cortex=lambda participant: fs_lr_cortex_of_vertices())


def fig1(study, monkeypatch):
    """A sound that comes and goes, and a volume in auditory and language regions."""
    cortex, wave = fs_lr_cortex_of_vertices(), np.sin(np.arange(160_000) / 9) * np.sin(np.arange(160_000) / 9000)
    language = members(cortex.voxel_labels, "late_language")
    volume = np.where(language, -1.0, 1.5 * members(cortex.voxel_labels, "early_auditory"))
    volume[~(language | members(cortex.voxel_labels, "early_auditory"))] = np.nan
    maps = scheme.Maps(volume, -volume, 0.5 * np.abs(volume))
    model = scheme.Model("whisper-tiny.en", 4, 384, 1_200_000, 7_100_000)
    return scheme.draw(study, model, wave, np.sin(np.arange(500) / 120) ** 2, maps, cortex, NOTE)


def fig2(study, monkeypatch):
    return alignment.draw(study, alignments(study), changes(study), cortex_maps(monkeypatch), NOTE)


def changes(study):
    """What eight participants differ from pretrained by, with one star."""
    rows = [
        (roi, backbone, condition, 0.02 * study.conditions.index(condition))
        for roi, backbone in product(style.REGIONS, study.tuned_backbones)
        for condition in study.conditions_of(backbone)
        if condition != "pretrained"
    ]
    table = pd.DataFrame(rows, columns=["roi", "backbone", "condition", "difference"])
    starred = (table[["roi", "condition"]] == ["late_language", "brain-tuned"]).all(axis=1)
    table = table.assign(reference="pretrained", participant="all", n_participants=8, family="over participants")
    ends = {"low": table["difference"] - 0.01, "high": table["difference"] + 0.02}
    return table.assign(p=0.01, q=np.where(starred, 0.01, 0.2), star=starred, **ends)


def impacts(study):
    """R of every feature, and half of it in the way of removal that is not drawn."""
    drawn = pd.concat([alignments(study).assign(feature=name) for name in FEATURES])
    other = next(way for way in REMOVALS if way != study.low_level.removal)
    halved = drawn.assign(removal=other, r_percent=drawn["r_percent"] / 2)
    return pd.concat([halved, drawn.assign(removal=study.low_level.removal)])


def fig3(study, monkeypatch):
    table = impacts(study)
    statistics = changes(study).drop(columns=["reference", "participant", "family"])
    statistics = statistics.assign(feature="all", removal=study.low_level.removal, n_participants=2, q=np.nan)
    return impact.draw(study, table, statistics, cortex_maps(monkeypatch), NOTE)


def fig3_features(study, monkeypatch):
    return impact.draw_features(study, impacts(study), NOTE)


def fig4(study, monkeypatch):
    rows = [
        (
            task,
            run.backbone,
            run.condition,
            run.participant or "",
            1,
            0.3 + 0.05 * study.conditions.index(run.condition),
        )
        for task in study.probes.tasks
        for run in study.runs()
    ]
    table = pd.DataFrame(rows, columns=["task", "backbone", "condition", "participant", "layer", "value"])
    table = table.assign(validation=table["value"], baseline=0.2, random_features=0.1, corpus="spoken words")
    table = table.assign(n_test_speakers=6, converged=True)
    table["metric"] = [getattr(TASKS[task], "metric", "macro F1") for task in table["task"]]
    table = table.assign(low=table["value"] - 0.05, high=table["value"] + 0.05)
    statistics = pd.DataFrame(columns=["task", "backbone", "against", "participant", "n_participants", "p", "q"])
    return tasks.draw(study, table, statistics, NOTE)


def fig5(study, monkeypatch):
    rows = [
        (run.participant or "", run.backbone, run.condition, layer, kind, 0.8 - 0.3 * k, -0.5 + 0.03 * layer * rank)
        for run in study.runs()
        for rank in [study.conditions.index(run.condition)]
        for layer in range(3)
        for k, kind in enumerate(PAIR_TYPES)
    ]
    columns = ["participant", "backbone", "condition", "layer", "pair_type", "similarity", "preference"]
    table = pd.DataFrame(rows, columns=columns)
    for name, ends in (("preference", ("low", "high")), ("similarity", ("similarity_low", "similarity_high"))):
        table = table.assign(**{end: table[name] + step for end, step in zip(ends, (-0.05, 0.08), strict=True)})
    changes = table[(table["pair_type"] == PAIR_TYPES[0]) & (table["condition"] != "pretrained")]
    before = table[table["condition"] == "pretrained"].groupby(["backbone", "layer"])["preference"].first()
    keys = pd.MultiIndex.from_frame(changes[["backbone", "layer"]])
    changes = changes.assign(difference=changes["preference"].to_numpy() - before.reindex(keys).to_numpy())
    changes = changes.assign(low=changes["difference"] - 0.02, high=changes["difference"] + 0.02)
    changes = changes[["participant", "backbone", "condition", "layer", "difference", "low", "high"]]
    return preference.draw(study, table, changes, NOTE)


def figA1(study, monkeypatch):
    ceiling = np.full(fs_lr_cortex_of_vertices().n_voxels, 0.2)
    ceiling[members(hcp_mmp_labels(), "late_language")[fs_lr().cortex]] = 0.8
    monkeypatch.setattr(tables, "noise_ceiling_of", lambda *_: ceiling)
    numbers = dict(n_above=4_000, n_voxels=59_412, n_noise=812.3, n_repeating=3_100, threshold=0.4, published=None)
    table = pd.DataFrame([dict(participant=participant, **numbers) for participant in study.participants])
    return panels.ceilings(study, table, cortex_maps(monkeypatch), NOTE)


def figure_of(draw):
    return lambda study, monkeypatch: draw(study, alignments(study), NOTE)


def claim_figure(study, monkeypatch):
    rows = [
        (
            claim.text,
            backbone,
            claim.condition,
            claim.measure,
            claim.direction,
            0.1 * (k % 5 - 1),
            "supported" if k % 3 else "not shown",
        )
        for backbone in study.tuned_backbones
        for k, claim in enumerate(claims.CLAIMS)
    ]
    columns = ["claim", "backbone", "condition", "measure", "direction", "effect", "verdict"]
    judged = pd.DataFrame(rows, columns=columns)
    judged.loc[3, "effect"] = np.nan
    judged = judged.assign(
        low=judged["effect"] - 0.05, high=judged["effect"] + 0.05, n_participants=6, interval="participants"
    )
    held_out = judged["measure"] == claims.FIFTH
    judged.loc[held_out, ["verdict", "n_participants"]] = "no verdict (n = 2)", 2
    return claims.draw(study, judged, NOTE)


def figC1(study, monkeypatch):
    """Gains that saturate, half as large over the control, of four people alone and jointly, two of them noisier."""
    rng, rows = np.random.default_rng(0), []
    for tuning, plateau in (("components, ridge head, spans of 30 s", 0.06), ("voxels, zero head, clips", 0.02)):
        for n, minutes in product((1, 2, 4) if plateau == 0.06 else (1,), (4, 8, 20, 41, 87, 190)):
            for k, over in product(range(n if n > 1 else 4), dose.REFERENCES):
                ceiling = (0.6, 0.55, 0.35, 0.3)[k]
                gain = plateau * (1 - np.exp(-minutes * n * ceiling**2 / 10)) * (0.5 if over == dose.PERMUTED else 1)
                rows.append((f"SIM0{k}", tuning, over, minutes, n, ceiling, 1 + (k > 1), gain))
    names = ["participant", "tuning", "over", "minutes", "participants", "ceiling", "noise", "gain"]
    table = pd.DataFrame(rows, columns=names).assign(block_rows=10)
    table = table.assign(n_stories=table["minutes"], low=table["gain"] - 0.01, high=table["gain"] + 0.01)
    values = table["gain"].to_numpy()[:, None] + 0.05 * rng.standard_normal((len(table), 120))
    return dose.draw(table, dose.laws(table, values), f"{NOTE}. {dose.SOURCES}")


FIGURES = {
    "fig1": fig1,
    "fig2": fig2,
    "fig3": fig3,
    "fig3_features": fig3_features,
    "fig4": fig4,
    "fig5": fig5,
    "figA1": figA1,
    "figA2": figure_of(panels.base_and_large),
    "figA3": figure_of(panels.layers),
    "figA4": lambda study, _: panels.participants(study, tables.at_layer(alignments(study), -1), NOTE),
    "figA5": figure_of(panels.language_models),
    "figB1": figure_of(panels.draw_amounts),
    "figB2": figure_of(panels.transfer),
    "figB3": figure_of(panels.ablation),
    "figC1": figC1,
    "claims": claim_figure,
}


def shown_ticks(axis):
    low, high = sorted(axis.get_view_interval())
    return [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]


def texts_of(fig: Figure):
    """Texts that a figure shows: its own, titles, labels, ticks, legends and what is written on axes."""
    found = list(fig.texts)
    found += [text for legend in fig.legends for text in legend.get_texts()]
    for ax in fig.axes:
        found += [ax.title, *(text for text in ax.texts if text.get_gid() != "casing")]
        if ax.axison:
            found += [ax.xaxis.label, ax.yaxis.label, *shown_ticks(ax.xaxis), *shown_ticks(ax.yaxis)]
        if ax.get_legend():
            found += ax.get_legend().get_texts()
    return [text for text in found if text.get_text().strip() and text.get_visible()]


@compared
@pytest.mark.parametrize("name", FIGURES)
def test_figure(name, study, monkeypatch):
    with rc_context(fname=style.STYLE):
        fig = FIGURES[name](study, monkeypatch)
        fig.draw_without_rendering()
        boxes = [(text.get_text(), text.get_window_extent()) for text in texts_of(fig)]
    assert len(boxes) > 8
    overlapping = [(a, b) for (a, box), (b, other) in combinations(boxes, 2) if box.padded(-0.5).overlaps(other)]
    assert not overlapping
    for text, box in boxes:
        assert box.x0 >= -1 and box.x1 <= fig.bbox.width + 1 and box.y0 >= -1 and box.y1 <= fig.bbox.height + 1, text
    if name in ("fig1", "fig2", "fig4", "figA1", "claims"):
        for text in texts_of(fig):
            least = 5 if text.get_gid() == "name" else 6  # names within regions
            assert text.get_fontsize() * 7 / fig.get_figwidth() >= least, text
    return fig


@pytest.mark.parametrize(
    ("changes", "head", "compared", "pooled"),
    [
        (
            {"targets": "components", "n_components": 7, "pooling": "haemodynamic"},
            "7 components of ",
            "their components",
            "weighted by the haemodynamic",
        ),
        (
            {"targets": "voxels", "pooling": "mean", "clip_seconds": 8.0},
            "linear head ",
            "the two",
            "mean over the clip",
        ),
    ],
)
def test_the_scheme_says_what_the_study_says(study, monkeypatch, changes, head, compared, pooled):
    tuning = study.tuning.model_copy(update=changes)
    drawn = fig1(study.model_copy(update={"tuning": tuning}), monkeypatch)
    said = " ".join(" ".join(text.get_text() for text in texts_of(drawn)).split())
    n_voxels = np.isin(hcp_mmp_labels(), GROUPS["late_language"] + GROUPS["early_auditory"]).sum()
    expected = ["4 blocks of 384", "7.1 M tuned", "1.2 M frozen", "layers 0 to 4", f"{head}{n_voxels:,} voxels", pooled]
    expected += [
        f"mean squared error between {compared}",
        f"{tuning.clip_seconds:g} s of a story",
        f"windows of {study.features.window_seconds:g} s",
    ]
    assert all(words in said for words in expected), said


@pytest.mark.parametrize(("name", "column"), [("fig2", "nuisance"), ("fig3", "nuisance_percent")])
def test_the_line_across_the_bars_is_at_the_mean_of_the_table(name, column, study, monkeypatch):
    fig, table = FIGURES[name](study, monkeypatch), tables.at_layer(alignments(study), study.figures.layer)
    titled = {title: roi for roi, title in style.ROI_TITLES.items()}
    panels_of_bars = [ax for ax in fig.axes if ax.get_title() in titled]
    assert len(panels_of_bars) == len(style.REGIONS)
    for ax in panels_of_bars:
        of_roi = table[table["roi"] == titled[ax.get_title()]].assign(value=lambda t: t[column].clip(upper=100))
        means = of_roi.groupby(["backbone", "condition"])["value"].mean()
        expected = [
            means[backbone, condition]
            for backbone in study.tuned_backbones
            for condition in tables.shown_conditions(study)
        ]
        lines = [drawn for drawn in ax.collections if drawn.get_gid() == style.BASELINE_GID]
        heights = [piece[0, 1] for drawn in lines for piece in drawn.get_segments()]
        np.testing.assert_allclose(heights, expected)


def of_two_participants(study):
    """Differences of two participants, each with an interval over blocks of TRs."""
    both = pd.concat([changes(study).assign(participant=name, n_participants=1) for name in ("SIM01", "SIM02")])
    return pd.concat([both.assign(p=0.5, q=0.5), changes(study).assign(n_participants=2, p=np.nan, q=np.nan)])


@pytest.mark.parametrize(("statistics", "each"), [(changes, 1), (of_two_participants, 2)])
def test_what_differs_from_pretrained_is_below_its_bar_with_its_interval(statistics, each, study, monkeypatch):
    fig = alignment.draw(study, alignments(study), statistics(study), cortex_maps(monkeypatch), NOTE)
    below = [ax for ax in fig.axes if ax.get_ylabel() == "change"]
    assert len(below) == len(style.REGIONS)
    assert [ax.get_title(loc="left") for ax in fig.axes if ax.get_title(loc="left")] == ["c", "a", "b"]
    for ax, roi in zip(below, style.REGIONS, strict=True):
        places = style.bar_places(alignments(study), study.tuned_backbones, tables.shown_conditions(study))
        found = {}
        for line in ax.collections:
            for (x, low), (_, high) in line.get_segments():
                found.setdefault(round(x), []).append((low, high))
        rows = changes(study)
        for row in rows[rows["roi"] == roi].itertuples():
            if (row.backbone, row.condition) in places:
                ends = found[places[row.backbone, row.condition]]
                np.testing.assert_allclose(ends, [(row.low, row.high)] * each)
    said = " ".join(" ".join(text.get_text() for text in texts_of(fig)).split())
    assert ("interval over blocks of TRs" in said) == (each == 2)


def test_of_fewer_than_six_participants_each_change_of_r_is_a_point_without_an_interval(study):
    shown = alignments(study)
    shown, few = shown[shown["layer"] == 2], changes(study).assign(n_participants=4)
    found, said = impact.changes_of(shown, few)
    assert said == "each participant" and found["low"].equals(found["high"].rename("low"))
    one = found[(found["roi"] == "primary_auditory") & (found["condition"] == "lm-tuned")]
    one = one[one["backbone"] == "hubert-small"].set_index("participant")["difference"]
    assert one.to_dict() == pytest.approx(dict.fromkeys(study.participants, 100 * 0.02 * 4))
    assert impact.changes_of(shown, changes(study))[0].equals(changes(study))


@pytest.mark.parametrize("conditions", [("pretrained",), ("pretrained", "random-brain-tuned")])
def test_without_brain_tuned_models_there_are_bars_and_no_map(study, conditions):
    bare = {name: backbone.model_copy(update={"conditions": None}) for name, backbone in study.backbones.items()}
    few = study.model_copy(update={"conditions": conditions, "backbones": bare})
    statistics = impact.compare(few, impacts(few))
    assert set(statistics["condition"]) == set(conditions[1:]) and {"removal", "p", "q"} <= set(statistics)
    for fig in (
        alignment.draw(few, alignments(few), changes(few).iloc[:0], None, NOTE),
        impact.draw(few, impacts(few), statistics, None, NOTE),
    ):
        assert [axes.get_title() for axes in fig.axes if axes.get_title()] == list(map(style.title_of, style.REGIONS))
        assert any(" ".join(text.get_text().split()).startswith("No map: ") for text in texts_of(fig))


def test_figures_are_imported_without_torch():
    """They read results: a machine that only draws needs neither torch nor transformers to start."""
    names = sorted(path.name[:-3] for path in files("braintuning.figures").iterdir() if path.name.endswith(".py"))
    script = f"""import sys
from importlib import import_module
for name in {names}:
    import_module(f"braintuning.figures.{{name}}")
    assert not sys.modules.keys() & {{"torch", "transformers"}}, name
"""
    assert len(names) > 10
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_region_in_which_no_change_is_defined_has_no_scale():
    row = {"backbone": "a", "condition": "brain-tuned", "difference": np.nan, "low": np.nan, "high": np.nan}
    for difference, n_ticks in ((np.nan, 0), (0.2, 3)):
        ax = Figure().add_subplot()
        changes = pd.DataFrame([row | {"difference": difference}])
        draw_changes(ax, changes, changes, ["a"], ["brain-tuned"])
        assert len(ax.get_yticks()) >= n_ticks and (n_ticks or not len(ax.get_yticks()))
