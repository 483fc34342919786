import json
import shutil

import corpus_files
import h5py
import numpy as np
import pytest
import steps
import tiny
from braintuning.alignment.mask import used_voxels
from braintuning.backbone.encoder import SpeechEncoder
from braintuning.datasets.lebel import LebelDataset
from braintuning.datasets.textgrid import Interval
from braintuning.demo import dataset as simulated_dataset
from braintuning.demo.textgrid_writer import write_textgrid
from braintuning.pipeline import check as check_module
from braintuning.pipeline.ceiling import measure_ceiling
from braintuning.pipeline.check import check, make_listeners
from braintuning.results import load_arrays
from braintuning.study import Run
from safetensors.torch import load_file
from tiny import N_ROWS, TEST, refused
from transformers import Data2VecAudioConfig

BROKEN = {("harbour", "data"): 2, ("winter", "individual_repeats"): 4, ("kitchen", "data"): 7}


def spoil(files):
    """One voxel of three files becomes NaN at one time, or stays at nought."""
    for number, ((story, name), voxel) in enumerate(BROKEN.items()):
        with h5py.File(files.hf5("P1", story), "r+") as file:
            if number:
                file[name][..., 3, voxel] = np.nan
            else:
                file[name][..., voxel] = 0


def test_broken_voxels_are_reported_masked_everywhere_and_stop_nothing(make_study, files):
    study = make_study()
    whole = load_arrays(measure_ceiling(study, "P1"))["ceiling"]
    assert (whole[list(BROKEN.values())] > 0.4).all()
    spoil(files)
    lines = []
    with tiny.listening(lines.append):
        check(study)
    assert len([line for line in lines if "1 of 30 voxels are NaN or constant" in line]) == 2
    stored = load_arrays(measure_ceiling(study, "P1"))
    assert np.flatnonzero(stored["broken"]).tolist() == sorted(BROKEN.values())
    np.testing.assert_allclose(stored["ceiling"], np.where(stored["broken"], np.nan, whole), rtol=1e-6)
    scores = load_arrays(steps.aligned(study, "P1", Run("small", "pretrained")))
    assert np.isnan(scores["r"][:, stored["broken"]]).all()
    assert np.isfinite(scores["r"][:, used_voxels(study, "P1")]).all()
    model = steps.tuned(study, Run("small", "brain-tuned", "P1"))
    head = load_file(model / "head.safetensors")
    assert not set(head["voxels"].tolist()) & set(BROKEN.values())
    assert all(np.isfinite(array.numpy()).all() for array in head.values())


ANNEX = "../.git/annex/objects/a/b/c"
LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 82260\n"
SPOILT = {
    "an lfs pointer as sound": ("wav", lambda path: path.write_text(LFS), ("git-lfs pointer", "git lfs pull")),
    "an lfs pointer as words": ("grid", lambda path: path.write_text(LFS), ("git-lfs pointer",)),
    "a link to nothing": ("hf5", lambda path: (path.unlink(), path.symlink_to(ANNEX)), ("a link to", "datalad get")),
}  # fmt: skip


@pytest.mark.parametrize("case", SPOILT)
def test_what_is_not_here_is_named_before_a_model_is_loaded(make_study, files, monkeypatch, case):
    kind, spoil, parts = SPOILT[case]
    path = files.hf5("P2", "winter") if kind == "hf5" else getattr(files, kind)("winter")
    spoil(path)
    tiny.forbid(monkeypatch, check_module, "_check_models")
    refused(lambda: check(make_study()), path, *parts)


def test_a_corpus_of_pointers_is_named_before_a_model_is_loaded(make_study, tmp_path, monkeypatch):
    folder = corpus_files.write_crema_d(tmp_path / "CREMA-D", actors=range(1001, 1004))
    for path in (folder / "AudioWAV").iterdir():
        path.write_text(LFS)
    tiny.forbid(monkeypatch, check_module, "_check_models")
    study = make_study({"probes.corpora": {"emotion": str(folder)}})
    refused(lambda: check(study), "'emotion'", "1001_DFA_ANG_XX.wav", "a git-lfs pointer", "git lfs pull")


