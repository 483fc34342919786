import runpy
import shutil
from functools import partial

import h5py
import nibabel
import numpy as np
import pandas as pd
import pytest
import soundfile
import tiny
from braintuning.datasets import open_dataset
from braintuning.datasets.parcels import ParcelsDataset
from braintuning.datasets.recording import filtered
from braintuning.datasets.tables import read_regions, read_word_table
from braintuning.study import load_study
from braintuning.study.recordings import Filter, Recording
from scipy.signal import butter, sosfiltfilt
from tiny import refused
from tiny_people import N_ROWS, PEOPLE, REGIONS, SECONDS, TR, content, courses, write_recording


@pytest.fixture
def root(tmp_path, recordings):
    return shutil.copytree(recordings, tmp_path / "data")


def opened(root, name="pie", **settings):
    recording = Recording(**{"folder": name, "tr": TR[name], "regions": REGIONS, **settings})
    return ParcelsDataset(root, {name: recording})


def stories(dataset, name="pie"):
    return {participant: [name] for participant in dataset.participants}


def write_as(path, values, kind):
    """Write (volumes, regions) as people do."""
    path = path.with_suffix(f".{kind}")
    if kind == "h5":
        with h5py.File(path, "w") as file:
            file["courses"] = values
    elif kind == "npy":
        np.save(path, values.astype(np.float32))
    elif kind == "txt":
        np.savetxt(path, values)
    else:
        pd.DataFrame(values, columns=REGIONS).to_csv(path, sep="," if kind == "csv" else "\t", index=kind == "tsv")


@pytest.mark.parametrize("kind", ["npy", "csv", "tsv", "txt", "h5"])
def test_each_kind_of_file_has_the_same_numbers(root, kind):
    path = root / "pie" / "responses" / "sub-02.npy"
    expected = opened(root).responses("sub-02", "pie")
    path.unlink()
    write_as(path, courses("pie", 1), kind)
    found = opened(root).responses("sub-02", "pie")
    assert found.dtype == np.float32 and found.shape == (N_ROWS["pie"], 6)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    by_hand = courses("pie", 1)
    np.testing.assert_allclose(found, (by_hand - by_hand.mean(0)) / by_hand.std(0), atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "names", "index"),
    [
        *[("csv", range(6), True), ("csv", range(6), False), ("tsv", range(1, 7), False), ("txt", range(6), True)],
        *[("csv", [3, 4, 7, 2001, 2002, 2101], False), ("tsv", [3, 4, 7, 2001, 2002, 2101], True)],
    ],
)
def test_a_row_of_numbers_in_place_of_names_is_no_volume(root, kind, names, index):
    expected = opened(root).responses("sub-02", "pie")
    path = root / "pie" / "responses" / "sub-02.npy"
    path.unlink()
    table = pd.DataFrame(courses("pie", 1), columns=names)
    table.to_csv(path.with_suffix(f".{kind}"), sep={"csv": ",", "tsv": "\t", "txt": " "}[kind], index=index)
    np.testing.assert_allclose(opened(root).responses("sub-02", "pie"), expected, atol=1e-5)


def test_columns_are_called_as_in_the_files_and_stand_in_one_order(root):
    for number, participant in enumerate(PEOPLE["pie"]):
        (root / "pie" / "responses" / f"{participant}.npy").unlink()
        write_as(root / "pie" / "responses" / participant, courses("pie", number), "csv")
    dataset = opened(root, regions=None)
    dataset.check(stories(dataset))
    assert dataset.region_names("sub-01") == REGIONS
    pd.DataFrame({"name": REGIONS[::-1]}).to_csv(root / "pie" / "regions.csv")
    other = opened(root, regions="regions.csv")
    refused(lambda: other.check(stories(other)), "sub-01.csv", "column 1 is called 'A1', expected 'F'")
    table = pd.DataFrame({"name": REGIONS[::-1], "column": range(5, -1, -1)})
    table.to_csv(root / "pie" / "regions.csv")
    opened(root, regions="regions.csv").check(stories(dataset))
    swapped = pd.DataFrame(courses("pie", 1), columns=REGIONS)[["B", "A1", *REGIONS[2:]]]
    swapped.to_csv(root / "pie" / "responses" / "sub-02.csv", index=False)
    for moved in (opened(root, regions=None), opened(root)):
        refused(partial(moved.check, stories(moved)), "sub-02.csv", "column 1 is called 'B', expected 'A1'")


