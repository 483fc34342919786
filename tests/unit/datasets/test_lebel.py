import json
import re

import h5py
import nibabel
import numpy as np
import pytest
import soundfile
import tiny
from braintuning.cortex.subject import fs_lr_cortex_of_vertices
from braintuning.datasets.lebel import LebelDataset
from braintuning.datasets.textgrid import Interval
from braintuning.demo.textgrid_writer import write_textgrid
from braintuning.errors import InputError, MissingTier
from braintuning.results import REPOSITORY
from tiny import N_ROWS, N_VOXELS, PARTICIPANTS, STORIES, TEST, refused

REAL_CORTEX = LebelDataset.cortex


@pytest.fixture(autouse=True)
def few_voxels(monkeypatch):
    monkeypatch.setattr(LebelDataset, "cortex", lambda *_: tiny.cortex())


@pytest.fixture
def dataset(files):
    return LebelDataset(files.root, tiny.TR)


def check(dataset):
    dataset.check(dict.fromkeys(PARTICIPANTS, STORIES))


def overwrite(path, change):
    """Change the arrays of a response file in place: `change` gets a dict of arrays and alters it."""
    with h5py.File(path) as file:
        arrays = {name: file[name][()] for name in file}
    change(arrays)
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array


def test_a_whole_dataset_passes_the_check(dataset):
    check(dataset)


@pytest.mark.parametrize(("scale", "shift"), [(1.0, 900.0), (20.0, 0.0), (0.02, 0.0)])
def test_responses_that_are_not_z_scored_are_refused(dataset, files, scale, shift):
    overwrite(files.hf5("P2", "orchard"), lambda arrays: arrays.update(data=scale * arrays["data"] + shift))
    refused(lambda: check(dataset), files.hf5("P2", "orchard"), "standard deviation", "expected 0 and 1: z-score each")


def test_a_mean_over_ten_z_scored_repeats_need_not_be_z_scored_again(dataset, files):
    def average(arrays):
        repeats = np.random.default_rng(0).standard_normal((10, *arrays["data"].shape))
        repeats = (repeats - repeats.mean(axis=1, keepdims=True)) / repeats.std(axis=1, keepdims=True)
        arrays.update(data=repeats.mean(axis=0), individual_repeats=repeats)

    overwrite(files.hf5("P2", "orchard"), average)
    check(dataset)


def test_participants_and_stories_are_those_on_disk(dataset, files):
    files.hf5("P2", "orchard").unlink()
    assert dataset.participants == ("P1", "P2")
    assert dataset.stories("P1") == tuple(sorted(STORIES))
    assert dataset.stories("P2") == tuple(sorted(set(STORIES) - {"orchard"}))


def test_row_i_is_read_in_the_middle_of_volume_i_plus_10_and_the_sound_starts_10_028_s_after_the_trigger(files):
    files.volumes.write_text(json.dumps({"harbour": 47}))
    times = LebelDataset(files.root, 2.0045).tr_times("P1", "harbour")
    np.testing.assert_allclose(times, [(i + 10.5) * 2.0045 - 10.028 for i in range(27)], rtol=0, atol=1e-12)


def test_where_a_row_lies_in_its_acquisition_and_what_was_not_stored_can_be_said(files):
    files.volumes.write_text(json.dumps({"harbour": 47}))
    dataset = LebelDataset(files.root, 2.0045, row_offset=0.5, unstored_volumes=6, sound_starts=8.0)
    expected = [(i + 6.5) * 2.0045 - 8 for i in range(35)]
    np.testing.assert_allclose(dataset.tr_times("P1", "harbour"), expected, rtol=0, atol=1e-12)


def test_responses_are_what_was_stored(dataset, files):
    with h5py.File(files.hf5("P1", "winter")) as file:
        data, repeats = file["data"][()], file["individual_repeats"][()]
    chosen = np.zeros(N_VOXELS, bool)
    chosen[[3, 7, 29]] = True
    np.testing.assert_array_equal(dataset.responses("P1", "winter"), data.astype(np.float32))
    np.testing.assert_array_equal(dataset.responses("P1", "winter", chosen), data[:, [3, 7, 29]].astype(np.float32))
    np.testing.assert_array_equal(dataset.repeats("P1", "winter"), repeats.astype(np.float32))