@pytest.mark.parametrize("lines", ["\n\n", '{"file": "0.flac", "speaker": "s"}\n'])
def test_a_corpus_without_anything_for_its_task_is_named_before_a_model_is_loaded(
    make_study, tmp_path, monkeypatch, lines
):
    (tmp_path / "speech").mkdir()
    folder = corpus_files.write_aligned(tmp_path / "speech", 20)
    study = make_study({"probes.corpora": {"phonemes": str(folder), "asr": str(folder)}})
    check(study)
    (folder / "alignments.jsonl").write_text(lines)
    tiny.forbid(monkeypatch, check_module, "_check_models")
    refused(lambda: check(study), "the corpus of 'asr'", folder, "found no utterance in the train part", "expected")


def test_a_class_with_one_training_example_is_named_before_a_model_is_loaded(make_study, tmp_path, monkeypatch):
    folder = corpus_files.write_speech_commands(tmp_path / "commands")
    study = make_study({"probes.tasks": ["word_identity"], "probes.corpora": {"word_identity": str(folder)}})
    check(study)
    (folder / "yes" / "ddd_nohash_0.wav").unlink()
    tiny.forbid(monkeypatch, check_module, "_check_models")
    refused(lambda: check(study), "the corpus of 'word_identity'", folder, "class 'yes' with fewer than two examples")


def test_a_corpus_that_is_absent_is_a_note_where_the_study_allows_a_stand_in(make_study, tmp_path):
    study, said = make_study({"probes.corpora": {"emotion": "nowhere"}, "probes.stand_in_where_absent": True}), []
    with tiny.listening(said.append):
        check(study)
    assert "nowhere: not here, so 'emotion' is measured on synthesised speech" in said


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_model_that_is_a_pointer_is_named(make_study, tmp_path, pristine, name):
    folder = shutil.copytree(pristine.root.parent / "backbone", tmp_path / "a model")
    (folder / name).write_text(LFS)
    refused(lambda: check(make_study({"backbones.small.name": str(folder)})), folder / name, "git-lfs pointer")
    (folder / name).unlink()
    (folder / name).symlink_to(ANNEX)
    refused(lambda: check(make_study({"backbones.small.name": str(folder)})), folder / name, "a link to", "datalad get")


def test_half_a_model_is_named(make_study, tmp_path, pristine):
    folder = shutil.copytree(pristine.root.parent / "backbone", tmp_path / "a model")
    tiny.halve(folder / "model.safetensors")
    refused(lambda: check(make_study({"backbones.small.name": str(folder)})), folder, "weights cannot be read")


def test_responses_that_are_not_the_mean_of_their_repeats_are_refused(make_study, files):
    repeats = tiny.planted_repeats(np.random.default_rng(5))
    mean = repeats.mean(axis=0)
    files.write_responses("P2", "winter", (mean - mean.mean(axis=0)) / mean.std(axis=0), repeats)
    check(make_study())
    files.write_responses("P2", "winter", np.roll(mean, 1, axis=0), repeats)
    refused(lambda: check(make_study()), files.hf5("P2", "winter"), "the 4 repeats", "at least 0.9")


def test_one_presentation_gives_no_ceiling(make_study, files):
    repeats = tiny.planted_repeats(np.random.default_rng(5), n_repeats=1)
    files.write_responses("P2", "winter", repeats[0], repeats)
    refused(lambda: check(make_study()), files.hf5("P2", "winter"), "found 1 presentation", "at least 2")


SILENCES = ("sp", "sil", "SIL", "SP", "{NS}", "{LG}", "{BR}", "{CG}", "{SL}", "ns", "br", "lg", "cg", "")


def write_phones(files, story, labels):
    words = [Interval("and", float(s), s + 0.5) for s in range(1, 58)]
    phones = [Interval(label, s + 1.0, s + 1.5) for s, label in enumerate(labels)]
    write_textgrid(files.grid(story), {"phone": phones, "word": words}, tiny.SECONDS)


