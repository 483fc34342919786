"""Listeners who respond to word rate, envelope or position alone, and what the nuisance baseline makes of them."""

import json
from functools import cache

import h5py
import numpy as np
import pandas as pd
import pytest
import soundfile
import steps
import tiny
from braintuning.alignment.mask import used_voxels
from braintuning.cortex.regions import GROUPS
from braintuning.datasets import open_dataset
from braintuning.datasets.lebel import LebelDataset
from braintuning.datasets.textgrid import Interval
from braintuning.demo.textgrid_writer import write_textgrid
from braintuning.errors import MissingTier
from braintuning.figures import compare, impact, tables
from braintuning.figures.style import REGIONS
from braintuning.pipeline import align as align_step
from braintuning.pipeline.align import align, align_nuisance
from braintuning.pipeline.check import check, findings
from braintuning.pipeline.steps import grids_fingerprint, grids_of
from braintuning.results import load_arrays, save_arrays
from braintuning.study import Run, load_study
from tiny import N_VOXELS, TR, forbid

SECONDS, N_ROWS, LAGS = 300.0, 140, (1, 2)
STORIES = ("harbour", "orchard", "kitchen", "winter")
MODEL = Run("planted", "pretrained")
DRIVEN = N_VOXELS * 2 // 3


def word_starts(story):
    """Words that come faster and slower by turns."""
    rng = np.random.default_rng(STORIES.index(story))
    gaps = 0.3 + 0.6 * rng.random(900) * (1 + np.sin(np.arange(900) / rng.uniform(9, 14)))
    starts = 1 + np.cumsum(gaps)
    return starts[starts < SECONDS - 2]


def rate_by_hand(starts, time):
    x = (time - starts) / TR
    return (np.sinc(x) * np.sinc(x / 3) * (np.abs(x) < 3)).sum()


def audio_of(story):
    return tiny.sound(STORIES.index(story), SECONDS)


@cache
def frames_by_hand(story):
    return np.array([np.sqrt(np.mean(frame**2)) for frame in np.split(audio_of(story), round(100 * SECONDS))])


def level_by_hand(story, time):
    frames = frames_by_hand(story)
    x = (time - 0.01 * (np.arange(len(frames)) + 0.5)) / TR
    return (np.sinc(x) * np.sinc(x / 3) * (np.abs(x) < 3)) @ frames


DRIVES = {
    "word rate": lambda story, time: rate_by_hand(word_starts(story), time),
    "envelope": level_by_hand,
    "position": lambda story, time: (time / SECONDS - 0.6) ** 2,
}


