import shutil

import numpy as np
import pandas as pd
import pytest
import soundfile
import tiny
from braintuning.alignment.ceiling import leave_one_out_correlation
from braintuning.alignment.encoding import design_matrix
from braintuning.datasets.alice import REGIONS, AliceDataset
from braintuning.datasets.textgrid import Interval
from braintuning.demo.textgrid_writer import write_textgrid
from braintuning.pipeline import alice as alice_stage
from braintuning.pipeline.alice import align_alice, detrend, score_design, word_rate
from braintuning.pipeline.extract import extract_layers
from braintuning.results import load_arrays
from braintuning.study import Run, load_study
from tiny import refused
from tiny_alice import N_ROWS, PEOPLE, SECONDS, TR, courses, save

RUN = Run("small", "pretrained")


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pristine")
    root = folder / "alice"
    for number, participant in enumerate(PEOPLE):
        save(root, participant, courses(number))
    soundfile.write(root / "sound.flac", tiny.sound(5, SECONDS), 16_000)
    starts = np.cumsum(np.random.default_rng(3).uniform(0.3, 2.5, 120))
    words = [Interval("so", s, s + 0.25) for s in starts.tolist() if s < 195]
    write_textgrid(root / "words.TextGrid", {"word": words}, SECONDS)
    tiny.encoder("hubert").save_pretrained(folder / "backbone")
    return root


@pytest.fixture
def root(tmp_path, pristine):
    return shutil.copytree(pristine, tmp_path / "alice")


def opened(root):
    return AliceDataset(root, TR)


@pytest.fixture
def study(tmp_path, root, pristine, monkeypatch):
    monkeypatch.setenv("BRAINTUNING_RESULTS", str(tmp_path / "results"))
    monkeypatch.setenv("BRAINTUNING_FIGURES", str(tmp_path / "figures"))
    content = {
        "name": "tiny-alice",
        "title": "A tiny Alice",
        "dataset": {"kind": "alice", "root": str(root), "tr": TR},
        "stories": {"train": ["alice"], "test": []},
        "backbones": {"small": {"name": str(pristine.parent / "backbone"), "pad_to_30s": False}},
        "conditions": ["pretrained"],
        "features": {"window_seconds": 2.0, "hop_seconds": 2.0, "step_seconds": 0.5, "batch_size": 32},
        "encoding": {
            **{"delays": [1, 2], "log10_alpha_min": -1.0, "log10_alpha_max": 3.0, "n_alphas": 9, "test_skip_rows": 0},
            **{"validation_chunk_rows": 10, "folds": 3, "high_pass_seconds": 128.0},
        },
        "figures": {"notebooks": ["alice"]},
    }
    return load_study(tiny.write_yaml(tmp_path / "alice.yaml", content))


def leave_one_out_by_hand(responses):
    expected = np.empty((len(responses), responses.shape[2]))
    for person in range(len(responses)):
        rest = np.mean([responses[other] for other in range(len(responses)) if other != person], axis=0)
        for region in range(responses.shape[2]):
            expected[person, region] = np.corrcoef(responses[person, :, region], rest[:, region])[0, 1]
    return expected


def high_passed_by_hand(columns, tr, seconds):
    """Least squares on the cosines of the discrete cosine transform that are slower than `seconds`, then z-scores."""
    rows = np.arange(len(columns))
    order = int(np.floor(2 * len(columns) * tr / seconds))
    drifts = np.stack([np.cos(np.pi * k * (2 * rows + 1) / (2 * len(rows))) for k in range(order + 1)], axis=1)
    left = columns - drifts @ np.linalg.lstsq(drifts, columns, rcond=None)[0]
    return (left - left.mean(axis=0)) / left.std(axis=0, ddof=1)


def test_time_courses_are_those_in_the_files(root):
    dataset = opened(root)
    dataset.check()
    assert dataset.participants == PEOPLE and dataset.left_out == {}
    np.testing.assert_allclose(dataset.responses("s24"), courses(2), rtol=1e-12)
    np.testing.assert_allclose(dataset.tr_times(), [(10 + i) * 2.0 for i in range(N_ROWS)])
    assert len(dataset.audio()) == SECONDS * 16_000


@pytest.mark.parametrize("n_people", [2, 7])
def test_any_number_of_participants_is_used(root, n_people):
    shutil.rmtree(root / "timecourses_10mm")
    for number in range(n_people):
        save(root, f"s{number:02d}", courses(number))
    assert len(opened(root).participants) == n_people


def constant():
    values = courses(9)
    values[:, 3] = 812.5
    return values


def with_nan():
    values = courses(9)
    values[7, 1] = np.nan
    return values