def test_silences_stress_and_lower_case_are_phones_that_figure_3_takes(make_study, files):
    write_phones(files, "orchard", [*SILENCES, "AH0", "ah1", "t", "ER2", "iy"])
    check(make_study({"figures.notebooks": ["fig3"]}))
    assert len(LebelDataset(files.root, tiny.TR).phones("orchard")) == 5


def said_by_check(study):
    said = []
    with tiny.listening(said.append):
        check(study)
    return [line for line in said if "no trigger log" not in line]


def test_phones_outside_the_39_are_left_out_and_the_log_says_so(make_study, files):
    write_phones(files, "orchard", ["AH0", "T", "H", "T", "AH1"])
    for notebooks in (["fig2"], ["fig3"]):
        (note,) = said_by_check(make_study({"figures.notebooks": notebooks}))
        tiny.one_sentence(note, files.grid("orchard"), "left out 1 of 5 phones", "H 1")


def test_phones_in_another_alphabet_are_named_with_story_and_time_before_anything_is_tuned(make_study, files):
    write_phones(files, "orchard", ["T", "ə", "TSH"])
    study = make_study({"figures.notebooks": ["fig2", "fig3"]})
    refused(lambda: check(study), "story orchard", "at 2.00 s", "'ə'", "39 ARPAbet")
    assert any("another alphabet" in line for line in said_by_check(make_study()))


@pytest.mark.parametrize(("starts", "said"), [((1.0, 70.0), "ends at 70.50 s"), ((2.0, 1.0), "2 tiers called")])
def test_a_broken_phone_tier_is_a_note_for_figure_2_and_refused_for_figure_3(make_study, files, starts, said):
    phones = [Interval("AH0", start, start + 0.5) for start in sorted(starts)]
    tiers = {"word": [Interval("and", 1.0, 1.5)], "phones": phones} | ({"Phone": phones} if "tiers" in said else {})
    write_textgrid(files.grid("orchard"), tiers, 80.0)
    (note,) = said_by_check(make_study())
    tiny.one_sentence(note, files.grid("orchard"), said)
    refused(lambda: check(make_study({"figures.notebooks": ["fig2", "fig3"]})), "story orchard", said, "expected")


def test_own_data_with_word_tiers_alone_need_no_phone_for_figure_2_and_a_dictionary_for_figure_3(make_study, files):
    for story in tiny.STORIES:
        files.write_grid(story, tiers=("word",))
    assert said_by_check(make_study()) == []
    words = [Interval(label, s + 1.0, s + 1.5) for s, label in enumerate([*["and", "Then,"] * 9, "Zzqx", "{NS}", "3"])]
    write_textgrid(files.grid("orchard"), {"words": words}, tiny.SECONDS)
    said = said_by_check(make_study({"figures.notebooks": ["fig3"]}))
    assert len(said) == len(tiny.STORIES) - 1 and all("pronunciation dictionary" in line for line in said)
    (note,) = (line for line in said if "story orchard" in line)
    tiny.one_sentence(note, "1 of 20 words are not in it", "zzqx 1")


