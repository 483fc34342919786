"""Two people scanned otherwise: TR 1.5 s and 2 s, sounds that start at other times, other numbers of volumes."""

import json

import h5py
import numpy as np
import pandas as pd
import pytest
import soundfile
import steps
import tiny
from braintuning.alignment.correlation import correlation
from braintuning.alignment.encoding import predict_layers, scored_trs
from braintuning.alignment.features import extract_features
from braintuning.datasets import audio, open_dataset
from braintuning.datasets.lebel import LebelDataset
from braintuning.lowlevel import acoustic
from braintuning.lowlevel.acoustic import power_spectrum, power_spectrum_by_tr
from braintuning.lowlevel.features import low_level_features
from braintuning.pipeline import extract as extract_step
from braintuning.pipeline import recipes
from braintuning.pipeline.align import align
from braintuning.pipeline.check import check
from braintuning.pipeline.extract import extract_layers
from braintuning.pipeline.low_level import measure_low_level_features
from braintuning.pipeline.steps import clip_ends, features_of, load_encoder
from braintuning.pipeline.tune import learning_material
from braintuning.results import load_arrays
from braintuning.study import Run
from braintuning.study.settings import Encoding
from safetensors.torch import load_file
from tiny import STORIES, TEST, TRAIN, refused

TR = {"P1": 1.5, "P2": 2.0, "P3": 2.0}
START = {"P1": 9.0, "P2": 10.0, "P3": 10.0}
VOLUMES = {
    "P1": {"harbour": 52, "orchard": 53, "kitchen": 52, "winter": 53},
    "P2": {"harbour": 40, "orchard": 41, "kitchen": 40, "winter": 41},
}
VOLUMES["P3"] = VOLUMES["P2"]
PRETRAINED, TUNED = Run("small", "pretrained"), Run("small", "brain-tuned", "P1")
RUNS = (PRETRAINED, TUNED, Run("small", "brain-tuned", "P2"))


def times_of(participant, story, lead=0):
    """When rows are read, volume by volume: in the middle of each, the first ten and the last ten not being stored."""
    tr, start = TR[participant], START[participant]
    return np.array([(v + 0.5) * tr - start for v in range(10 - lead, VOLUMES[participant][story] - 10)])


@pytest.fixture
def own(make_study, files):
    """A study of data of one's own; its responses have as many rows as each participant has volumes stored."""
    for number, participant in enumerate(TR):
        for story in STORIES:
            rng = np.random.default_rng([number, STORIES.index(story)])
            repeats = tiny.planted_repeats(rng, n_rows=VOLUMES[participant][story] - 20)
            once = story in TRAIN
            data = repeats[0] if once else repeats.mean(axis=0)
            files.write_responses(participant, story, data, None if once else repeats)
        files.space(participant).parent.mkdir(parents=True, exist_ok=True)
        files.space(participant).write_text(json.dumps({"space": "fs_LR_32k"}))
    files.volumes.write_text(json.dumps(VOLUMES))

    def make(participants=("P1", "P2"), **changes):
        told = {"dataset.tr": TR, "dataset.sound_starts": START}
        told = {key: {p: value[p] for p in participants} for key, value in told.items()}
        return make_study({**told, "participants": list(participants), **changes})

    return make


def test_people_scanned_otherwise_go_through_every_step_on_their_own_rows(own):
    study = own(**{"figures.notebooks": ["fig2", "fig3"], "low_level.features": ["power_spectrum", "articulation"]})
    dataset = check(study)
    for participant in study.participants:
        for story in STORIES:
            expected = times_of(participant, story)
            np.testing.assert_allclose(dataset.tr_times(participant, story), expected, rtol=0, atol=1e-12)
            assert len(dataset.responses(participant, story)) == len(expected)
    for participant in study.participants:
        run = Run("small", "brain-tuned", participant)
        for scored in (PRETRAINED, run):
            scores = load_arrays(steps.aligned(study, participant, scored))
            assert scores["predicted"].shape[0] == VOLUMES[participant]["winter"] - 20 - study.encoding.test_skip_rows
            assert np.isfinite(scores["r"][:, np.isfinite(scores["ceiling"]) & (scores["ceiling"] > 0.4)]).all()
            table = pd.read_csv(steps.impact(study, participant, scored).with_suffix(".csv"))
            assert table.loc[table["n_voxels"] > 0, "r_percent"].notna().all()
        head = load_file(study.model_folder(run) / "head.safetensors")
        assert np.isfinite(head["weight"].numpy()).all()