def as_deposited(root):
    """Give the files the names that they have in the deposit."""
    (root / "timecourses_10mm").rename(root / "10mm")
    shutil.copytree(root / "10mm", root / "6mm")
    (root / "words.TextGrid").rename(root / "DownTheRabbitHoleFinal_exp120_pad_1.TextGrid")
    wav = root / "DownTheRabbitHoleFinal_mono_exp120_NR16_pad.wav"
    soundfile.write(wav, soundfile.read(root / "sound.flac")[0], 16_000)
    (root / "sound.flac").unlink()


def test_the_deposit_is_read_under_its_own_names(root):
    before = opened(root)
    words, responses = before.words(), before.responses("s24")
    as_deposited(root)
    for junk in ("._s18-timecourses.txt", ".DS_Store", "Thumbs.db"):
        (root / "10mm" / junk).write_text("x")
    for junk in ("._words.TextGrid", "._sound.wav", "10mm.zip", "README.txt"):
        (root / junk).write_text("x")
    dataset = opened(root)
    dataset.check()
    assert dataset.participants == PEOPLE and dataset.left_out == {} and dataset.words() == words
    np.testing.assert_array_equal(dataset.responses("s24"), responses)
    assert dataset.files(["s18"]) == [root / "10mm" / "s18-timecourses.txt"]
    soundfile.write(root / "DownTheRabbitHoleFinal_SoundFile1.wav", tiny.sound(1, 5), 16_000)
    (root / "phrases.TextGrid").write_text("x")
    dataset.check()


def test_files_of_which_each_may_be_meant_are_one_sentence(root):
    as_deposited(root)
    save(root, "s18", courses(0))
    refused(lambda: opened(root), root, "found 2 folders (timecourses_10mm, 10mm)", "expected one")
    shutil.rmtree(root / "timecourses_10mm")
    grid = root / "DownTheRabbitHoleFinal_exp120_pad_1.TextGrid"
    for copy in (root / "DownTheRabbitHoleFinal_exp240_pad_1.TextGrid", root / "words.TextGrid"):
        shutil.copy(grid, copy)
        refused(lambda: opened(root).check(), root, "found 2 TextGrids", grid.name, copy.name, "expected one")
        copy.unlink()
    grid.unlink()
    refused(
        lambda: opened(root).check(), root, "found 0 TextGrids", "words.TextGrid or DownTheRabbitHoleFinal*_pad_1.TextG"
    )


def test_other_names_will_do_where_there_is_one_file_of_its_kind(root):
    (root / "words.TextGrid").rename(root / "chapter one.TextGrid")
    opened(root).check()


BROKEN = {
    "constant column": (constant, ("a constant value in 1 of 6", "index 3")),
    "NaN": (with_nan, ("NaN or a constant value in 1 of 6", "index 1")),
    "five columns": (lambda: courses(9)[:, :5], ("(90, 5)", "expected 6 numbers a row")),
    "shorter": (lambda: courses(9)[:-3], ("found 87 volumes", "expected 90")),
}


@pytest.mark.parametrize("case", BROKEN)
def test_broken_participant_is_named_and_left_out(root, case):
    make, parts = BROKEN[case]
    save(root, "s33", make())
    dataset = opened(root)
    assert dataset.participants == PEOPLE
    assert set(dataset.left_out) == {"s33"}
    tiny.one_sentence(dataset.left_out["s33"], "s33", *parts)
    refused(lambda: dataset.responses("s33"), *parts, "s18, s23")
    refused(lambda: dataset.responses("s99"), "no such participant", "s18, s23")


@pytest.mark.filterwarnings("ignore:loadtxt")
@pytest.mark.parametrize("text", ["1 2 3 4 5 6\n1 2 3\n", "LATL RATL\nx y\n", ""])
def test_file_that_is_no_table_is_left_out(root, text):
    (root / "timecourses_10mm" / "s33-timecourses.txt").write_text(text)
    dataset = opened(root)
    assert dataset.participants == PEOPLE
    tiny.one_sentence(dataset.left_out["s33"], "s33-timecourses.txt", "expected")


@pytest.mark.parametrize("how", ["link", "text", "page"])
def test_a_participant_whose_file_was_never_downloaded_is_left_out_and_called_that(root, how):
    path, target = root / "timecourses_10mm" / "s33-timecourses.txt", "../.git/annex/objects/aa/bb/MD5E-s9--0.txt/x.txt"
    said = {"link": "a link to", "text": "a git-annex link turned into text", "page": "a web page"}[how]
    path.symlink_to(target) if how == "link" else path.write_text("<html>" if how == "page" else target)
    dataset = opened(root)
    assert dataset.participants == PEOPLE
    tiny.one_sentence(dataset.left_out["s33"], path, said, "whose content is not here")