def write_listener(files, participant, drive, rng):
    """Responses to one feature alone, a TR and two after it, in the first two thirds of the voxels; noise in all."""
    weights = rng.uniform(0.5, 1.0, (len(LAGS), N_VOXELS)) * (np.arange(N_VOXELS) < DRIVEN)
    for story in STORIES:
        times = LebelDataset(files.root, TR).tr_times("P1", story)
        lagged = np.array([[DRIVES[drive](story, time - TR * lag) for lag in LAGS] for time in times])
        signal = (lagged - lagged.mean(axis=0)) / lagged.std(axis=0) @ weights
        repeats = signal + rng.standard_normal((6, N_ROWS, N_VOXELS))
        files.write_responses(participant, story, repeats.mean(axis=0), repeats)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Participants P1, P2 and P3, who respond to one of `DRIVES` each."""
    files, rng = tiny.TinyDataset(tmp_path_factory.mktemp("nuisance") / "ds"), np.random.default_rng(5)
    for story in STORIES:
        files.wav(story).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(files.wav(story), audio_of(story), 16_000, subtype="PCM_16")
        words = [Interval("word", start, start + 0.2) for start in word_starts(story).tolist()]
        phones = [Interval("AH0", start, end) for _, start, end in words]
        write_textgrid(files.grid(story), {"phone": phones, "word": words}, SECONDS)
    files.volumes.parent.mkdir(exist_ok=True)
    files.volumes.write_text(json.dumps(dict.fromkeys(STORIES, N_ROWS + 20)))
    for number, drive in enumerate(DRIVES, 1):
        write_listener(files, f"P{number}", drive, rng)
    return files


def study_of(files, folder, **changes):
    content = tiny.study_content(files.root, folder / "none")
    content |= {
        "participants": ["P1", "P2", "P3"],
        "conditions": ["pretrained"],
        "backbones": {"planted": {"name": "x"}},
    }
    content |= {"stories": {"train": list(STORIES[:2]), "held_out": [STORIES[2]], "test": [STORIES[3]]}}
    content["encoding"] |= {"n_alphas": 5, "log10_alpha_min": -1.0, "permutations": 99}
    content |= {"figures": {"notebooks": ["fig2", "fig3"]}}
    return load_study(tiny.write_yaml(folder / "tiny.yaml", {**content, **changes}))


@pytest.fixture
def study(files, tmp_path, monkeypatch):
    monkeypatch.setenv("BRAINTUNING_RESULTS", str(tmp_path / "results"))
    monkeypatch.setattr(LebelDataset, "cortex", lambda *_: tiny.cortex())
    return study_of(files, tmp_path)


def save_model(study, dataset):
    """A model of three layers: noise, word rate amid noise, and word rate alone."""
    rng, features = np.random.default_rng(9), {}
    for story in study.encoded_stories:
        times = dataset.tr_times("P1", story)
        lead = np.concatenate([times[0] - TR * np.array([2, 1]), times])
        noise = rng.standard_normal((3, len(lead), 6))
        rate = np.array([rate_by_hand(word_starts(story), time) for time in lead])
        noise[1, :, 0], noise[2] = rate, rate[:, None]
        features[story] = noise.astype(np.float32)
    recipe = {"stage": "planted", "times": grids_fingerprint(grids_of(study, MODEL, dataset))}
    save_arrays(study.features_file(MODEL), features, {"recipe": recipe, "weights": "planted"})


def mean_of(path, name="alignment"):
    return float(np.nanmean(load_arrays(path)[name][:DRIVEN]))


@pytest.mark.parametrize(("participant", "drive"), list(zip(("P1", "P2", "P3"), DRIVES, strict=True)))
def test_a_listener_driven_by_one_of_the_features_is_explained_to_the_ceiling(study, participant, drive):
    path = steps.baseline(study, participant)
    assert mean_of(path) == pytest.approx(1, abs=0.08), drive
    assert mean_of(path, "held_out_alignment") > 0.7


def test_no_model_is_better_than_the_baseline_where_word_rate_is_all_that_drives(study):
    dataset = open_dataset(study)
    baseline = steps.baseline(study, "P1")
    save_model(study, dataset)
    scores = load_arrays(align(study, "P1", MODEL))["alignment"][:, :DRIVEN]
    noise, amid, alone = np.nanmean(scores, axis=1)
    assert abs(noise) < 0.2 and amid > 0.8 and alone > 0.9
    assert max(amid, alone) < mean_of(baseline) + 0.02
    row = compare.within_participant(study, dataset, "P1", "planted", "pretrained", "late_language", "nuisance")
    assert row["test"] == compare.WITHIN and row["p"] > 0.05 and abs(row["difference"]) < 0.05
    worse = study.model_copy(update={"figures": study.figures.model_copy(update={"layer": 0}), "name": "worse"})
    steps.baseline(worse, "P1")
    save_model(worse, dataset)
    align(worse, "P1", MODEL)
    row = compare.within_participant(worse, dataset, "P1", "planted", "pretrained", "late_language", "nuisance")
    assert row["p"] == pytest.approx(1 / 100) and row["difference"] < -0.6 and row["high"] < 0


def by_hand(files, participant, train, used):
    """Closed-form ridge with one penalty on features that are computed here; responses in the test story predicted."""

    def design(story):
        times = LebelDataset(files.root, TR).tr_times("P1", story)
        lead = np.concatenate([times[0] - TR * np.array([2, 1]), times])
        place = 2 * lead / SECONDS - 1
        of_words, of_sound = ([f(story, t) for t in lead] for f in (DRIVES["word rate"], DRIVES["envelope"]))
        rows = np.column_stack([of_words, of_sound, place, place**2])
        rows = (rows - rows[2:].mean(axis=0)) / rows[2:].std(axis=0)
        return np.hstack([rows[2 - lag : len(rows) - lag] for lag in LAGS])

    def responses(story):
        with h5py.File(files.hf5(participant, story)) as file:
            data = file["data"][:, used]
        return (data - data.mean(axis=0)) / data.std(axis=0)

    x, y = (np.concatenate([of(story) for story in train]) for of in (design, responses))
    return design(STORIES[3])[2:] @ tiny.closed_form(x, y, 10.0), responses(STORIES[3])[2:]


def test_scores_are_those_of_a_ridge_in_closed_form_on_features_by_hand(files, study, tmp_path):
    encoding = {**study.encoding.model_dump(), "n_alphas": 1, "log10_alpha_min": 1.0, "log10_alpha_max": 1.0}
    encoding["delays"] = list(encoding["delays"])
    one = study_of(files, tmp_path, encoding=encoding, low_level={"stories": [STORIES[0]]}, name="one")
    arrays, used = load_arrays(steps.baseline(one, "P1")), used_voxels(one, "P1")
    for kind, train in (("", STORIES[:2]), ("held_out_", STORIES[2:3]), ("low_level_", STORIES[:1])):
        predicted, measured = by_hand(files, "P1", train, used)
        expected = [np.corrcoef(a, b)[0, 1] for a, b in zip(predicted.T, measured.T, strict=True)]
        np.testing.assert_allclose(arrays[f"{kind}r"][used], expected, atol=2e-3)
        np.testing.assert_allclose(arrays[f"{kind}alignment"][used], expected / arrays["ceiling"][used], atol=3e-3)
        assert np.isnan(arrays[f"{kind}r"][~used]).all() and arrays[f"{kind}predicted"].shape == predicted.shape


def test_the_table_has_the_mean_of_each_region_and_says_which_features(study):
    path = steps.baseline(study, "P2")
    arrays, table = load_arrays(path), pd.read_csv(path.with_suffix(".csv"))
    assert table["roi"].tolist() == list(GROUPS) and set(table["participant"]) == {"P2"}
    assert set(table["features"]) == {"word rate, envelope, position"}
    inside = np.isin(tiny.voxel_labels(), GROUPS["late_language"])
    row = table.set_index("roi").loc["late_language"]
    for name in ("alignment", "low_level_alignment", "held_out_alignment"):
        assert row[name] == pytest.approx(np.nanmean(arrays[name][inside]), rel=1e-4)
    assert row["n_voxels"] == np.isfinite(arrays["alignment"][inside]).sum()
    assert {"device", "inputs", "recipe", "git_commit", "versions"} <= set(table)


def test_a_whole_result_is_kept_and_other_words_make_it_anew(files, study, tmp_path, monkeypatch):
    path = steps.baseline(study, "P1")
    with monkeypatch.context() as patch:
        forbid(patch, align_step, "save_result")
        align_nuisance(study, "P1")
    before = load_arrays(path)["alignment"]
    whole = LebelDataset.words
    monkeypatch.setattr(LebelDataset, "words", lambda dataset, story: whole(dataset, story)[::2])
    align_nuisance(study, "P1")
    assert not np.allclose(load_arrays(path)["alignment"], before, equal_nan=True)


def test_a_dataset_without_words_has_a_baseline_of_the_rest_and_check_says_so(study, monkeypatch):
    def words(dataset, story):
        raise MissingTier(f"{story}: no tier of words")

    monkeypatch.setattr(LebelDataset, "words", words)
    path = steps.baseline(study, "P1")
    assert mean_of(path) < 0.5 < mean_of(steps.baseline(study, "P2"))
    assert set(pd.read_csv(path.with_suffix(".csv"))["features"]) == {"envelope, position"}
    monkeypatch.setattr("braintuning.pipeline.check._check_models", lambda _: None)
    monkeypatch.setattr("braintuning.pipeline.check._check_phones", lambda *_: None)
    monkeypatch.setattr(LebelDataset, "check", lambda *_: [])
    said = []
    with tiny.listening(said.append):
        dataset = check(study)
    (line,) = [line for line in said if "words" in line]
    assert "harbour: sound from 0 to 300.0 s, 0 words; " in findings(study, dataset)[0]
    assert line.startswith("harbour, orchard, kitchen, winter: no words") and "envelope and position alone" in line


def test_tables_and_sentences_hold_the_score_of_each_participant(study, monkeypatch):
    dataset = open_dataset(study)
    for participant in study.participants:
        steps.baseline(study, participant)
        save_model(study, dataset)
        align(study, participant, MODEL)
    table = tables.gather(study)
    own = pd.concat([pd.read_csv(study.nuisance_file(p).with_suffix(".csv")) for p in study.participants])
    expected = own.set_index(["participant", "roi"])["alignment"]
    assert len(table) == 3 * 3 * len(GROUPS)
    assert all(row.nuisance == expected[row.participant, row.roi] for row in table.itertuples())
    assert tables.baseline_label(table) == "word rate, envelope, position"

    statistics = compare.compare(study, dataset, REGIONS)
    against = statistics[(statistics["reference"] == "nuisance") & (statistics["participant"] != "all")]
    last = tables.at_layer(table, -1).set_index(["participant", "roi"])
    for row in against.itertuples():
        of_row = last.loc[(row.participant, row.roi)]
        assert row.difference == pytest.approx(of_row["alignment"] - of_row["nuisance"], abs=1e-4)
        assert row.family == f"{row.participant}: conditions against nuisance" and row.test == compare.WITHIN
    assert not statistics.loc[statistics["reference"] == "nuisance", "star"].any()


def test_low_level_impact_stands_beside_the_baseline_of_the_same_stories(files, study, tmp_path):
    other = study_of(files, tmp_path, low_level={"stories": [STORIES[0]], "features": ["power_spectrum"]}, name="other")
    for participant in other.participants:
        steps.baseline(other, participant)
    names = {"backbone": "planted", "condition": "pretrained", "roi": "late_language", "feature": "all", "phones": ""}
    values = {"layer": 2, "n_layers": 3, "r_percent": 10.0, "low": 0.0, "high": 20.0, "n_voxels": 4}
    for participant, alignment in (("P1", 0.5), ("P2", 0.04), ("P3", 0.2)):
        path = other.low_level_file(participant, MODEL).with_suffix(".csv")
        path.parent.mkdir(parents=True)
        pd.DataFrame([{"participant": participant, **names, **values, "alignment": alignment}]).to_csv(path)
    table = impact.gather(other).set_index("participant")
    for participant in other.participants:
        own = pd.read_csv(other.nuisance_file(participant).with_suffix(".csv")).set_index("roi").loc["late_language"]
        assert table.loc[participant, "nuisance"] == own["low_level_alignment"] != own["alignment"]
    share = table["nuisance_percent"]
    assert share["P1"] == pytest.approx(200 * table.loc["P1", "nuisance"]) and np.isnan(share["P2"])