def test_volumes_are_read_at_their_times_and_parts_are_stories(root):
    recording = {"tr": 1.5, "unstored_volumes": 4, "sound_starts": {"sub-01": 3.0, "*": 6.0}}
    parts = {"early": (0.0, 30.0), "late": (60.0, 90.0)}
    dataset = ParcelsDataset(root, {"pie": Recording(folder="pie", parts=parts, **recording)})
    for participant, start in (("sub-01", 3.0), ("sub-02", 6.0)):
        whole = (np.arange(N_ROWS["pie"]) + 4.5) * 1.5 - start
        for story, (low, high) in parts.items():
            rows = np.flatnonzero((whole >= low) & (whole < high))
            np.testing.assert_allclose(dataset.tr_times(participant, story), whole[rows])
            own = courses("pie", PEOPLE["pie"].index(participant))[rows]
            expected = (own - own.mean(0)) / own.std(0)
            np.testing.assert_allclose(dataset.responses(participant, story), expected, atol=1e-5)
    assert dataset.stories("sub-01") == ("early", "late")
    parts = {"never": (500.0, 600.0)}
    assert dataset.seconds("late") == (60.0, 90.0)
    never = ParcelsDataset(root, {"pie": Recording(folder="pie", parts=parts, **recording)})
    refused(lambda: never.tr_times("sub-01", "never"), "sub-01.npy", "read from", "within 500 to 600 s, part 'never'")


def test_filters_are_those_of_scipy_and_of_a_regression_on_cosines():
    columns = np.cumsum(np.random.default_rng(0).standard_normal((300, 4)), axis=0)
    passed = filtered(columns, 1.5, Filter(high_pass=0.01, low_pass=0.12))
    sections = butter(5, [0.01, 0.12], "bandpass", fs=1 / 1.5, output="sos")
    expected = sosfiltfilt(sections, columns - columns.mean(0), axis=0)
    assert np.corrcoef(passed[60:-60, 0], expected[60:-60, 0])[0, 1] > 0.99
    trs = np.arange(300)
    slow = [np.cos(np.pi * k * (trs + 0.5) / 300) for k in range(int(2 * 300 * 1.5 / 128) + 1)]
    basis = np.stack(slow, axis=1)
    left = columns - basis @ np.linalg.lstsq(basis, columns, rcond=None)[0]
    np.testing.assert_allclose(filtered(columns, 1.5, Filter(high_pass=1 / 128, by="cosine")), left, atol=1e-6)
    line = np.column_stack([trs * 3.0 + 7, np.full(300, 9.0)])
    np.testing.assert_allclose(filtered(line, 1.5, Filter(detrend=True)), 0, atol=1e-9)


@pytest.mark.parametrize("how", [None, {"high_pass": 0.01, "low_pass": 0.12}])
@pytest.mark.parametrize("slow", [None, 60.0])
def test_features_pass_the_filter_of_the_responses(root, how, slow):
    recording = Recording(folder="pie", tr=1.5, filter=how and Filter(**how), parts={"end": (120.0, 240.0)})
    dataset = ParcelsDataset(root, {"pie": recording}, high_pass_seconds=slow)
    times = dataset.tr_times("sub-01", "end")
    times = np.concatenate([times[0] - 1.5 * np.array([2, 1]), times])
    read, same = dataset.filtering("sub-01", "end", times)
    features = np.random.default_rng(0).standard_normal((3, len(read), 4)).astype(np.float32)
    features[:, :, 3] = 5.0
    found = same(features)
    assert found.shape == (3, len(times), 4) and found.dtype == np.float32
    place = np.searchsorted(read, times[0] - 1e-6)
    expected = features[1, :, 0].astype(float)[:, None]
    expected = filtered(expected, 1.5, Filter(**how)) if how else expected
    expected = expected[place : place + len(times)]
    expected = filtered(expected, 1.5, Filter(high_pass=1 / 60, by="cosine")) if slow else expected
    np.testing.assert_allclose(found[1, :, 0], expected[:, 0], atol=1e-5)
    if how or slow:
        np.testing.assert_array_equal(found[:, :, 3], 0)
    np.testing.assert_allclose(read[place : place + len(times)], times)
    assert len(read) == (N_ROWS["pie"] if how else len(times))