def test_features_are_those_at_each_persons_times_encoded_once_a_story(own, monkeypatch):
    study, calls, plain = own(("P1", "P2", "P3")), [], extract_step.tokens
    monkeypatch.setattr(extract_step, "tokens", lambda *a: calls.append(len(a[1])) or plain(*a))
    dataset, encoder = open_dataset(study), load_encoder(study, PRETRAINED)
    (path,) = extract_layers(study, [PRETRAINED])
    assert calls == [3]
    for participant in study.participants:
        found = features_of(study, dataset, PRETRAINED, participant)
        assert set(found) == {*TRAIN, *TEST}
        for story, features in found.items():
            times, tr = times_of(participant, story, lead=2), TR[participant]
            expected = extract_features(encoder, dataset.audio(story), times, tr, study.features)
            np.testing.assert_allclose(features, expected, atol=1e-4)
    with h5py.File(path) as file:
        assert set(file) == {*TRAIN, *TEST} | {f"{story} of {p}" for story in (*TRAIN, *TEST) for p in ("P2", "P3")}
        assert file["winter of P2"] == file["winter of P3"] and file["winter of P2"] != file["winter"]


def test_a_model_of_one_person_has_features_at_that_persons_times_alone(own):
    study = own()
    path = steps.extracted(study, RUNS[2])
    assert set(load_arrays(path)) == {*TRAIN, *TEST}
    assert load_arrays(path)["winter"].shape[1] == 2 + VOLUMES["P2"]["winter"] - 20


def test_features_made_at_other_times_are_refused(own, files):
    study = own()
    path = steps.extracted(study, PRETRAINED)
    later = own(**{"dataset.sound_starts": {"P1": START["P1"], "P2": START["P2"] - 1}})
    refused(lambda: features_of(later, open_dataset(later), PRETRAINED, "P2"), path, "other times", "P2's TRs")
    volumes = {**VOLUMES, "P2": {**VOLUMES["P2"], "winter": 42}}
    files.volumes.write_text(json.dumps(volumes))
    refused(lambda: features_of(study, open_dataset(study), PRETRAINED, "P2"), path, "other times", "P2's TRs")


def test_low_level_features_are_those_at_each_persons_times(own):
    study = own()
    dataset, kinds = open_dataset(study), study.low_level.features
    paths = [measure_low_level_features(study, participant) for participant in study.participants]
    assert paths[0] == paths[1]
    for participant, suffix in (("P1", ""), ("P2", " of P2")):
        times = {story: times_of(participant, story, lead=2) for story in (*TRAIN, *TEST)}
        expected = low_level_features(dataset, times, TRAIN, kinds)
        with h5py.File(paths[0]) as file:
            for kind in kinds:
                for story, rows in times.items():
                    np.testing.assert_allclose(file[kind][story + suffix], expected[kind][story], atol=1e-5)
                    assert len(file[kind][story + suffix]) == len(rows)
        by_hand = power_spectrum_by_tr(dataset.audio("winter"), times["winter"], TR[participant])
        np.testing.assert_allclose(expected["power_spectrum"]["winter"], by_hand, atol=1e-4)


@pytest.mark.parametrize("condition", ["lm-tuned", "stimulus-tuned"])
def test_controls_with_one_model_for_all_take_the_times_of_the_first_who_heard_the_story(own, condition):
    shuffled = {"stories.train": [*TRAIN, "winter"], "stories.test": ["kitchen"], "stories.validation": []}
    study = own(("P2", "P1"), lacks={"P2": ["orchard"]}, conditions=["pretrained"], **shuffled)
    run, dataset = Run("small", "pretrained"), open_dataset(study)
    for story, first in (("harbour", "P2"), ("orchard", "P1"), ("winter", "P2")):
        expected = times_of(first, story) + 0.5 * TR[first]
        np.testing.assert_allclose(clip_ends(study, run, dataset, story), expected, rtol=0, atol=1e-12)
    told = {"controls.text_models": ["glove-6b-50d"], "controls.n_targets": 3}
    study = own(("P2", "P1"), conditions=["pretrained", condition], **told)
    train, _ = learning_material(study, Run("small", condition), dataset)
    for story in TRAIN:
        assert len(train[story].times) == VOLUMES["P2"][story] - 20
        assert all(len(targets) == len(train[story].times) for targets in train[story].of_each)