def test_words_and_phones_come_from_their_own_tiers(dataset):
    assert [w.label for w in dataset.words("harbour")[:2]] == ["and", "then"]
    assert [p.label for p in dataset.phones("harbour")[:2]] == ["AH0", "T"]
    assert dataset.words("harbour")[3].start == 4.0


def test_stereo_sound_at_another_rate_is_converted_and_keeps_its_pitch_and_length(dataset, files):
    times = np.arange(round(tiny.SECONDS * 44_100)) / 44_100
    left = 0.5 * np.sin(2 * np.pi * 440 * times)
    soundfile.write(files.wav("harbour"), np.stack([left, np.zeros_like(left)], axis=1), 44_100, subtype="PCM_16")
    heard = dataset.audio("harbour")
    check(dataset)
    assert heard.shape == (16_000 * 60,) and heard.dtype == np.float32
    expected = 0.25 * np.sin(2 * np.pi * 440 * np.arange(len(heard)) / 16_000)
    np.testing.assert_allclose(heard[200:-200], expected[200:-200], atol=1e-3)


def test_voxels_are_the_cortex_vertices_of_fs_lr(dataset, monkeypatch):
    monkeypatch.setattr(LebelDataset, "cortex", REAL_CORTEX)
    assert dataset.cortex("P1") is fs_lr_cortex_of_vertices()


def test_responses_that_do_not_fit_the_cortex_are_refused(dataset, monkeypatch):
    monkeypatch.setattr(LebelDataset, "cortex", REAL_CORTEX)
    refused(lambda: check(dataset), "pycortex-db/P1", "the cortex has 59412 voxels", "expected 30")


def test_responses_with_another_number_of_voxels_than_the_study_says_are_refused(files, monkeypatch):
    dataset = LebelDataset(files.root, tiny.TR, voxels={"P2": 31})
    dataset.responses("P1", "harbour")
    refused(lambda: dataset.responses("P2", "harbour"), files.hf5("P2", "harbour"), "(20, 30)", "20 rows of 31 voxels")


ANNEX = "../../../.git/annex/objects/aa/bb/MD5E-s9--0.hf5/MD5E-s9--0.hf5"


def test_voxels_are_counted_in_the_first_file_that_can_be_read(dataset, files):
    first, *others = sorted(STORIES)
    files.hf5("P1", first).unlink()
    files.hf5("P1", first).symlink_to(ANNEX)
    assert dataset.n_voxels("P1") == N_VOXELS
    assert dataset.check({"P1": others}) == []
    assert dataset.responses("P1", others[0]).shape == (N_ROWS, N_VOXELS)
    refused(lambda: dataset.responses("P1", first), files.hf5("P1", first), "datalad get")


def test_where_no_file_can_be_read_the_first_is_named(dataset, files):
    for story in STORIES:
        files.hf5("P1", story).unlink()
        files.hf5("P1", story).symlink_to(ANNEX)
    refused(lambda: dataset.n_voxels("P1"), files.hf5("P1", min(STORIES)), "a link to", "datalad get")
    for story in STORIES:
        files.hf5("P1", story).unlink()
    refused(lambda: dataset.n_voxels("P1"), files.hf5("P1", "x").parent, "found no .hf5 file", "expected")


def test_an_unknown_story_is_refused_with_the_nearest(dataset):
    refused(lambda: dataset.responses("P1", "harbor"), "harbor.hf5", "not found", "did you mean 'harbour'?")


def test_a_folder_without_volumes_is_refused(tmp_path):
    refused(
        lambda: LebelDataset(tmp_path, 2.0), tmp_path, "no derivatives/ or derivative/", "respdict.json", "expected"
    )
    refused(lambda: LebelDataset(tmp_path / "none", 2.0), tmp_path / "none", "no such folder", "expected")
    for folder in ("derivatives", "derivative"):
        (tmp_path / folder / "TextGrids").mkdir(parents=True)
        refused(lambda: LebelDataset(tmp_path, 2.0), tmp_path / folder / "respdict.json", "not found", "expected")
        (tmp_path / folder / "TextGrids").rmdir()