def test_people_with_other_times_are_brought_to_the_participants_own(root):
    times = (np.arange(N_ROWS["pie"]) + 0.5) * 1.5
    wave = np.sin(2 * np.pi * np.outer(times, np.linspace(0.01, 0.03, 6)))
    other = (np.arange(100) + 0.5) * 2.0
    for participant in PEOPLE["pie"]:
        np.save(root / "pie" / "responses" / f"{participant}.npy", wave)
    np.save(root / "pie" / "responses" / "sub-03.npy", np.sin(2 * np.pi * np.outer(other, np.linspace(0.01, 0.03, 6))))
    dataset = opened(root, tr={"sub-03": 2.0, "*": 1.5}, volumes={"sub-03": 100, "*": 160})
    people = dataset.everyone("sub-01", "pie")
    assert people.shape == (5, 160, 6) and np.isnan(people[2, times > other[-1]]).all()
    both = np.isfinite(people[2, :, 0])
    assert both.sum() > 125
    for region in range(6):
        assert np.corrcoef(people[0, both, region], people[2, both, region])[0, 1] > 0.97
    assert dataset.everyone("sub-03", "pie").shape == (5, 100, 6)


def test_sides_do_not_hear_of_each_other_and_a_mean_is_that_of_the_people_held_out(root):
    dataset = ParcelsDataset(
        root, {"pie": Recording(folder="pie", tr=1.5)}, tuned_together=("sub-01", "sub-03"), participants=PEOPLE["pie"]
    )
    assert dataset.people("sub-03", "pie") == ("sub-03", "sub-01")
    assert dataset.people("sub-04", "pie") == ("sub-04", "sub-02", "sub-05")
    assert dataset.people("group-pie", "pie") == ("sub-02", "sub-04", "sub-05")
    mean = np.mean([dataset.responses(p, "pie") for p in ("sub-02", "sub-04", "sub-05")], axis=0)
    found = dataset.responses("group-pie", "pie")
    np.testing.assert_allclose(found, (mean - mean.mean(0)) / mean.std(0), atol=1e-5)
    assert found.dtype == np.float32


def test_whom_the_study_leaves_out_of_a_story_is_in_nobodys_mean_or_ceiling(root, tmp_path):
    np.save(root / "pie" / "responses" / "sub-05.npy", courses("pie", 4)[:115])
    recordings = content(root, tmp_path)["dataset"]["recordings"]
    recordings["pie"] |= {"volumes": {"sub-05": 115}}
    changes = {"dataset": {"kind": "parcels", "root": str(root), "recordings": recordings}}
    changes |= {"tuned_together": ["sub-01", "sub-05"], "lacks": {"sub-01": ["pie-3"], "sub-05": ["pie-3"]}}
    dataset = open_dataset(study_of(root, tmp_path, **changes))
    assert dataset.people("sub-01", "pie-1") == ("sub-01", "sub-05")
    assert dataset.people("sub-02", "pie-3") == ("sub-02", "sub-03", "sub-04")
    assert dataset.people("group-pie", "pie-3") == ("sub-02", "sub-03", "sub-04")
    with_last = {"tuned_together": ["sub-01", "sub-02"], "lacks": {"sub-05": ["pie-1"]}, "dataset": changes["dataset"]}
    recordings["pie"]["volumes"] = {"sub-05": 160}
    np.save(root / "pie" / "responses" / "sub-05.npy", courses("pie", 4))
    assert open_dataset(study_of(root, tmp_path, **with_last)).everyone("sub-04", "pie-1").shape[0] == 2


def test_regions_without_signal_are_masked_and_counted_and_a_damaged_file_is_refused(root):
    values = courses("pie", 1)
    values[:, 3] = 812.5
    np.save(root / "pie" / "responses" / "sub-02.npy", values)
    dataset = opened(root)
    (note,) = dataset.check(stories(dataset))
    assert "sub-02.npy: 1 of 6 regions are NaN or constant" in note
    assert np.isnan(dataset.responses("sub-02", "pie")[:, 3]).all()
    assert np.isfinite(dataset.responses("group-pie", "pie")).all()
    values[7, 1] = np.nan
    np.save(root / "pie" / "responses" / "sub-02.npy", values)
    dataset = opened(root)
    refused(lambda: dataset.check(stories(dataset)), "sub-02.npy", "in 2 of 6 regions", "expected at most 1")