def test_words_that_are_not_english_need_a_phone_tier_for_figure_3(make_study, files):
    words = [
        Interval(label, s + 1.0, s + 1.5) for s, label in enumerate(["und", "plötzlich", "stürmte", "unverzüglich"])
    ]
    write_textgrid(files.grid("orchard"), {"word": words}, tiny.SECONDS)
    check(make_study())
    study = make_study({"figures.notebooks": ["fig3"]})
    refused(lambda: check(study), "story orchard", "of 4 words", "not in the pronunciation dictionary", " s, expected")


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"figures.layer": 40}, ("small has no layer 40 of `figures: layer`", "expected -3 to 2")),
        ({"figures.layer": -4}, ("no layer -4", "expected -3 to 2")),
        ({"low_level.layers": [0, 3]}, ("no layer 3 of `low_level: layers`", "expected -3 to 2")),
        (
            {"features.window_seconds": 0.01, "features.step_seconds": 0.01},
            ("`features: window_seconds`", "too short for one frame"),
        ),
        ({"tuning.clip_seconds": 0.01}, ("`clip_seconds of brain-tuned`", "too short for one frame")),
        ({"probes.corpora": {"phonemes": "nowhere/TIMIT"}}, ("nowhere/TIMIT", "'phonemes'", "no such folder")),
        ({"conditions": ["pretrained", "lm-tuned"], "controls.text_models": ["/no/gpt"]}, ("/no/gpt", "cannot be")),
        (
            {"conditions": ["pretrained", "bigslm-tuned"], "backbones.small.teacher": "/no/big"},
            ("/no/big", "no folder"),
        ),
    ],
)
def test_what_a_study_says_and_no_model_or_folder_has_is_found_before_any_response_is_read(
    make_study, monkeypatch, changes, parts
):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(LebelDataset, "check", lambda *_: pytest.fail("responses were read first"))
    refused(lambda: check(make_study(changes)), *parts)


def test_layers_that_every_model_has_pass(make_study):
    for layer in (-3, 2):
        check(make_study({"figures.layer": layer}))


def test_a_window_longer_than_whisper_hears_is_refused(make_study, pristine):
    changes = {"backbones.small.name": str(pristine.root.parent / "whisper"), "features.window_seconds": 5.0}
    refused(lambda: check(make_study(changes)), "`features: window_seconds`", "5.00 s", "at most 4 s")


def test_stories_that_a_control_cannot_learn_from_are_found_before_anything_is_tuned(make_study, monkeypatch):
    one_block = make_study({"tuning.permutation_block_rows": 20})
    refused(lambda: check(one_block), "random-brain-tuned", "20 TRs of harbour", "`permutation_block_rows`", "20")
    monkeypatch.setattr(LebelDataset, "check", lambda *_: [])
    monkeypatch.setattr(LebelDataset, "words", lambda *_: [])
    texts = {"text_models": ["glove-6b-50d"], "n_targets": 3}
    of_texts = make_study({"conditions": ["pretrained", "lm-tuned"], "controls": texts})
    refused(lambda: check(of_texts), "small_lm-tuned", "no words in harbour", "expected")


def test_check_reads_a_good_dataset_and_writes_no_result(study):
    assert check(study).participants == ("P1", "P2")
    assert not study.results.exists()


def test_check_reads_all_that_the_study_uses_and_nothing_else(study, make_study, files):
    files.wav("orchard").unlink()
    refused(lambda: check(study), files.wav("orchard"))
    check(make_study({"stories.train": ["harbour", "winter"], "stories.test": ["kitchen"],
                             "stories.validation": [], "conditions": ["pretrained"]}))  # fmt: skip


def test_check_finds_a_test_story_without_repeats(make_study, files):
    changes = {"stories.test": ["orchard"], "stories.train": ["harbour", "winter"]}
    refused(lambda: check(make_study(changes)), files.hf5("P1", "orchard"), "individual_repeats")


