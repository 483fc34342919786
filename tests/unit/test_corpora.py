"""Corpora in their official layouts, made here: a few sounds with the names and annotations of the real ones."""

import numpy as np
import pytest
from braintuning.probes.corpora import CORPORA, aligned, crema_d, open_corpus, slurp, speech_commands, timit
from braintuning.probes.utterance import PARTS, divide, require_disjoint
from corpus_files import (
    tone,
    write_aligned,
    write_crema_d,
    write_slurp,
    write_sound,
    write_speech_commands,
    write_timit,
)
from tiny import refused

WRITERS = {
    "TIMIT": write_timit,
    "Speech Commands": write_speech_commands,
    "CREMA-D": write_crema_d,
    "SLURP": write_slurp,
    "aligned speech": write_aligned,
}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return {name: write(tmp_path_factory.mktemp(name.replace(" ", "_"))) for name, write in WRITERS.items()}


@pytest.mark.parametrize("name", list(CORPORA))
def test_every_corpus_is_recognised_read_and_divided_without_a_speaker_in_two_parts(written, name):
    found, utterances = open_corpus(written[name], tuple(CORPORA))
    assert found == name
    parts = divide(utterances, np.random.default_rng(0), by_prompt=name == "CREMA-D")
    for what in ("speaker", "prompt") if name == "CREMA-D" else ("speaker",):
        names = [{getattr(utterance, what) for utterance in parts[part]} for part in PARTS]
        assert not (names[0] & names[1] or names[0] & names[2] or names[1] & names[2])
    assert all(len(part) for part in parts.values())


def test_timit_has_its_phones_in_seconds_folded_to_39(written):
    utterances = timit.read(written["TIMIT"])
    assert {(u.speaker, u.part) for u in utterances} == {("FCJF0", "train"), ("MBCG0", "validation"), ("FAKS0", "test")}
    assert {u.label for u in utterances} == {"SA", "SX", "SI"}
    one = utterances[0]
    assert [phone.label for phone in one.phones] == ["sil", "SH", "IH", "sil", "D"]
    assert one.phones[1].start == 0.05 and one.phones[1].end == 0.1 and one.text == "She had."
    np.testing.assert_allclose(one.audio(), tone(), atol=1e-4)


def test_timit_folds_to_the_39_classes_that_are_known():
    from braintuning.phones import PHONES

    assert set(timit.FOLDED.values()) - {timit.SILENCE} <= set(PHONES)


def test_speech_commands_keeps_to_its_lists(written):
    utterances = speech_commands.read(written["Speech Commands"])
    assert len(utterances) == 3 * 35
    assert {(u.speaker, u.part) for u in utterances} == {("aaa", "train"), ("bbb", "validation"), ("ccc", "test")}


def test_crema_d_reads_actor_sentence_and_emotion_from_the_name(written):
    utterances = crema_d.read(written["CREMA-D"])
    assert (utterances[0].speaker, utterances[0].prompt, utterances[0].label) == ("1001", "DFA", "anger")
    assert len({u.label for u in utterances}) == 6


def test_a_speaker_of_slurp_stays_where_most_recordings_are(written):
    utterances = slurp.read(written["SLURP"])
    assert [u.part for u in utterances if u.speaker == "FO-1"] == ["train", "train"]
    assert len(utterances) == 8 and {u.label for u in utterances} == {"set"}


@pytest.mark.parametrize(
    ("name", "gone", "said"),
    [
        ("TIMIT", "TRAIN/DR1/FCJF0/SX37.PHN", "SX37.PHN"),
        ("Speech Commands", "yes/ccc_nohash_0.wav", "yes/ccc_nohash_0.wav"),
        ("SLURP", "dataset/slurp/metadata.json", "metadata.json"),
        ("SLURP", "audio/slurp_real/audio-test-1-headset.flac", "slurp_real.tar.gz"),
        ("aligned speech", "3.flac", "3.flac"),
    ],
)
def test_a_missing_piece_is_named(tmp_path, name, gone, said):
    folder = WRITERS[name](tmp_path)
    (folder / gone).unlink()
    refused(lambda: open_corpus(folder, (name,)), said)


@pytest.mark.parametrize("name", list(CORPORA))
def test_an_empty_folder_says_what_is_expected_and_where_it_is_obtained(tmp_path, name):
    refused(lambda: open_corpus(tmp_path, (name,)), CORPORA[name].marks[0], name, CORPORA[name].obtained)
    refused(lambda: open_corpus(tmp_path / "nowhere", (name,)), "no such folder", CORPORA[name].obtained)


def test_another_corpus_is_recognised(written):
    refused(lambda: open_corpus(written["CREMA-D"], ("TIMIT", "aligned speech")), "holds CREMA-D", "expected TIMIT")


def test_what_does_not_belong_is_named(tmp_path):
    folder = write_crema_d(tmp_path / "c", actors=[1001], sentences=["DFA"])
    write_sound(folder / "AudioWAV" / "1001_DFA_JOY_XX.wav")
    refused(lambda: crema_d.read(folder), "JOY", "ANG")
    folder = write_timit(tmp_path / "t")
    (folder / "TEST" / "DR1" / "FAKS0" / "SX37.PHN").write_text("0 800 xx\n")
    refused(lambda: timit.read(folder), "'xx'", "0.000 s", "61 of TIMIT")
    folder = write_slurp(tmp_path / "s")
    (folder / "dataset" / "slurp" / "test.jsonl").write_text('{"slurp_id": 1}\n')
    refused(lambda: slurp.read(folder), "test.jsonl", "line 1")
    folder = tmp_path / "a"
    folder.mkdir()
    unknown = '{"file": "y.wav", "speaker": "s"}\n'
    (folder / "alignments.jsonl").write_text(unknown + '{"file": "x.wav", "speaker": "s", "label": "a"}\n')
    refused(lambda: aligned.read(folder), "line 2", "'text'")


def test_real_speech_is_read_and_divided(shared):
    name, utterances = open_corpus(shared / "data" / "librispeech", ("TIMIT", "aligned speech"))
    assert name == "aligned speech" and len(utterances) == 300
    parts = divide(utterances, np.random.default_rng(0), by_prompt=True)
    assert sum(map(len, parts.values())) == 300 and min(map(len, parts.values())) > 30


def test_empty_sound_is_named(tmp_path):
    folder = write_crema_d(tmp_path, actors=[1001], sentences=["DFA"])
    empty = write_sound(folder / "AudioWAV" / "1001_DFA_ANG_XX.wav", np.zeros(0, np.float32))
    found = next(u for u in crema_d.read(folder) if u.file == empty)
    refused(found.audio, empty.name)


def test_a_speaker_or_prompt_in_two_parts_is_refused(written):
    utterances = speech_commands.read(written["Speech Commands"])
    parts = {part: tuple(u for u in utterances if u.part == part) for part in PARTS}
    require_disjoint(parts)
    refused(lambda: require_disjoint(parts, by_prompt=True), "prompt", "is in train and in validation")
    refused(lambda: require_disjoint({**parts, "test": parts["train"][:1]}), "speaker 'aaa'", "train and in test")
    refused(lambda: require_disjoint({**parts, "test": ()}), "no utterance to test on")