def spoilt(root, change):
    path = root / "pie" / "responses" / "sub-02.npy"
    np.save(path, change(courses("pie", 1)))
    return path


BROKEN = {
    "shorter": (lambda v: v[:-3], {}, ("found 157 volumes of sub-02", "expected 160", "as in most files")),
    "other than said": (lambda v: v, {"volumes": 150}, ("found 160 volumes", "expected 150", "by `volumes`")),
    "a region less": (lambda v: v[:, :5], {}, ("sub-02", "found 5 regions", "expected 6")),
    "transposed": (lambda v: v.T, {}, ("found 6 volumes of sub-02", "expected 160")),
    "infinite": (lambda v: np.where(v > 2.5, np.inf, v), {}, ("infinite values", "expected none")),
    "a cube": (lambda v: v[None], {}, ("(1, 160, 6)", "expected numbers, volumes x regions")),
    "text": (lambda v: v.astype(str), {}, ("expected numbers",)),
    "other than said of all": (lambda v: v, {"volumes": {"*": 150}}, ("found 160 volumes", "expected 150", "by `vol")),
    "names": (lambda v: v, {"regions": ("a", "b")}, ("found 6 regions", "expected 2: a b")),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_file_is_one_sentence(root, case):
    change, settings, words = BROKEN[case]
    spoilt(root, change)
    dataset = opened(root, **settings)
    refused(lambda: dataset.check(stories(dataset)), "sub-0", *words)


@pytest.mark.parametrize("kind", ["csv", "txt", "h5", "npy"])
def test_a_file_that_is_no_table_is_one_sentence(root, kind):
    (root / "pie" / "responses" / "sub-02.npy").unlink()
    path = root / "pie" / "responses" / f"sub-02.{kind}"
    path.write_text("1 2 3\n4 5\nx,y,z,1,2\n")
    dataset = opened(root)
    refused(lambda: dataset.check(stories(dataset)), path, "expected numbers")


def test_two_files_of_a_person_and_none_are_one_sentence(root):
    shutil.copy(root / "pie" / "responses" / "sub-02.npy", root / "pie" / "responses" / "sub-02.npy.bak")
    opened(root)
    np.savetxt(root / "pie" / "responses" / "sub-02.txt", courses("pie", 1))
    refused(lambda: opened(root), "sub-02.npy and", "sub-02.txt of sub-02", "expected one file a participant")
    shutil.rmtree(root / "pie" / "responses")
    refused(lambda: opened(root), "found no file of responses", "responses/*.npy")
    refused(lambda: opened(root / "nowhere"), "no such folder", "expected responses/*.npy")


def test_names_of_files_may_be_any_with_one_star_for_the_participant(root):
    folder = root / "pie" / "derived"
    folder.mkdir()
    for number, name in enumerate(PEOPLE["pie"]):
        np.save(folder / f"{name}_task-pie_run-1_courses.npy", courses("pie", number))
    for within in ("derived", "./derived", "../pie/derived", folder):
        assert opened(root, responses=f"{within}/*_task-pie_*_courses.npy").participants == PEOPLE["pie"]
    refused(lambda: opened(root, responses="derived/*_task-[p]ie_*_courses.npy"), "found no file of responses in it")
    np.save(folder / "group-a_task-pie_run-1_courses.npy", courses("pie", 9))
    refused(lambda: opened(root, responses="derived/*_task-pie_*_courses.npy"), "group-a_task", "expected none with")


def test_words_outside_the_scan_past_the_audio_and_silence_are_refused(root):
    for participant in PEOPLE["pie"]:
        np.save(root / "pie" / "responses" / f"{participant}.npy", courses("pie", 1)[:100])
    dataset = opened(root)
    refused(lambda: dataset.check(stories(dataset)), "words.TextGrid", "words outside the scan", "0.0 to 150.0 s")
    late = opened(root, sound_starts=30.0)
    refused(lambda: late.check(stories(late)), "words outside the scan", "-30.0 to 120.0 s")
    audio = tiny.sound(5, SECONDS["tale"])
    audio[16_000 * 50 : 16_000 * 62] = 0
    soundfile.write(root / "tale" / "sound.flac", audio, 16_000)
    tale = opened(root, "tale")
    refused(lambda: tale.check(stories(tale, "tale")), "sound.flac", "silence from 50.00 s to 62.00 s")
    soundfile.write(root / "tale" / "sound.flac", tiny.sound(5, 100.0), 16_000)
    refused(lambda: tale.check(stories(tale, "tale")), "words.TextGrid", "expected within its audio of 100.00 s")


def test_words_of_tables(tmp_path):
    (tmp_path / "words.csv").write_text("word,start,end\nPie,1.0,1.4\n,1.4,1.5\nMan!,1.5,2\n")
    assert read_word_table(tmp_path / "words.csv") == [("pie", 1.0, 1.4), ("man", 1.5, 2.0)]
    events = tmp_path / "sub-01_task-pie_events.tsv"
    events.write_text("onset\tduration\ttrial_type\tword\n7.5\t.5\tword\tMan\n7\t.25\tword\tPie\n6\t9\tstory\tn/a\n")
    assert read_word_table(events, -6.0) == [("pie", 1.0, 1.25), ("man", 1.5, 2.0)]
    (tmp_path / "words.csv").write_text("word,start,end\nPie,1.0,later\n")
    refused(lambda: read_word_table(tmp_path / "words.csv"), "words.csv, line 2", "'later'", "expected seconds")
    (tmp_path / "words.csv").write_text("word,start,end\nPie,1.0,0.5\n")
    refused(lambda: read_word_table(tmp_path / "words.csv"), "line 2", "'Pie' lasts from 1.0 to 0.5 s")
    (tmp_path / "words.csv").write_text("word,begin\nPie,1.0\n")
    refused(lambda: read_word_table(tmp_path / "words.csv"), "found columns word, begin", "expected a word, its start")
    for text in (b"word,start,end\ncaf\xe9,1,2", b"\n", b"word\na,1,2\nb,1,2,3\n"):
        (tmp_path / "words.csv").write_bytes(text)
        refused(lambda: read_word_table(tmp_path / "words.csv"), "words.csv: not a table", "expected one of words")
    (tmp_path / "words.txt").write_text("Pie 1.0 1.4\n")
    refused(lambda: read_word_table(tmp_path / "words.txt"), "words.txt: found columns pie 1.0 1.4")


def test_a_study_reads_words_from_a_table_in_seconds_of_the_audio(root):
    (root / "pie" / "words.TextGrid").unlink()
    (root / "pie" / "task-pie_events.tsv").write_text("onset\tduration\tword\n8.0\t0.5\tpie\n")
    assert opened(root, sound_starts=6.0).words("pie") == [("pie", 2.0, 2.5)]
    by_person = opened(root, sound_starts={"sub-01": 5.0, "*": 6.0})
    refused(lambda: by_person.words("pie"), "events.tsv", "expected words.csv")
    refused(lambda: by_person.phones("pie"), "events.tsv", "has no phone tier")


def atlas_of(folder, shift=0.0):
    """Six regions of an atlas in MNI space and their table, in which they may lie elsewhere."""
    voxels, rows = np.zeros((91, 109, 91), np.int16), []
    for number in range(1, 7):
        corner = np.array([20 + 8 * number, 60, 40])
        voxels[tuple(slice(c, c + 3) for c in corner)] = number
        x, y, z = (np.array([-2, 2, 2]) * (corner + 1) + [90, -126, -72] + [shift, 0, 0]).tolist()
        rows.append({"name": REGIONS[number - 1], "number": number, "x": x, "y": y, "z": z})
    affine = np.array([[-2.0, 0, 0, 90], [0, 2, 0, -126], [0, 0, 2, -72], [0, 0, 0, 1]])
    nibabel.save(nibabel.Nifti1Image(voxels, affine), folder / "atlas.nii.gz")
    pd.DataFrame(rows).to_csv(folder / "regions.csv", index=False)
    return pd.DataFrame(rows)


def test_regions_lie_where_atlas_or_centroids_say_and_else_nowhere(root):
    atlas_of(root / "pie")
    places = {"regions": "regions.csv", "atlas": "atlas.nii.gz"}
    dataset, spheres, nowhere = opened(root, **places), opened(root, regions="regions.csv"), opened(root)
    dataset.check(stories(dataset))
    assert dataset.region_names("sub-01") == REGIONS and dataset.cortex("sub-01").n_voxels == 6
    assert dataset.cortex("sub-01") is dataset.cortex("sub-02")
    of_spheres = spheres.cortex("sub-01").vertices_from_voxels.getnnz(axis=0)
    assert (of_spheres >= dataset.cortex("sub-01").vertices_from_voxels.getnnz(axis=0)).all() and of_spheres.sum() > 50
    assert nowhere.cortex("sub-01").vertices_from_voxels.nnz == 0
    assert nowhere.cortex("sub-01").voxel_labels.tolist() == [""] * 6


def test_a_table_that_does_not_fit_the_atlas_and_an_atlas_in_another_space_are_refused(root):
    table, places = atlas_of(root / "pie", shift=30.0), {"regions": "regions.csv", "atlas": "atlas.nii.gz"}
    dataset = opened(root, **places)
    refused(lambda: dataset.check(stories(dataset)), "regions.csv", "parcel 1 at 30 mm", "same space")
    table.drop(columns=["x", "y", "z"]).replace({"number": {3: 9}}).to_csv(root / "pie" / "regions.csv", index=False)
    dataset = opened(root, **places)
    refused(lambda: dataset.check(stories(dataset)), "regions.csv", "parcel 9", "atlas has not")
    image = nibabel.load(root / "pie" / "atlas.nii.gz")
    nibabel.save(nibabel.Nifti1Image(np.asarray(image.dataobj), np.diag([2.0, 2, 2, 1])), root / "pie" / "other.nii.gz")
    dataset = opened(root, regions="regions.csv", atlas="other.nii.gz")
    refused(lambda: dataset.check(stories(dataset)), "other.nii.gz", "of its labelled voxels", "MNI space")
    dataset = opened(root, regions="regions.csv", atlas="none.nii.gz")
    refused(lambda: dataset.check(stories(dataset)), "none.nii.gz", "nothing found")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name,x\na,1\nb,2\n", "found 2 regions, expected 3"),
        (
            "column,name\n0,a\n5,b\n",
            "region b has no place in the responses, expected whole numbers, and a column from 0",
        ),
        ("column,name\n0,a\n.5,b\n", "region b has no place in the responses"),
        ("column,name\n0,a\n0,b\n", "column 0 stands there twice"),
        ("column,name,x\n0,a,left\n", "region a has no place"),
        ("x,y\n1,2\n", "found columns x, y, expected one called name"),
    ],
)
def test_tables_of_regions_that_cannot_be_are_refused(tmp_path, text, words):
    (tmp_path / "regions.csv").write_text(text)
    refused(lambda: read_regions(tmp_path / "regions.csv", 3), "regions.csv", words)