def joint(own, participants, together):
    return own(
        participants, conditions=["pretrained", "multi-brain-tuned"], tuned_together=list(together), joint_tuning={}
    )


def test_one_model_for_people_scanned_otherwise_is_refused_at_the_check(own):
    refused(
        lambda: check(joint(own, ("P1", "P2"), ("P1", "P2"))), "multi-brain-tuned", "P1 and P2", "harbour", "TR times"
    )
    study = joint(own, ("P1", "P2", "P3"), ("P2", "P3"))
    check(study)
    run = Run("small", "multi-brain-tuned")
    steps.tuned(study, run)
    extract_layers(study, [run])
    for participant in study.participants:
        steps.measure_ceiling(study, participant)
        assert np.isfinite(np.nanmax(load_arrays(align(study, participant, run))["r"]))


def test_only_what_reads_a_persons_times_is_made_again_when_they_change(own):
    before, after = own(), own(**{"dataset.tr": {"P1": 1.5, "P2": 1.9}})
    for recipe, changes in (
        (lambda study: recipes.tune(study, TUNED), False),
        (lambda study: recipes.tune(study, RUNS[2]), True),
        (lambda study: recipes.extract(study, TUNED), False),
        (lambda study: recipes.extract(study, RUNS[2]), True),
        (lambda study: recipes.extract(study, PRETRAINED), True),
        (lambda study: recipes.low_level_features(study, "P1"), True),
        (lambda study: recipes.ceiling(study, "P2"), False),
    ):
        assert (recipe(before).fingerprint != recipe(after).fingerprint) == changes


@pytest.mark.parametrize("participant", ["P1", "P2"])
def test_a_response_to_the_sound_is_predicted_best_with_the_right_start_tr_and_row_offset(
    files, participant, monkeypatch
):
    """Planted: loudness two TRs ago, one value a volume; features and encoding models are the pipeline's own."""
    rng, tr, right = np.random.default_rng(3), TR[participant], 7.3
    settings, half = Encoding(delays=(2,), test_skip_rows=0), round(tr * 8000)
    files.volumes.write_text(json.dumps({participant: dict.fromkeys(STORIES, 160)}))
    sounds, responses = {}, {}
    for story in STORIES:
        gain = np.repeat(rng.uniform(0.01, 0.3, 620), 8000)
        soundfile.write(files.wav(story), gain * rng.standard_normal(len(gain)), 16_000)
        loud = 20 * np.log10(gain)
        middles = [round(((volume + 0.5) * tr - right - 2 * tr) * 16_000) for volume in range(10, 150)]
        responses[story] = np.array([[loud[m - half : m + half].mean()] for m in middles], np.float32)
    spectra = {story: power_spectrum(audio.read_audio(files.wav(story))) for story in STORIES}
    monkeypatch.setattr(acoustic, "power_spectrum", spectra.get)

    def score(**wrong):
        options = {"tr": tr, "sound_starts": right, "row_offset": 0.5} | wrong
        dataset = LebelDataset(files.root, options.pop("tr"), **options)
        for story in STORIES:
            times = dataset.tr_times(participant, story)
            lead = times[0] + tr * np.arange(-max(settings.delays), 0)
            sounds[story] = power_spectrum_by_tr(story, np.concatenate([lead, times]), tr)[None]
        (predicted,) = predict_layers(sounds, responses, STORIES[:3], STORIES[3:], settings)
        return correlation(predicted, scored_trs(responses, STORIES[3:], settings))[0]

    best = score()
    assert best > 0.85
    for wrong in (
        {"sound_starts": None},
        {"sound_starts": 6.3},
        {"row_offset": 0.0},
        {"row_offset": 1.0},
        {"tr": 1.01 * tr},
    ):
        assert score(**wrong) < best - 0.02, wrong