def test_an_unknown_participant_is_named_with_those_there_are(dataset):
    refused(lambda: dataset.stories("P9"), "P9", "no such participant", "P1, P2")
    refused(lambda: dataset.check({"P9": STORIES}), "P9", "no such participant")
    refused(lambda: dataset.responses("P9", "harbour"), "P9")


def test_a_story_without_audio_is_refused(dataset, files):
    files.wav("orchard").unlink()
    refused(lambda: check(dataset), files.wav("orchard"), "expected")


def test_a_story_without_responses_is_refused_before_any_sound_is_read(dataset, files, monkeypatch):
    files.hf5("P2", "kitchen").unlink()
    monkeypatch.setattr(LebelDataset, "audio", lambda *_: pytest.fail("sound was read first"))
    refused(lambda: check(dataset), files.hf5("P2", "kitchen"), "not found", "P2", "`lacks: {P2: [kitchen]}`")


def volumes(files, table, participant="P1", story="harbour", **settings):
    files.volumes.write_text(table if isinstance(table, str) else json.dumps(table), encoding="utf-8")
    return LebelDataset(files.root, 2.0, **settings).volumes(participant, story)


@pytest.mark.parametrize(
    "table", [{"harbour": 47}, {"harbour": 47.0}, '\ufeff{"harbour": 4.7e1}', {"P1": {"harbour": 47}}]
)
def test_a_whole_number_of_volumes_is_read_however_it_is_written(files, table):
    found = volumes(files, table)
    assert found == 47 and type(found) is int


def test_volumes_that_differ_between_participants_stand_under_each(files):
    table = {"P1": {"harbour": 47}, "P2": {"harbour": 52.0, "winter": 60}, "winter": 70, "kitchen": 80}
    assert [volumes(files, table, p) for p in ("P1", "P2")] == [47, 52]
    assert [volumes(files, table, p, "winter") for p in ("P1", "P2", None)] == [70, 60, 70]
    assert volumes(files, table, "P2", "kitchen") == 80
    refused(lambda: volumes(files, table, "P3"), files.volumes, "no volumes for story 'harbour'", "expected")
    refused(lambda: volumes(files, table, "P1", "orchard"), files.volumes, "'orchard' of P1", "expected")


@pytest.mark.parametrize(
    "found", ["173", [173], None, True, 20, 15, 0, -173, 47.5, float("nan"), float("inf"), {"P8": 47, "P9": 47}]
)
def test_what_is_no_number_of_volumes_is_refused_by_the_name_of_the_file(files, found):
    message = refused(lambda: volumes(files, {"harbour": found}), files.volumes, "story 'harbour'", "from 21 on")
    assert repr(found)[:8] in message
    refused(lambda: volumes(files, {"P1": {"harbour": found}}), files.volumes, "'harbour' of P1", "from 21 on")


def test_as_many_volumes_as_are_unstored_and_one_more_are_enough(files):
    assert volumes(files, {"harbour": 21}) == 21
    assert volumes(files, {"harbour": 3}, unstored_volumes=1) == 3
    refused(lambda: volumes(files, {"harbour": 2}, unstored_volumes=1), files.volumes, "found 2", "from 3 on")


@pytest.mark.parametrize("table", ["[47]", "47", '"harbour"', "null", "", "harbour: 47", "\x00\x01"])
def test_a_table_of_volumes_that_is_none_is_refused(files, table):
    refused(lambda: volumes(files, table), files.volumes)


def test_a_story_without_volumes_is_refused(dataset, files):
    files.volumes.write_text(json.dumps({"harbour": 40}))
    refused(lambda: check(dataset), files.volumes, "orchard", "expected")