def test_numbers_of_an_atlas_may_be_called_index(tmp_path):
    (tmp_path / "regions.tsv").write_text("index\tname\n2001\tLeft\n2002\tRight\n")
    assert read_regions(tmp_path / "regions.tsv", 2)["number"].tolist() == [2001, 2002]


def test_parcels_may_be_names(tmp_path):
    (tmp_path / "regions.csv").write_text("parcel\nLH_A\nRH_A\n")
    assert read_regions(tmp_path / "regions.csv", 2)["number"].tolist() == [1, 2]


def test_a_person_has_the_same_regions_in_all_recordings(root):
    shutil.copy(root / "pie" / "responses" / "sub-01.npy", root / "tale" / "responses" / "sub-01.npy")
    recordings = {
        "pie": Recording(folder="pie", tr=1.5, regions=REGIONS),
        "tale": Recording(folder="tale", tr=2.0, volumes={"sub-01": 160, "*": 90}, regions=tuple("abcdef")),
    }
    dataset = ParcelsDataset(root, recordings)
    refused(lambda: dataset.n_voxels("sub-01"), "recordings of sub-01", "give one another name")
    assert dataset.n_voxels("s1") == dataset.n_voxels("sub-02") == 6


def test_a_file_that_names_nobody_is_refused(root):
    (root / "pie" / "responses" / "sub-.npy").touch()
    recording = Recording(folder="pie", tr=1.5, responses="responses/sub-*.npy")
    refused(lambda: ParcelsDataset(root, {"pie": recording}), "sub-.npy", "without the name", "at *")