def test_a_byte_order_mark_is_no_number(root):
    path = root / "timecourses_10mm" / f"{PEOPLE[0]}-timecourses.txt"
    before = opened(root).responses(PEOPLE[0])
    path.write_text(path.read_text(), encoding="utf-8-sig")
    assert opened(root).left_out == {}
    np.testing.assert_array_equal(opened(root).responses(PEOPLE[0]), before)


def test_no_usable_participant_is_refused(root, tmp_path):
    refused(lambda: opened(tmp_path / "none"), "timecourses_10mm", "expected")
    shutil.rmtree(root / "timecourses_10mm")
    save(root, "s33", constant())
    refused(lambda: opened(root), "no usable participant", "s33", "constant")


def test_recording_must_be_one_sound_as_long_as_the_scan(root):
    shutil.copy(root / "sound.flac", root / "other.flac")
    refused(lambda: opened(root).check(), root, "found 2 audio files", "expected one")
    (root / "other.flac").unlink()
    soundfile.write(root / "sound.flac", tiny.sound(5, 100), 16_000)
    (root / "words.TextGrid").unlink()
    write_textgrid(root / "words.TextGrid", {"word": [Interval("so", 1.0, 2.0)]}, 100.0)
    refused(lambda: opened(root).check(), "sound.flac", "lasts 100.0 s", "at 198.0 s", "expected")
    (root / "sound.flac").unlink()
    refused(lambda: opened(root).check(), root, "found 0 audio files", "expected one")


def test_words_past_the_audio_silence_and_no_word_tier_are_refused(root):
    write_textgrid(root / "words.TextGrid", {"word": [Interval("so", 1.0, SECONDS + 5)]}, SECONDS + 9)
    refused(lambda: opened(root).check(), "words.TextGrid", "ends at 205.00 s", "expected")
    write_textgrid(root / "words.TextGrid", {"sentence": [Interval("so", 1.0, 2.0)]}, SECONDS)
    refused(lambda: opened(root).check(), "words.TextGrid", "'word'", "'sentence'", "expected")
    write_textgrid(root / "words.TextGrid", {"word": [Interval("so", 1.0, 2.0), Interval("on", 99.0, 100.0)]}, SECONDS)
    audio = tiny.sound(5, SECONDS)
    audio[16_000 * 50 : 16_000 * 62] = 0
    soundfile.write(root / "sound.flac", audio, 16_000)
    refused(lambda: opened(root).check(), "sound.flac", "silence from 50.00 s to 62.00 s", "expected")
    refused(lambda: opened(root).phones(), "words.TextGrid", "no phone tier")


def test_detrending_regresses_slow_cosines_out_and_z_scores():
    columns = 700 + np.cumsum(np.random.default_rng(0).standard_normal((362, 4)), axis=0)
    np.testing.assert_allclose(detrend(columns, 2.0, 128.0), high_passed_by_hand(columns, 2.0, 128.0), atol=1e-6)


def test_detrending_removes_a_slow_drift_and_keeps_a_fast_wave():
    times = np.arange(362) * 2.0
    fast = np.sin(2 * np.pi * times / 30)
    both = (fast + 40 * np.cos(np.pi * 3 * (times + 1) / (362 * 2.0)) + 0.01 * times)[:, None]
    assert np.corrcoef(detrend(both, 2.0, 128.0)[:, 0], fast)[0, 1] > 0.99


def test_word_rate_counts_the_words_that_began_in_the_tr_before_each_row(root):
    dataset = opened(root)
    starts = [word.start for word in dataset.words()]
    expected = [sum((9 + i) * 2.0 <= start < (10 + i) * 2.0 for start in starts) for i in range(N_ROWS)]
    np.testing.assert_array_equal(word_rate(dataset)[:, 0], expected)
    assert sum(expected) > 50


def test_planted_regions_are_predicted_and_others_are_not(study):
    rng = np.random.default_rng(0)
    design = rng.standard_normal((240, 3))
    responses = rng.standard_normal((5, 240, 6))
    responses[:, :, 1] += 2 * design[:, [0]].T
    responses[:, :, 4] -= 2 * design[:, [2]].T
    people = tuple("abcde")
    rows = {(who, roi): (r, ceiling) for who, roi, r, ceiling in score_design(design, people, responses, study)}
    assert len(rows) == 36
    for who in (*people, "group"):
        for column, roi in enumerate(REGIONS):
            r, _ = rows[who, roi]
            assert r > 0.8 if column in (1, 4) else abs(r) < 0.35
    expected = leave_one_out_by_hand(responses)
    for person, who in enumerate(people):
        np.testing.assert_allclose([rows[who, roi][1] for roi in REGIONS], expected[person], atol=1e-10)
    signal, noise = 4.0, 1.0
    for roi in ("RATL", "LPreM"):
        assert rows["group", roi][1] == pytest.approx(np.sqrt(signal / (signal + noise / 5)), abs=0.02)
        assert rows["group", roi][0] == pytest.approx(rows["group", roi][1], abs=0.05)