@pytest.mark.parametrize("n_rows", [N_ROWS - 1, N_ROWS + 20])
def test_responses_whose_rows_do_not_fit_the_story_are_refused(dataset, files, n_rows):
    files.write_responses("P2", "harbour", np.random.default_rng(0).standard_normal((n_rows, N_VOXELS)))
    refused(
        lambda: check(dataset),
        files.hf5("P2", "harbour"),
        f"({n_rows}, {N_VOXELS})",
        f"expected {N_ROWS} rows, {N_ROWS + 20} volumes in respdict.json without 10 at either end",
    )


def test_a_file_with_another_ending_is_named_beside_the_one_that_is_missing(dataset, files):
    files.wav("harbour").rename(files.wav("harbour").with_suffix(".WAV"))
    refused(lambda: dataset.audio("harbour"), files.wav("harbour"), "harbour.WAV is there")
    responses = files.hf5("P1", "winter")
    responses.rename(responses.with_suffix(".h5"))
    refused(lambda: dataset.responses_file("P1", "winter"), responses, "not found; winter.h5 is there")
    files.wav("orchard").unlink()
    with pytest.raises(InputError, match=r"expected a file$"):
        dataset.audio("orchard")


def test_repeats_whose_rows_do_not_fit_the_story_are_refused(dataset, files):
    overwrite(files.hf5("P1", "winter"), lambda a: a.update(individual_repeats=a["individual_repeats"][:, 1:]))
    refused(lambda: dataset.repeats("P1", "winter"), files.hf5("P1", "winter"), "(4, 19, 30)", "expected 20 rows")


def test_a_response_file_without_data_is_refused(dataset, files):
    with h5py.File(files.hf5("P1", "harbour"), "w") as file:
        file["timecourse"] = np.zeros((N_ROWS, N_VOXELS))
    refused(lambda: check(dataset), files.hf5("P1", "harbour"), "timecourse", "expected a dataset named 'data'")


@pytest.mark.parametrize("value", [np.inf, -np.inf])
def test_an_infinite_value_is_refused_by_its_index(dataset, files, value):
    def spoil(arrays):
        arrays["data"][5, 11] = value

    overwrite(files.hf5("P1", "orchard"), spoil)
    refused(lambda: check(dataset), files.hf5("P1", "orchard"), "infinite values in 1 of 30", "index 11", "expected")


@pytest.mark.parametrize("value", [np.nan, 0.7])
def test_a_broken_voxel_is_counted_in_one_line_a_file_and_read_as_it_is(dataset, files, value):
    def spoil(arrays):
        arrays["data"][:, 11] = value

    for participant, story in (("P1", "orchard"), ("P2", "winter")):
        overwrite(files.hf5(participant, story), spoil)
    notes = dataset.check(dict.fromkeys(PARTICIPANTS, STORIES))
    assert len(notes) == 2
    tiny.one_sentence(notes[0], files.hf5("P1", "orchard"), "1 of 30 voxels are NaN or constant")
    tiny.one_sentence(notes[1], files.hf5("P2", "winter"))
    np.testing.assert_array_equal(dataset.responses("P1", "orchard")[:, 11], np.float32([value] * N_ROWS))


def test_a_file_with_more_broken_voxels_than_a_brain_has_is_refused(dataset, files):
    def spoil(arrays):
        arrays["data"][:, [4, 21]] = 0.7

    overwrite(files.hf5("P2", "winter"), spoil)
    refused(lambda: check(dataset), files.hf5("P2", "winter"), "a constant value in 2 of 30", "index 4", "at most 1")


def test_a_tier_without_a_word_is_refused(dataset, files):
    labels = [Interval(label, float(s), s + 0.5) for s, label in enumerate(("sp", "{NS}", "", "br"))]
    write_textgrid(files.grid("orchard"), {"word": labels, "phone": labels}, tiny.SECONDS)
    refused(lambda: check(dataset), files.grid("orchard"), "no word", "expected")


def test_a_textgrid_without_a_word_tier_is_refused(dataset, files):
    files.write_grid("harbour", tiers=("phone",))
    refused(lambda: check(dataset), files.grid("harbour"), "'word'", "found: 'phone'", "expected one")