def study_of(root, tmp_path, **changes):
    return load_study(tiny.write_yaml(tmp_path / "people.yaml", {**content(root, tmp_path / "backbone"), **changes}))


def test_people_are_found_by_pattern_and_who_is_new_is_tested(root, tmp_path):
    study = study_of(root, tmp_path)
    assert study.participants == ("s1", "s2", "s3", *PEOPLE["pie"])
    assert study.held_out == ("s1", "s2", "s3", "sub-04", "sub-05") and study.groups == ("group-pie", "group-tale")
    assert study.stories_for("sub-01").all == ("pie-1", "pie-2", "pie-3")
    assert study.stories_for("s1").all == study.stories_for("group-tale").all == ("tale",)
    np.save(root / "pie" / "responses" / "sub-99.npy", courses("pie", 99))
    again = study_of(root, tmp_path)
    assert again.tuned_together == study.tuned_together and again.held_out == (*study.held_out, "sub-99")
    open_dataset(again).check({p: again.stories_for(p).all for p in again.participants})
    some = study_of(root, tmp_path, participants=["sub-*", "!sub-9*"], tuned_together="every second")
    assert some.participants == PEOPLE["pie"] and some.tuned_together == ("sub-01", "sub-03", "sub-05")
    assert study_of(root, tmp_path, participants=["sub-*", "!gone", "!sub-9*"]).participants == PEOPLE["pie"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"participants": ["sub-*", "p9"]}, "found no responses of p9"),
        ({"tuned_together": ["sub-01", "s9"]}, "found no responses of s9"),
        ({"stories": {"train": ["pie-1"], "validation": ["pie-2"], "test": ["pie-3"]}}, "found no test story of s1"),
        ({"participants": None}, "key `participants`: found None"),
        ({"tuned_together": 3}, "key `tuned_together`: found 3"),
        ({"lacks": {"sub-01": "pie-1"}}, "key `sub-01` in `lacks`: found 'pie-1'"),
        ({"lacks": {"sub-0l": ["pie-1"]}}, "unknown participant 'sub-0l' in `lacks`; did you mean"),
        ({"lacks": {"sub-01": ["pie-22"]}}, "unknown story 'pie-22' in `lacks`; did you mean 'pie-2'"),
        ({"stories": ["pie-1"]}, "key `stories`: found ['pie-1']"),
        (
            {"stories": {"train": ["pie-1", "pie-22"], "validation": ["pie-2"], "test": ["pie-3", "tale"]}},
            "unknown story 'pie-22' in `stories`; did you mean 'pie-2'",
        ),
        ({"tuned_together": ["sub-01", "s1"]}, "found 0 training and 0 validation stories that all participants of"),
    ],
)
def test_people_and_stories_that_cannot_be_are_refused(root, tmp_path, changes, words):
    refused(lambda: study_of(root, tmp_path, **changes), words)