@pytest.mark.parametrize(
    ("key", "rows", "of"),
    [("permutation_block_rows", N_ROWS - 2, "test"), ("validation_chunk_rows", 2 * N_ROWS, "training")],
)
def test_check_finds_stories_too_short_for_two_blocks(make_study, key, rows, of):
    check(make_study({f"encoding.{key}": rows // 2}))
    changed = make_study({f"encoding.{key}": rows // 2 + 1})
    refused(lambda: check(changed), f"{rows} TRs in the {of} stories of P1", f"twice `{key}`")


@pytest.mark.parametrize(
    ("changes", "of"),
    [
        ({"figures.notebooks": ["fig3"], "low_level.stories": ["harbour"]}, "low-level"),
        ({"figures.notebooks": ["figB"], "figures.story_counts": [1]}, "first 1 training"),
    ],
)
def test_check_finds_some_stories_too_short_that_are_to_be_fitted_alone(make_study, changes, of):
    check(make_study({**changes, "encoding.validation_chunk_rows": N_ROWS // 2}))
    changed = make_study({**changes, "encoding.validation_chunk_rows": N_ROWS // 2 + 1})
    refused(lambda: check(changed), f"found {N_ROWS} TRs in the {of} stories of P1", "twice `validation_chunk_rows`")


def test_check_finds_a_backbone_of_another_architecture(make_study, tmp_path):
    bert = tiny.save_bert(tmp_path / "bert")
    refused(lambda: check(make_study({"backbones.small.name": str(bert)})), bert, "bert", "expected")


SIMULATION = {"seed": 1, "repeats": 3, "meaning_components": 2}


def test_simulated_listeners_never_replace_data_of_ones_own(make_study, files, monkeypatch):
    monkeypatch.setattr(simulated_dataset, "write_dataset", lambda *_: pytest.fail("wrote"))
    study = make_study({"dataset.simulation": SIMULATION})
    refused(lambda: check(study), files.root, "not simulated", "`simulation: null`")


def test_simulated_listeners_are_made_once_and_again_when_the_study_says_otherwise(make_study, tmp_path, monkeypatch):
    made, root = [], tmp_path / "simulated"
    root.mkdir()

    def write(root, participants, stories, repeated, settings):
        made.append((root, participants, stories, repeated, settings.tr, settings.simulation.seed))
        of_dataset = settings.model_dump(include=simulated_dataset.DECIDING)
        wanted = {"participants": participants, "stories": stories, "repeated": repeated, "dataset": of_dataset}
        (root / "simulation.json").write_text(json.dumps(wanted))

    monkeypatch.setattr(simulated_dataset, "write_dataset", write)

    def make(seed=1, stories=None, **changes):
        simulation = {"dataset.root": str(root), "dataset.simulation": {**SIMULATION, "seed": seed}}
        simulation |= {"stories": stories} if stories else {}
        make_listeners(make_study(simulation | {f"dataset.{key}": value for key, value in changes.items()}))

    make()
    make()
    assert made == [(root, tiny.PARTICIPANTS, tiny.STORIES, TEST, tiny.TR, 1)]
    make(seed=2)
    assert made[1][-1] == 2 and len(made) == 2
    for number, (key, value) in enumerate({"sound_starts": 9.0, "row_offset": 0.0, "unstored_volumes": 9}.items(), 3):
        make(seed=2, **{key: value})
        assert len(made) == number
    train, (first, second, third) = list(tiny.TRAIN), ("kitchen", "thewell", "winter")
    make(stories={"train": train, "validation": [first], "test": [second], "held_out": [third]})
    make(stories={"train": train, "validation": [first, second], "test": [third]})
    assert made[-1][2] == made[-2][2] and [one[3] for one in made[-2:]] == [(second,), (third,)]


def test_no_room_on_the_disk_is_known_before_anything_is_spoken(make_study, tmp_path, monkeypatch):
    monkeypatch.setattr(simulated_dataset, "story_text", lambda *_: "Some words.")
    monkeypatch.setattr(simulated_dataset, "speak", lambda *_, **__: pytest.fail("spoke"))
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**12, 10**12 - 10**8, 10**8))
    root = tmp_path / "new" / "simulated"
    study = make_study({"dataset.simulation": SIMULATION, "dataset.root": str(root)})
    refused(lambda: make_listeners(study), root, "0.1 GB free", "needed")
    assert not root.parent.exists()


def test_stimulus_tuning_of_a_family_whose_objective_is_not_here_is_refused_before_any_work(make_study, tmp_path):
    config = Data2VecAudioConfig(**tiny.WAV2VEC2 | {"num_conv_pos_embeddings": 2})
    SpeechEncoder.from_config(config).save_pretrained(tmp_path / "data2vec")
    changes = {"backbones.small.name": str(tmp_path / "data2vec")}
    check(make_study(changes))
    changes["conditions"] = ["pretrained", "stimulus-tuned"]
    refused(lambda: check(make_study(changes)), tmp_path / "data2vec", "'data2vec-audio'", "stimulus-tuning", "hubert")