def test_table_of_the_study_finds_what_was_planted_and_leaves_out_the_broken_file(study, root):
    features = load_arrays(extract_layers(study, [RUN])[0])["alice"]
    assert features.shape == (3, 2 + N_ROWS, 16)
    design = detrend(design_matrix(features[1], (1, 2)), TR, 128.0)
    evoked = design @ np.random.default_rng(8).standard_normal(design.shape[1])
    for number, participant in enumerate(PEOPLE):
        noise = np.random.default_rng(number).standard_normal((N_ROWS, 6))
        values = 900 + 3 * np.arange(N_ROWS)[:, None] / N_ROWS + noise
        values[:, 2] += 2 * evoked / evoked.std()
        save(root, participant, values)
    save(root, "s33", constant())
    lines = []
    with tiny.listening(lines.append):
        extract_layers(study, [RUN])
        table = pd.read_csv(align_alice(study, RUN))
    assert any(line.startswith("left out:") and "s33" in line and "constant" in line for line in lines)
    assert sorted(set(table.participant)) == sorted((*PEOPLE, "group"))
    assert len(table) == 5 * 6 * 3 and set(table.layer) == {0, 1, 2}
    group = table[(table.participant == "group") & (table.layer == 1)].set_index("roi").r
    assert group["LPTL"] > 0.6 and group.drop("LPTL").max() < 0.5 and group.drop("LPTL").mean() < 0.25
    dataset = opened(root)
    kept = np.stack([high_passed_by_hand(dataset.responses(p), TR, 128.0) for p in PEOPLE])
    ceilings = table[table.layer == 0].pivot(index="participant", columns="roi", values="noise_ceiling")
    expected = pd.DataFrame(leave_one_out_by_hand(kept), index=list(PEOPLE), columns=list(REGIONS))
    np.testing.assert_allclose(ceilings.loc[list(PEOPLE), list(REGIONS)], expected, atol=1e-4)
    assert {"study", "weights", "device", "recipe", "git_commit", "versions", "seed"} <= set(table)


def test_features_are_read_again_when_the_scans_have_another_length(study, root):
    extract_layers(study, [RUN])[0]
    for number, participant in enumerate(PEOPLE):
        save(root, participant, courses(number)[:-5])
    features = load_arrays(extract_layers(study, [RUN])[0])["alice"]
    assert features.shape[1] == 2 + N_ROWS - 5


def test_features_lose_the_same_slow_drift_as_the_responses(study, monkeypatch):
    designs = []

    def keep(design, people, *_):
        designs.append(design)
        return [(p, roi, 0.0, 1.0) for p in (*people, "group") for roi in REGIONS]

    monkeypatch.setattr(alice_stage, "score_design", keep)
    extract_layers(study, [RUN])
    align_alice(study, RUN)
    features = load_arrays(study.features_file(RUN))["alice"]
    assert len(designs) == len(features)
    for layer, design in zip(features, designs, strict=True):
        raw = design_matrix(layer, (1, 2)).astype(np.float64)
        np.testing.assert_allclose(design, high_passed_by_hand(raw, TR, 128.0), atol=1e-3)


def test_real_folder_gives_17_participants_without_s33_and_the_correlations_of_its_readme(shared):
    dataset = AliceDataset(shared / "data" / "alice", TR)
    dataset.check()
    assert len(dataset.participants) == 17 and "s33" not in dataset.participants
    tiny.one_sentence(dataset.left_out["s33"], "s33-timecourses.txt", "a constant value")
    kept = np.stack([detrend(dataset.responses(p), TR, 128.0) for p in dataset.participants])
    assert kept.shape == (17, 362, 6)
    found = leave_one_out_correlation(kept)
    by_hand = np.stack([high_passed_by_hand(dataset.responses(p), TR, 128.0) for p in dataset.participants])
    np.testing.assert_allclose(found, leave_one_out_by_hand(by_hand), atol=1e-6)
    of_all_27 = np.array([0.25, 0.20, 0.38, 0.23, 0.22, 0.18])
    lower = of_all_27 - found.mean(axis=0)
    assert (lower > 0).all() and (lower < 0.1).all(), "17 of the 27, whose mean is noisier, correlate a little less"
    assert REGIONS[found.mean(axis=0).argmax()] == "LPTL" and (found > 0).mean() > 0.9