def test_word_tiers_alone_are_enough(dataset, files):
    for story in STORIES:
        files.write_grid(story, tiers=("word",))
    assert dataset.check(dict.fromkeys(PARTICIPANTS, STORIES)) == []
    with pytest.raises(MissingTier):
        dataset.phones("harbour")


def write_labels(files, story, words, phones):
    tiers = {"word": words, "phone": phones}
    tiers = {tier: [Interval(p, s + 1.0, s + 1.5) for s, p in enumerate(labels)] for tier, labels in tiers.items()}
    write_textgrid(files.grid(story), tiers, tiny.SECONDS)


def test_words_are_given_in_one_spelling_and_each_story_with_odd_phones_has_a_note(dataset, files):
    write_labels(files, "orchard", ["{LS)", "“SO,", "WE'LL", "(br", "go--"], ["AH0", "ah1", "H", "C", "H", "T"])
    write_labels(files, "winter", ["and"] * 6, ["OA1", "S", "T", "IY0", "sp"])
    assert [word.label for word in dataset.words("orchard")] == ["so", "we'll", "go"]
    assert [p.label for p in dataset.phones("orchard")] == ["AH0", "ah1", "T"]
    first, second = dataset.check(dict.fromkeys(PARTICIPANTS, STORIES))
    tiny.one_sentence(first, files.grid("orchard"), "left out 3 of 6 phones", "H 2, C 1")
    tiny.one_sentence(second, files.grid("winter"), "left out 1 of 4 phones", "OA1 1")


def test_phones_in_another_alphabet_are_a_note_until_they_are_asked_for(dataset, files):
    write_labels(files, "orchard", ["so"], ["ð", "ə", "k", "æ", "t"])
    (note,) = dataset.check(dict.fromkeys(PARTICIPANTS, STORIES))
    tiny.one_sentence(note, files.grid("orchard"), "another alphabet")
    refused(lambda: dataset.phones("orchard"), files.grid("orchard"), "'ð' at 1.00 s", "expected the 39")


def in_order(*starts):
    return [Interval("AH0", start, start + 0.5) for start in starts]


BROKEN_PHONES = {
    "two tiers": ({"Phone": in_order(1.0, 2.0), "phones": in_order(1.0, 2.0)}, "2 tiers called 'phone'"),
    "times in another order": ({"phone": in_order(1.0, 3.0)}, "lasts from 3.0 to 0.5 s"),
    "past the sound": ({"phone": in_order(1.0, 70.0)}, "'AH0' ends at 70.50 s"),
}


@pytest.mark.parametrize("case", BROKEN_PHONES)
def test_a_broken_phone_tier_is_one_note(dataset, files, case):
    tiers, said = BROKEN_PHONES[case]
    write_textgrid(files.grid("orchard"), {"word": in_order(1.0, 2.0), **tiers}, 80.0)
    if case == "times in another order":
        files.grid("orchard").write_text(files.grid("orchard").read_text().replace("3.5", "0.5"))
    (note,) = dataset.check(dict.fromkeys(PARTICIPANTS, STORIES))
    tiny.one_sentence(note, files.grid("orchard"), said)
    assert len(dataset.words("orchard")) == 2
    if case != "past the sound":
        refused(lambda: dataset.phones("orchard"), files.grid("orchard"), said)


def test_a_missing_textgrid_is_refused(dataset, files):
    files.grid("kitchen").unlink()
    refused(lambda: check(dataset), files.grid("kitchen"), "expected")


def test_times_past_the_audio_are_refused(dataset, files):
    files.write_grid("orchard", last=75.0)
    refused(lambda: check(dataset), files.grid("orchard"), "ends at 74.50 s", "audio of 60.00 s", "expected")


def test_ten_seconds_of_digital_silence_are_refused_with_their_place(dataset, files):
    audio = tiny.sound(3)
    audio[20 * 16_000 : 30 * 16_000 + 1] = 0
    soundfile.write(files.wav("winter"), audio, 16_000, subtype="PCM_16")
    refused(lambda: check(dataset), files.wav("winter"), "silence from 20.00 s to 30.00 s", "expected")