def test_recordings_that_cannot_be_are_refused(root, tmp_path):
    base = content(root, tmp_path)["dataset"]
    twice = {"pie": base["recordings"]["pie"], "pie-1": base["recordings"]["tale"]}
    parts = {"pie-1": [0.0, 120.0], "pie-2": [119.0, 165.0], "pie-3": [180.0, 240.0], "unused": [0.0, 240.0]}
    overlapping = {**base["recordings"], "pie": {**base["recordings"]["pie"], "parts": parts}}
    line = {"pie": {"tr": 1.5, "filter": {"by": "cosine", "low_pass": 0.1}}}
    for dataset, words in (
        ({**base, "tr": 1.5}, "found `tr` in `dataset`, expected none with kind 'parcels'"),
        ({**base, "recordings": {}}, "found 0 `recordings` in `dataset` of kind 'parcels'"),
        ({**base, "kind": "lebel"}, "expected some with kind 'parcels', and none with another"),
        ({**base, "recordings": twice}, "have a part of one name"),
        ({**base, "recordings": overlapping}, "found parts 'pie-1' and 'pie-2' in `recordings` that overlap"),
        ({**base, "recordings": line}, "found a `filter` by cosine"),
        ({**base, "recordings": {"pie": {"tr": 1.5, "parts": {"a": [9.0, 2.0]}}}}, "found part 'a' from 9 to 2 s"),
        ({**base, "recordings": {"pie": {"tr": 1.5, "responses": "all.npy"}}}, "expected a * for the participant"),
        ({**base, "recordings": {"pie": {"tr": 1.5, "responses": "**/*.npy"}}}, "expected a * for the participant"),
        (
            {**base, "recordings": {"pie": {"folder": "pie", "tr": {"sub-99": 1.5, "*": 2.0}}}},
            "unknown participant 'sub-99'",
        ),
    ):
        refused(lambda dataset=dataset: study_of(root, tmp_path, dataset=dataset), words)


