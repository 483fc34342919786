import json
import warnings
from pathlib import Path

import corpus_files
import numpy as np
import pytest
import tiny
from braintuning.probes import asr, mfcc, tasks
from braintuning.probes.base import require_classes
from braintuning.probes.utterance import PARTS, Utterance
from braintuning.study import load_study
from tiny import refused


def labelled(*labels):
    return [Utterance("s", label, Path(f"{label}.wav"), label=label) for label in labels]


@pytest.mark.parametrize(
    ("task", "labels", "said"),
    [
        ("emotion", ("a", "a", "b"), "class 'b' with fewer than two"),
        ("intent", ("a", "a"), "1 class"),
        ("intent", ("a", "a", "b"), "class 'b' with fewer than two"),
        ("word_identity", ("yes", "yes", "no"), "class 'no' with fewer than two"),
    ],
)
def test_a_class_with_one_example_is_refused_before_the_model_hears_anything(task, labels, said):
    parts = {part: labelled(*labels) for part in PARTS}
    refused(lambda: require_classes(parts, "recordings", tasks.TASKS[task].rare_allowed), "recordings", said)


def test_a_rare_action_of_slurp_is_reported_and_stops_nothing(tmp_path):
    folder = corpus_files.write_slurp(tmp_path, 8)
    path = folder / "dataset" / "slurp" / "test.jsonl"
    path.write_text(path.read_text().replace('"action": "remove"', '"action": "dance"'))
    said = []
    with tiny.listening(said.append):
        _, parts = tasks.material("intent", folder)
        found = tasks.TASKS["intent"].measure(parts, tiny.encoder(), "cpu", 0)
    assert said == [f"{folder}: fewer than two examples to train on, so never predicted: dance"]
    assert all(0 <= result.value < 1 for result in found)


def test_every_task_has_its_baselines(tmp_path, monkeypatch):
    monkeypatch.setattr(asr, "EPOCHS", 3)
    parts = {}
    for number, part in enumerate(PARTS):
        (tmp_path / part).mkdir()
        made = corpus_files.noise_utterances(tmp_path / part, (8000,) * 4)
        parts[part] = [Utterance(f"{number}{u.speaker}", u.prompt, u.file, text="no on") for u in made]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        for measure in (asr.measure, mfcc.measure):
            result = measure(parts, tiny.encoder(), "cpu", 0)[-1]
            assert np.isfinite([result.baseline, result.random_features]).all() and np.isnan(result.duration_loudness)
            if measure is asr.measure:
                assert result.sums[:, 1].sum() == asr.ORDERS * 4 * 2


def test_an_unknown_task_another_corpus_or_none_is_named(tmp_path):
    refused(lambda: tasks.material("phoneme"), "'phoneme'", "phonemes")
    (tmp_path / "speech").mkdir()
    folder = corpus_files.write_ravdess(tmp_path / "speech")
    refused(lambda: tasks.material("intent", folder), "holds RAVDESS", "SLURP", "aligned speech")
    refused(lambda: tasks.material("intent"), "no corpus given for intent", "SLURP")
    content = tiny.study_content(tmp_path, tmp_path) | {"probes": {"tasks": ["emotions"]}}
    refused(lambda: load_study(tiny.write_yaml(tmp_path / "bad.yaml", content)), "emotions")


@pytest.mark.parametrize("task", ["sentence_type", "word_identity", "emotion", "intent"])
def test_classes_may_be_the_labels_of_aligned_speech(tmp_path, task):
    folder = corpus_files.write_aligned(tmp_path, 20)
    path = folder / "alignments.jsonl"
    first, *others = path.read_text().splitlines()
    unlabelled = json.loads(first)
    del unlabelled["label"]
    path.write_text("\n".join([json.dumps(unlabelled), *others]))
    corpus, parts = tasks.material(task, folder)
    assert corpus == "aligned speech" and {u.label for some in parts.values() for u in some} == {"odd", "even"}
    assert unlabelled["file"] not in {u.file.name for some in parts.values() for u in some}
    path.write_text(json.dumps(unlabelled))
    refused(lambda: tasks.material(task, folder), f"{folder}: found no utterance in the", "expected")


def test_a_corpus_that_cannot_be_divided_is_named(tmp_path):
    folder = corpus_files.write_aligned(tmp_path, 1)
    refused(lambda: tasks.material("phonemes", folder), f"{folder}: found no utterance in the", "expected")
    folder = corpus_files.write_aligned(tmp_path, 3)
    path = folder / "alignments.jsonl"
    lines = [json.loads(line) | {"speaker": "s"} for line in path.read_text().splitlines()]
    parted = [json.dumps(line | {"part": part}) for line, part in zip(lines, PARTS, strict=True)]
    path.write_text("\n".join(parted))
    refused(lambda: tasks.material("phonemes", folder), f"{folder}: speaker 's' is in", "expected")


def test_a_stand_in_is_asked_for_by_name_and_seed(tmp_path):
    folder, asked = corpus_files.write_aligned(tmp_path, 20), []
    corpus, parts = tasks.material("phonemes", seed=3, stand_in=lambda *given: asked.append(given) or folder)
    assert corpus == "spoken sentences" and asked == [("sentences", 3)]
    assert {part: len(some) for part, some in parts.items()} == {"train": 12, "validation": 3, "test": 5}
