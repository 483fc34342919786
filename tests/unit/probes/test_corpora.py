"""Corpora in their official layouts, made here: a few sounds with the names and annotations of the real ones."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from braintuning.probes import utterance as utterance_module
from braintuning.probes.corpora import (
    CORPORA,
    aligned,
    crema_d,
    librispeech,
    open_corpus,
    ravdess,
    slurp,
    speech_commands,
    timit,
)
from braintuning.probes.tasks import TASKS, material
from braintuning.probes.utterance import PARTS, divide, require_disjoint
from corpus_files import (
    tone,
    write_aligned,
    write_crema_d,
    write_librispeech,
    write_ravdess,
    write_slurp,
    write_sound,
    write_speech_commands,
    write_timit,
)
from tiny import listening, one_sentence, refused

WRITERS = {
    "TIMIT": write_timit,
    "Speech Commands": write_speech_commands,
    "CREMA-D": write_crema_d,
    "RAVDESS": write_ravdess,
    "SLURP": write_slurp,
    "LibriSpeech": write_librispeech,
    "aligned speech": write_aligned,
}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    return {name: write(tmp_path_factory.mktemp(name.replace(" ", "_"))) for name, write in WRITERS.items()}


@pytest.mark.parametrize(
    ("task", "name"),
    [(t, name) for t in TASKS for name in TASKS[t].corpora if name != "LibriSpeech" or t != "phonemes"],
)
def test_every_task_divides_every_corpus_that_it_takes(written, task, name):
    found, parts = material(task, written[name])
    assert found == name and all(parts[part] for part in PARTS)
    for what in ("speaker", "prompt"):
        if what == "speaker" or task != "word_identity":
            names = [{getattr(u, what) for u in parts[part]} - TASKS[task].said_by_all for part in PARTS]
            assert not (names[0] | names[1]) & names[2]
            assert not names[0] & names[1] or (what == "prompt" and name == "RAVDESS")
    if name == "TIMIT":
        labels = {u.label for u in parts["train"]}
        assert labels == ({"SA", "SX", "SI"} if task == "sentence_type" else {"SX", "SI"})


LFS = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 82260\n"
ANNEX = "../../.git/annex/objects/aa/bb/SHA256E-s9--0.wav/SHA256E-s9--0.wav"
NOT_HERE = {
    "lfs": (lambda path: path.write_text(LFS), ("a git-lfs pointer", "git lfs pull")),
    "annex": (
        lambda path: path.write_text("/annex/objects/SHA256E-s9--0.wav\n"),
        ("a git-annex pointer", "git annex get"),
    ),
    "text": (lambda path: path.write_text(ANNEX), ("a git-annex link turned into text", "datalad get")),
    "link": (
        lambda path: (path.unlink(), path.symlink_to(ANNEX)),
        ("a link to", "whose content is not here", "datalad get"),
    ),
    "page": (lambda path: path.write_text("<!DOCTYPE html><title>404</title>"), ("a web page",)),
    "page with a mark": (lambda path: path.write_text("\ufeff\n<html></html>"), ("a web page",)),
    "page of S3": (
        lambda path: path.write_text('<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>NoSuchKey</Code></Error>'),
        ("a web page",),
    ),
    "empty": (lambda path: path.write_bytes(b""), ("the file is empty",)),
    "half": (lambda path: path.write_bytes(path.read_bytes()[:1100]), ("half a file",)),
    "no samples": (
        lambda path: soundfile.write(path, np.zeros(0), 16_000, format="WAV"),
        ("no samples", "expected some"),
    ),
    "no sound": (lambda path: path.write_text("so long and thanks"), ("not an audio file",)),
}


OTHERS = [(name, "link") for name in WRITERS if name != "CREMA-D"] + [("TIMIT", "half")]


@pytest.mark.parametrize(("name", "case"), [*(("CREMA-D", case) for case in NOT_HERE), *OTHERS])
def test_a_recording_that_is_not_here_is_named_when_a_corpus_is_opened(tmp_path, written, name, case):
    folder = shutil.copytree(written[name], tmp_path / "a corpus")
    utterances = CORPORA[name].read(folder)
    spoil, parts = NOT_HERE[case]
    file = utterances[len(utterances) // 2].file
    if case == "half" and file.suffix == ".flac":
        write_sound(file.with_suffix(".wav"))
        file.with_suffix(".wav").replace(file)
    spoil(file)
    refused(lambda: open_corpus(folder, (name,)), file, *parts, CORPORA[name].SOURCE)


@pytest.mark.parametrize("name", WRITERS)
def test_what_systems_leave_behind_is_no_recording(tmp_path, written, name):
    folder = shutil.copytree(written[name], tmp_path / "corpus")
    before = open_corpus(folder, (name,))[1]
    for file in {utterance.file for utterance in before}:
        file.with_name(f"._{file.name}").write_bytes(b"\0\5\x16\7" + bytes(80))
        file.with_name(".DS_Store").write_bytes(b"\0\0\0\1Bud1")
        file.with_name("Thumbs.db").write_bytes(b"\xd0\xcf")
    (folder / "__MACOSX").mkdir()
    assert open_corpus(folder, (name,))[1] == before


def test_annotations_that_are_pointers_are_named(tmp_path, written):
    for name, annotation in (
        ("TIMIT", "TRAIN/DR1/FCJ00/SA1.PHN"), ("SLURP", "dataset/slurp/metadata.json"),
        ("SLURP", "dataset/slurp/test.jsonl"), ("Speech Commands", "testing_list.txt"),
        ("aligned speech", "alignments.jsonl"),
    ):  # fmt: skip
        folder = shutil.copytree(written[name], tmp_path / annotation.replace("/", " "))
        (folder / annotation).write_text(LFS)
        refused(lambda folder=folder, name=name: open_corpus(folder, (name,)), folder / annotation, "a git-lfs pointer")


def test_timit_keeps_its_test_part_and_validates_on_speakers_of_train(written):
    utterances = timit.read(written["TIMIT"])
    parts = divide([u for u in utterances if u.label != "SA"], np.random.default_rng(0), by_prompt=True)
    assert len(parts["test"]) == 4 * 8 and {u.part for u in utterances} == {"train", "test"}
    speakers = {part: {u.speaker for u in parts[part]} for part in PARTS}
    assert speakers["validation"] <= {u.speaker for u in utterances if u.part == "train"}
    assert len(speakers["validation"]) == 2 and len(speakers["train"]) == 10
    kept = sum(len(parts[part]) for part in ("train", "validation"))
    assert kept < 12 * 8 and {u.label for u in parts["train"]} == {"SX", "SI"}


def test_timit_has_its_phones_in_seconds_folded_to_39(written):
    utterances = timit.read(written["TIMIT"])
    assert len(utterances) == 16 * 10 and {u.label for u in utterances} == {"SA", "SX", "SI"}
    one = utterances[0]
    assert [phone.label for phone in one.phones] == ["sil", "SH", "IH", "sil", "D"]
    assert one.phones[1].start == 0.05 and one.phones[1].end == 0.1 and one.text == "She had."
    np.testing.assert_allclose(one.audio(), tone(), atol=1e-4)


def test_a_sentence_that_timit_has_twice_is_read_once(tmp_path):
    folder = write_timit(tmp_path)
    write_sound(folder / "TEST" / "DR5" / "MBC12" / "SA1.WAV.wav")
    utterances = timit.read(folder)
    assert len(utterances) == 16 * 10 and {u.file.name for u in utterances if u.prompt == "SA1"} == {"SA1.WAV"}


def test_timit_behind_links_to_folders_is_read_whole(tmp_path, written):
    folder = shutil.copytree(written["TIMIT"], tmp_path / "TIMIT")
    before = open_corpus(folder, ("TIMIT",))[1]
    for number, part in enumerate(("TRAIN", "TEST/DR5", "TEST/DR6/MBC13")):
        (folder / part).rename(tmp_path / str(number))
        (folder / part).symlink_to(tmp_path / str(number))
    assert open_corpus(folder, ("TIMIT",))[1] == before


def test_timit_folds_to_the_39_classes_that_are_known():
    from braintuning.lowlevel.phones import PHONES

    assert set(timit.FOLDED.values()) - {timit.SILENCE} <= set(PHONES)


IN_PARTS = {("aaa", "train"), ("bbb", "validation"), ("ccc", "test"), ("ddd", "train")}


def test_speech_commands_keeps_to_its_lists(written):
    utterances = speech_commands.read(written["Speech Commands"])
    assert len(utterances) == 4 * 35
    assert {(u.speaker, u.part) for u in utterances} == IN_PARTS


@pytest.mark.parametrize("ending", [".wav", ".flac"])
@pytest.mark.parametrize(("version", "words"), [(1, 30), (2, 35)])
def test_either_version_of_speech_commands_is_read_in_wav_and_flac(tmp_path, ending, version, words):
    folder = write_speech_commands(tmp_path)
    for word in speech_commands.ADDED if version == 1 else ():
        shutil.rmtree(folder / word)
    for name in speech_commands.LISTS.values():
        lines = (folder / name).read_text().split()
        kept = [line for line in lines if version == 2 or line.split("/")[0] not in speech_commands.ADDED]
        (folder / name).write_text("\n".join(kept))
    for path in folder.glob("*/*.wav"):
        samples, rate = soundfile.read(path)
        path.unlink()
        soundfile.write(path.with_suffix(ending), samples, rate)
    write_sound(folder / "_background_noise_" / "pink_noise.wav")
    utterances = open_corpus(folder, ("Speech Commands",))[1]
    assert len({u.label for u in utterances}) == words and len(utterances) == 4 * words
    assert {(u.speaker, u.part) for u in utterances} == IN_PARTS
    shutil.rmtree(folder / "bird")
    refused(lambda: speech_commands.read(folder), "'bird'", f"all {words} words", f"version {version}")


def test_without_lists_speakers_are_drawn_until_every_word_is_learnt_and_tested(tmp_path, monkeypatch):
    folder, said = write_speech_commands(tmp_path), []
    for name in speech_commands.LISTS.values():
        (folder / name).unlink()
    for path in folder.glob("*/*.wav"):
        path.unlink()
    for number, word in enumerate(speech_commands.WORDS):
        for speaker in range(9):
            if speaker < 5 or (number + speaker) % 4 == 0:
                write_sound(folder / word / f"s{speaker}_nohash_0.wav", tone(0.01))
    with listening(said.append):
        _, utterances = open_corpus(folder, ("Speech Commands",))
    one_sentence(*said, folder, "4 of 9 speakers lack some of 35 classes", "such as s8, without 'bed'")

    def well_divided(seed):
        parts = divide(utterances, np.random.default_rng(seed))
        counts = {(u.label, part): 0 for u in utterances for part in PARTS}
        for part in PARTS:
            for utterance in parts[part]:
                counts[utterance.label, part] += 1
        return all(counts[w, "train"] >= 2 and counts[w, "test"] for w in speech_commands.WORDS)

    assert all(well_divided(seed) for seed in range(20))
    monkeypatch.setattr(utterance_module, "DRAWS", 1)
    assert not all(well_divided(seed) for seed in range(20))


def test_ravdess_is_read_from_folders_of_actors_or_from_one_folder(tmp_path, written):
    nested = ravdess.read(written["RAVDESS"])
    flat = open_corpus(write_ravdess(tmp_path / "flat", folders=""), ("RAVDESS",))[1]
    outer = open_corpus(write_ravdess(tmp_path / "o", folders="Audio_Speech_Actors_01-24/Actor_{:02d}"), ("RAVDESS",))[
        1
    ]
    assert len(nested) == len(flat) == len(outer) == 12 * 6 * 2
    for found in (flat, outer):
        assert sorted(replace(u, file=None).__repr__() for u in found) == sorted(
            replace(u, file=None).__repr__() for u in nested
        )
    one = next(u for u in nested if u.file.stem == "03-01-05-01-02-01-07")
    assert (one.speaker, one.prompt, one.label, one.text) == ("07", "02", "anger", "Dogs are sitting by the door")
    copy = tmp_path / "flat" / "audio_speech_actors_01-24" / "Actor_01"
    shutil.copytree(written["RAVDESS"] / "Actor_01", copy)
    assert len(ravdess.read(tmp_path / "flat")) == len(flat)


def test_songs_video_and_further_emotions_of_ravdess_are_left_out_and_counted(tmp_path):
    folder, said = write_ravdess(tmp_path), []
    for name in ("03-02-05-01-01-01-04.wav", "03-02-03-02-02-01-04.wav", "01-01-05-01-01-01-04.wav"):
        write_sound(folder / "Actor_04" / name)
    (folder / "Actor_04" / "02-01-05-01-01-01-04.mp4").write_bytes(b"moving pictures")
    (folder / "README.md").write_text("notes")
    with listening(said.append):
        utterances = open_corpus(folder, ("RAVDESS",))[1]
    assert len(utterances) == 144 and {u.label for u in utterances} == set(ravdess.EMOTIONS.values())
    counted = "24 of calm, 2 of song, 24 of surprise, 2 of video"
    one_sentence(*said, folder, f"left out 52 of 196 recordings: {counted}")


@pytest.mark.parametrize("name", ["03-02-05-01-01-01-04.wav", "01-01-05-01-01-01-04.wav", "02-01-05-01-01-01-04.mp4"])
def test_ravdess_of_nothing_but_song_or_video_is_refused(tmp_path, name):
    write_sound(tmp_path / "Actor_04" / name) if name.endswith("wav") else write_ravdess(tmp_path, actors=[])
    (tmp_path / "Actor_04").mkdir(exist_ok=True)
    (tmp_path / "Actor_04" / name).write_bytes(b"moving pictures")
    kind = "song" if name.startswith("03-02") else "video"
    refused(lambda: open_corpus(tmp_path, ("RAVDESS",)), f"(1 of {kind})", "expected spoken audio of RAVDESS")


@pytest.mark.parametrize(
    "name", ["happy.wav", "03-01-09-01-01-01-04.wav", "03-01-05-01-01-01.flac", "03-01-05-01-01-01-x.wav"]
)
def test_a_sound_with_another_name_than_those_of_ravdess_is_named(tmp_path, name):
    file = write_sound(write_ravdess(tmp_path, actors=[4]) / "Actor_04" / name)
    refused(lambda: ravdess.read(tmp_path), file, "expected a name of RAVDESS")


def test_an_actor_without_an_emotion_is_a_note_and_stays(tmp_path):
    folder, said = write_ravdess(tmp_path), []
    for file in folder.glob("Actor_05/03-01-0[258]-*"):
        file.unlink()
    with listening(said.append):
        utterances = ravdess.read(folder)
    assert len(utterances) == 142
    one_sentence(said[-1], folder, "1 of 12 speakers lack some of 6 classes", "such as 05, without 'anger'")
    assert all(divide(utterances, np.random.default_rng(0), by_prompt=True).values())


def test_two_sentences_leave_one_to_test_and_one_to_train_and_validate_on(written):
    utterances = ravdess.read(written["RAVDESS"])
    for seed in range(4):
        parts = divide(utterances, np.random.default_rng(seed), by_prompt=True)
        prompts = {part: {u.prompt for u in parts[part]} for part in PARTS}
        assert prompts["train"] == prompts["validation"] and len(prompts["train"] | prompts["test"]) == 2
        assert not prompts["train"] & prompts["test"]
        speakers = [{u.speaker for u in parts[part]} for part in PARTS]
        assert [len(some) for some in speakers] == [7, 2, 3] and len(set().union(*speakers)) == 12
    mixed = {**parts, "test": tuple(u for u in utterances if u.speaker in speakers[2])}
    refused(lambda: require_disjoint(mixed, by_prompt=True), "prompt", "and in test")


def test_librispeech_has_texts_in_its_official_layout_and_phones_where_they_lie_beside(tmp_path, written):
    utterances = librispeech.read(written["LibriSpeech"])
    assert len(utterances) == 24 and {u.part for u in utterances} == {None} and not any(u.phones for u in utterances)
    one = next(u for u in utterances if u.file.name == "100-1240-0001.flac")
    assert (one.speaker, one.text, one.prompt) == ("100", "SO LONG AND 1 THANKS 100", one.text)
    refused(lambda: material("phonemes", written["LibriSpeech"]), written["LibriSpeech"], "no utterance", "expected")
    folder = shutil.copytree(written["LibriSpeech"], tmp_path / "both")
    write_aligned(folder)
    assert [u.speaker for u in open_corpus(folder, ("TIMIT", "LibriSpeech"))[1]] == [f"s{n}" for n in range(12)]


def test_crema_d_reads_actor_sentence_and_emotion_from_the_name(written):
    utterances = crema_d.read(written["CREMA-D"])
    assert (utterances[0].speaker, utterances[0].prompt, utterances[0].label) == ("1001", "DFA", "anger")
    assert len({u.label for u in utterances}) == 6


def test_recordings_of_crema_d_that_are_known_to_be_broken_are_left_out_and_counted(tmp_path):
    folder, said = write_crema_d(tmp_path, actors=[1064, 1076], sentences=["TIE"]), []
    before = len(list((folder / "AudioWAV").iterdir()))
    for name in ("1076_MTI_NEU_XX", "1076_MTI_SAD_XX", "1064_IEO_DIS_MD"):
        write_sound(folder / "AudioWAV" / f"{name}.wav", np.zeros(0, np.float32))
    with listening(said.append):
        utterances = open_corpus(folder, ("CREMA-D",))[1]
    assert len(utterances) == before - 1 and "1064_TIE_SAD_XX" not in {u.file.stem for u in utterances}
    one_sentence(*said, folder, f"left out 4 of {before + 3} recordings", "1064_TIE_SAD_XX", "1076_MTI_NEU_XX")


def test_slurp_has_every_part_although_all_its_speakers_are_in_all_parts(written):
    utterances = slurp.read(written["SLURP"])
    speakers = {part: {u.speaker for u in utterances if u.part == part} for part in PARTS}
    assert [len(speakers[part]) for part in PARTS] == [12, 3, 5] and len(set().union(*speakers.values())) == 20
    assert len(utterances) == 3 * 20 and {u.label for u in utterances} == {"set", "query", "remove"}
    assert all(f"audio-{u.part}-" in u.file.name for u in utterances)
    assert [u.file for u in slurp.read(written["SLURP"])] == [u.file for u in utterances]


@pytest.mark.parametrize(
    ("name", "gone", "said"),
    [
        ("TIMIT", "TRAIN/DR1/FCJ00/SX0.PHN", "SX0.PHN"),
        ("TIMIT", "TRAIN/DR1/FCJ00/SX0.TXT", "SX0.TXT"),
        ("TIMIT", "TEST", "TEST"),
        ("Speech Commands", "yes/ccc_nohash_0.wav", "yes/ccc_nohash_0.wav"),
        ("Speech Commands", "validation_list.txt", "validation_list.txt"),
        ("Speech Commands", "testing_list.txt", "testing_list.txt"),
        ("Speech Commands", "marvin", "'marvin'"),
        ("Speech Commands", "yes", "yes"),
        ("RAVDESS", "Actor_*", "Actor_"),
        ("RAVDESS", "Actor_*/*", "found no recording"),
        ("RAVDESS", "Actor_*/03-01-05-*", "'anger'"),
        ("RAVDESS", "Actor_*/03-01-*-*-02-*", "'Dogs are sitting by the door'"),
        ("LibriSpeech", "SPEAKERS.TXT", "SPEAKERS.TXT"),
        ("LibriSpeech", "*/*/*/*.trans.txt", ".trans.txt"),
        ("LibriSpeech", "*/101/*/*.trans.txt", "101-1240-0000.flac"),
        ("LibriSpeech", "*/101/*/101-1240-0001.flac", "101-1240-0001"),
        ("CREMA-D", "AudioWAV", "AudioWAV"),
        ("CREMA-D", "AudioWAV/*", "found no .wav file"),
        ("SLURP", "dataset/slurp/metadata.json", "metadata.json"),
        ("SLURP", "dataset/slurp/devel.jsonl", "devel.jsonl"),
        ("SLURP", "audio/slurp_real", "audio/slurp_real"),
        ("SLURP", "audio/slurp_real/audio-test-set-1.flac", "slurp_real.tar.gz"),
        ("aligned speech", "3.flac", "3.flac"),
    ],
)
def test_a_missing_piece_is_named_and_where_the_corpus_is_obtained(tmp_path, name, gone, said):
    folder = WRITERS[name](tmp_path)
    for path in list(folder.glob(gone)):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    refused(lambda: open_corpus(folder, (name,)), said, name, f"obtained from {CORPORA[name].SOURCE}")


@pytest.mark.parametrize("name", list(CORPORA))
def test_an_empty_folder_says_what_is_expected_and_where_it_is_obtained(tmp_path, name):
    mark = CORPORA[name].MARKS[0].split("|")[0]
    refused(lambda: open_corpus(tmp_path, (name,)), mark, name, CORPORA[name].SOURCE)
    refused(lambda: open_corpus(tmp_path / "nowhere", (name,)), "no such folder", CORPORA[name].SOURCE)


def test_another_corpus_is_recognised(written):
    refused(lambda: open_corpus(written["CREMA-D"], ("TIMIT", "aligned speech")), "holds CREMA-D", "expected TIMIT")


def test_what_does_not_belong_is_named(tmp_path):
    folder = write_crema_d(tmp_path / "c", actors=[1001], sentences=["DFA"])
    write_sound(folder / "AudioWAV" / "1001_DFA_JOY_XX.wav")
    refused(lambda: crema_d.read(folder), "JOY", "ANG")
    folder = write_timit(tmp_path / "t")
    speaker = folder / "TEST" / "DR5" / "MBC12"
    (speaker / "SX3.PHN").write_text("0 800 xx\n")
    refused(lambda: timit.read(folder), "'xx'", "0.000 s", "61 of TIMIT")
    (speaker / "SX3.PHN").write_text("0 800 h#\n800\n")
    refused(lambda: timit.read(folder), "SX3.PHN", "'800'", "expected first sample")
    (speaker / "SX3.PHN").write_text("0 800 h#\n800 1600 iy\n\n")
    assert any(u.prompt == "SX3" and [p.label for p in u.phones] == ["sil", "IY"] for u in timit.read(folder))
    write_sound(speaker / "S37.WAV")
    refused(lambda: timit.read(folder), "S37.WAV", "SA, SX, SI")
    folder = write_speech_commands(tmp_path / "w")
    write_sound(folder / "yes" / "mine.wav")
    refused(lambda: speech_commands.read(folder), "mine.wav", "_nohash_")
    folder = write_slurp(tmp_path / "s")
    (folder / "dataset" / "slurp" / "test.jsonl").write_text('{"slurp_id": 1}\n')
    refused(lambda: slurp.read(folder), "test.jsonl", "line 1")
    folder = tmp_path / "a"
    folder.mkdir()
    unknown = '{"file": "y.wav", "speaker": "s"}\n'
    (folder / "alignments.jsonl").write_text(unknown + '{"file": "x.wav", "speaker": "s", "label": "a"}\n')
    refused(lambda: aligned.read(folder), "line 2", "'text'")


LINE = {"file": "x.wav", "speaker": "s1", "text": "hello", "phones": [["SIL", 0, 0.1], ["AH", 0.1, 0.2]]}
SOUND = {
    "a blank last line": json.dumps(LINE) + "\n\n",
    "blank lines between": "\n" + json.dumps(LINE) + "\r\n  \r\n",
    "a byte-order mark": "\ufeff" + json.dumps(LINE) + "\n",
    "no prompt": json.dumps(LINE | {"prompt": None, "part": None, "label": None}),
    "characters that end a line elsewhere": json.dumps(LINE | {"text": "a\u2028b\u0085c\x0cd"}, ensure_ascii=False),
}
UNSOUND = {
    "broken": ("{\n", ("line 1 is not JSON",)),
    "broken further down": (json.dumps(LINE) + "\n\n" + json.dumps(LINE)[:-1], ("line 3 is not JSON",)),
    "no object": (json.dumps(LINE) + "\n[1]\n", ("line 2 is '[1]'", "expected an object")),
    "a phone without times": (json.dumps(LINE | {"phones": [["AH"]]}), ("line 1 has ['AH'] in 'phones'",)),
    **{
        f"{key} is {value!r}": (
            json.dumps(LINE) + "\n" + json.dumps(LINE | {key: value}),
            ("line 2 has", f"in {key!r}"),
        )
        for key, value in (
            ("file", None),
            ("file", 12),
            ("file", ["x.wav"]),
            ("text", None),
            ("text", {}),
            ("speaker", None),
            ("speaker", True),
            ("prompt", 1.5),
            ("label", ["a"]),
            ("phones", [["AH", 0, np.nan]]),
            ("phones", [["AH", np.nan, 1]]),
            ("phones", [["AH", 0, np.inf]]),
            ("phones", [["AH", -np.inf, 1]]),
        )
    },
    "another encoding": ("\udcff", ("not UTF-8", "expected")),
    "another alphabet": (
        json.dumps(LINE | {"phones": [["SIL", 0, 0.1], ["ə", 0.5, 1]]}),
        ("1 of 1 phones", "'ə' at 0.50 s"),
    ),
}


def alignments(folder, text):
    write_sound(folder / "x.wav")
    path = folder / "alignments.jsonl"
    path.write_bytes(text.encode("utf-8", errors="surrogateescape"))
    return path


@pytest.mark.parametrize("case", SOUND)
def test_alignments_as_people_have_them_are_read(tmp_path, case):
    alignments(tmp_path, SOUND[case])
    (utterance,) = open_corpus(tmp_path, ("aligned speech",))[1]
    assert [phone.label for phone in utterance.phones] == ["SIL", "AH"]
    assert utterance.text == ("a\u2028b\u0085c\x0cd" if "elsewhere" in case else "hello")


@pytest.mark.parametrize("case", UNSOUND)
def test_alignments_that_cannot_be_read_are_named_with_file_and_line(tmp_path, case):
    text, parts = UNSOUND[case]
    refused(lambda: aligned.read(tmp_path), alignments(tmp_path, text), *parts)


def test_speakers_by_number_and_by_name_are_divided_and_no_prompt_is_the_text(tmp_path):
    speakers = [12, "s1", "12", *range(20, 40)]
    alignments(tmp_path, "\n".join(json.dumps(LINE | {"speaker": speaker, "prompt": None}) for speaker in speakers))
    found = aligned.read(tmp_path)
    assert [utterance.speaker for utterance in found] == [str(speaker) for speaker in speakers]
    assert {utterance.prompt for utterance in found} == {"hello"}
    parts = divide(found, np.random.default_rng(0))
    assert all(parts[part] for part in PARTS) and sum(map(len, parts.values())) == len(found)


def test_files_joined_to_one_have_marks_on_later_lines(tmp_path):
    alignments(tmp_path, f"\ufeff{json.dumps(LINE)}\n\ufeff{json.dumps(LINE)}\n\ufeff\n")
    assert len(aligned.read(tmp_path)) == 2


@pytest.mark.parametrize("spell", [str.lower, str.capitalize])
def test_timit_is_read_whatever_the_case_of_its_folders_and_phones(tmp_path, written, spell):
    folder = shutil.copytree(written["TIMIT"], tmp_path / "timit")
    before = open_corpus(folder, ("TIMIT",))[1]
    for part in ("TRAIN", "TEST"):
        (folder / part).rename(folder / "moving")
        (folder / "moving").rename(folder / spell(part))
    for path in folder.rglob("*.PHN"):
        path.write_text(path.read_text().upper())
    after = open_corpus(folder, ("TIMIT",))[1]
    assert [replace(u, file=None) for u in after] == [replace(u, file=None) for u in before]
    path.write_text("0 800 H#\n800 1600 AX-H\n")
    assert any([p.label for p in u.phones] == ["sil", "AH"] for u in timit.read(folder))


@pytest.mark.parametrize("key", ["slurp_id", "action", "recordings"])
@pytest.mark.parametrize("there", [True, False])
def test_an_entry_of_slurp_without_what_it_needs_is_named_with_its_line(tmp_path, key, there):
    path = write_slurp(tmp_path) / "dataset" / "slurp" / "test.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[1].pop(key)
    if there:
        lines[1][key] = None
    path.write_text("\n".join(map(json.dumps, lines)))
    refused(lambda: open_corpus(tmp_path, ("SLURP",)), f"{path}: line 2", key)


def test_phones_outside_the_39_are_left_out_of_utterances_and_counted(tmp_path):
    lines = [LINE | {"phones": [[label, 0, 0.1] for label in labels.split()]} for labels in ("SIL AH H T", "H", "S")]
    path, said = alignments(tmp_path, "\n".join(map(json.dumps, [*lines, lines[1] | {"label": "a"}]))), []
    with listening(said.append):
        found = aligned.read(tmp_path)
    assert [[phone.label for phone in u.phones] for u in found] == [["SIL", "AH", "T"], [], ["S"], []]
    one_sentence(said[0], path, "left out 3 of 6 phones", "(H 3)")


def test_speech_with_text_alone_is_there_to_be_recognised(tmp_path):
    lines = [LINE | {"speaker": f"s{n}", "text": f"hello {n}"} for n in range(12)]
    alignments(tmp_path, "\n".join(json.dumps({k: v for k, v in line.items() if k != "phones"}) for line in lines))
    assert sum(map(len, material("asr", tmp_path)[1].values())) == 12
    refused(lambda: material("phonemes", tmp_path), "found no utterance")


REAL = {
    "phonemes": ("librispeech", "LibriSpeech", 300, 64),
    "asr": ("librispeech", "LibriSpeech", 300, 64),
    "mfcc": ("librispeech", "LibriSpeech", 300, 64),
    "emotion": ("ravdess", "RAVDESS", 120, 5),
    "word_identity": ("speech_commands", "Speech Commands", 300, 10),
}


@pytest.mark.parametrize("task", REAL)
def test_real_corpora_are_divided_by_speaker_and_prompt(shared, task):
    folder, name, n_utterances, n_test_speakers = REAL[task]
    corpus, parts = material(task, shared / "data" / folder)
    assert corpus == name and sum(map(len, parts.values())) == n_utterances
    speakers = [{u.speaker for u in parts[part]} for part in PARTS]
    assert len(speakers[2]) == n_test_speakers
    assert not (speakers[0] & speakers[1] or speakers[0] & speakers[2] or speakers[1] & speakers[2])
    if task != "word_identity":
        assert not {u.prompt for p in PARTS[:2] for u in parts[p]} & {u.prompt for u in parts["test"]}
    if task in ("emotion", "word_identity"):
        assert {u.label for u in parts["train"]} == {u.label for u in parts["test"]}
        assert len({u.label for u in parts["train"]}) == (6 if task == "emotion" else 30)
    assert all(0.2 < len(u.audio()) / 16_000 < 40 for u in parts["test"][:3])


def test_real_speech_is_read_and_divided(shared):
    name, utterances = open_corpus(shared / "data" / "librispeech", ("TIMIT", "aligned speech"))
    assert name == "aligned speech" and len(utterances) == 300
    parts = divide(utterances, np.random.default_rng(0), by_prompt=True)
    speakers = {part: {u.speaker for u in parts[part]} for part in PARTS}
    assert len(speakers["test"]) > 60 and not speakers["test"] & (speakers["train"] | speakers["validation"])


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
    refused(lambda: require_disjoint({**parts, "test": ()}), "no utterance in the test part")
    some = [replace(utterances[0], part=None), *utterances]
    refused(lambda: divide(some, np.random.default_rng(0)), utterances[0].file.name, "no part")