def test_the_alice_deposit_is_read_under_its_own_names(tmp_path):
    root = tmp_path / "deposit"
    for folder, seed in (("10mm", 0), ("6mm", 7)):
        (root / folder).mkdir(parents=True)
        for number, name in enumerate(("s18", "s22", "s33")):
            np.savetxt(root / folder / f"{name}-timecourses.txt", 100 + courses("tale", seed + number), fmt="%15.7e")
    (root / "10mm" / "._s18-timecourses.txt").write_text("x")
    grid = write_recording(tmp_path, "tale") / "words.TextGrid"
    shutil.copy(grid, root / "DownTheRabbitHoleFinal_exp120_pad_1.TextGrid")
    (root / "phrases.TextGrid").write_text("x")
    for name in ("DownTheRabbitHoleFinal_mono_exp120_NR16_pad.wav", "DownTheRabbitHoleFinal_SoundFile1.wav"):
        soundfile.write(root / name, tiny.sound(4, SECONDS["tale"]), 16_000)
    study = load_study("alice", str(root))
    assert study.participants == ("s18", "s22") and study.groups == ("group-alice",)
    dataset = open_dataset(study)
    assert dataset.audio_file("alice").name.endswith("NR16_pad.wav") and len(dataset.words("alice")) > 100
    assert dataset.region_names("s18") == ("LATL", "RATL", "LPTL", "LIPL", "LPreM", "LIFG")
    assert dataset.responses("s18", "alice").shape == (90, 6)
    for path in root.glob("*.wav"):
        path.unlink()
    refused(lambda: dataset.audio_file("alice"), "found 0 files of audio", "exactly one of *.flac, *.wav, *.ogg, *.mp3")
    shutil.copytree(root / "10mm", root / "timecourses_10mm")
    refused(lambda: load_study("alice", str(root)), "timecourses_10mm", "expected one file a participant")


def test_the_script_of_the_deposits_case_has_files_that_are_read(shared, tmp_path):
    script = (shared / "cases" / "13" / "make_input.py").read_text()
    made = tmp_path / "make_input.py"
    made.write_text(script.split("try:")[0].replace("from braintuning.datasets.alice import AliceDataset", ""))
    runpy.run_path(str(made))
    study = load_study("alice", str(tmp_path / "alice"))
    assert open_dataset(study).participants == ("s18", "s22")
    assert open_dataset(study).words("alice")[0].label == "alice"


def test_the_readme_of_real_data_is_right_about_them(shared):
    recording = Recording(folder="pieman", tr=1.5, regions="parcels.csv", atlas="shen_268_2mm.nii.gz")
    dataset = ParcelsDataset(shared / "data", {"pieman": recording})
    notes = dataset.check(stories(dataset, "pieman"))
    counts = [int(note.split(": ")[1].split()[0]) for note in notes]
    assert len(dataset.participants) == 48 and dataset.n_voxels("sub-007") == 268
    assert max(counts) == 19 and len(notes) == 13
    assert dataset.responses("sub-007", "pieman").shape == (300, 268)
    bad = ParcelsDataset(shared / "data", {"alice": Recording(folder="alice", tr=2.0, unstored_volumes=10)})
    refused(lambda: bad.responses("s33", "alice"), "s33-timecourses.txt", "in 6 of 6 regions")