@pytest.mark.parametrize("seconds", [18.0, 85.0])
def test_a_recording_that_does_not_last_as_long_as_its_volumes_is_refused(dataset, files, seconds):
    soundfile.write(files.wav("harbour"), tiny.sound(0, seconds), 16_000, subtype="PCM_16")
    refused(lambda: check(dataset), files.wav("harbour"), f"lasts {seconds:.1f} s", "P1 is read at 49.0 s", "expected")


def test_scans_that_go_on_for_half_a_minute_after_the_sound_are_taken(dataset, files):
    soundfile.write(files.wav("harbour"), tiny.sound(0, 22.0), 16_000, subtype="PCM_16")
    files.write_grid("harbour", last=20.0)
    check(dataset)


def test_a_participant_on_an_unknown_surface_is_refused(dataset, files, monkeypatch):
    monkeypatch.setattr(LebelDataset, "cortex", REAL_CORTEX)
    files.space("P1").write_text(json.dumps({"space": "fsaverage"}))
    refused(lambda: dataset.cortex("P1"), files.space("P1"), "fsaverage", "expected")


def damaged(path):
    path.write_bytes(path.read_bytes()[:900])


BROKEN = {
    "half a response file": (lambda files: files.hf5("P1", "harbour"), damaged),
    "an annex pointer as response file": (
        lambda files: files.hf5("P1", "harbour"),
        lambda path: path.write_text("/annex/objects/MD5E-s1--0.hf5\n"),
    ),
    "half a table of volumes": (lambda files: files.volumes, lambda path: path.write_text('{"harbour": 4')),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_damaged_file_is_named(files, case):
    which, spoil = BROKEN[case]
    spoil(which(files))
    refused(lambda: check(LebelDataset(files.root, tiny.TR)), which(files))


def test_stories_with_different_numbers_of_voxels_are_refused(dataset, files):
    files.write_responses("P1", "orchard", np.random.default_rng(0).standard_normal((N_ROWS, N_VOXELS - 1)))
    refused(lambda: check(dataset), files.hf5("P1", "orchard"), "29", "30", "expected")


def test_repeats_with_an_infinite_value_are_refused(dataset, files):
    def spoil(arrays):
        arrays["individual_repeats"][1, 2, 8] = np.inf

    overwrite(files.hf5("P1", TEST[0]), spoil)
    refused(lambda: dataset.repeats("P1", TEST[0]), files.hf5("P1", TEST[0]), "infinite")


def test_the_documentation_writes_voxels_in_pycortexs_order(tmp_path, monkeypatch):
    """Brute force: pycortex counts the voxels of a mask with x fastest and z slowest."""
    (code,) = re.findall(r"```py\n(import h5py\n.*?)```", (REPOSITORY / "docs" / "own.md").read_text(), re.S)
    rng, shape = np.random.default_rng(0), (3, 4, 5)
    mask = rng.random(shape) > 0.5
    inside = [(x, y, z) for z in range(5) for y in range(4) for x in range(3) if mask[x, y, z]]
    folder = tmp_path / "derivatives" / "pycortex-db" / "anna" / "transforms" / "anna_auto"
    folder.mkdir(parents=True)
    (tmp_path / "derivatives" / "preprocessed_data" / "anna").mkdir(parents=True)
    nibabel.save(nibabel.Nifti1Image(mask.astype("u1"), np.eye(4)), folder / "mask_thick.nii.gz")
    runs = rng.standard_normal((2, *shape, 7))
    for number, run in enumerate(runs, 1):
        nibabel.save(nibabel.Nifti1Image(run, np.eye(4)), tmp_path / f"anna_lecture4_run-{number}.nii.gz")
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    with h5py.File(tmp_path / "derivatives" / "preprocessed_data" / "anna" / "lecture4.hf5") as file:
        repeats, mean = file["individual_repeats"][:], file["data"][:]
    courses = np.stack([runs[:, x, y, z] for x, y, z in inside], axis=-1)
    courses = (courses - courses.mean(axis=1, keepdims=True)) / courses.std(axis=1, keepdims=True)
    np.testing.assert_allclose(repeats, courses, atol=1e-9)
    np.testing.assert_allclose(mean.std(axis=0), 1)
