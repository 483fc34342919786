import hashlib
import json
from itertools import pairwise

import coarse_cortex
import h5py
import numpy as np
import pytest
from braintuning.cortex.regions import GROUPS, hcp_mmp_labels
from braintuning.cortex.subject import spread_vertices
from braintuning.cortex.surface import fs_lr
from braintuning.datasets.lebel import LebelDataset
from braintuning.demo import dataset as simulated
from braintuning.demo import listeners, noise, revoicing, stories
from braintuning.demo.listeners import SPACES
from braintuning.demo.textgrid_writer import write_textgrid
from braintuning.demo.voices import VOICES, speak
from braintuning.lowlevel.phones import articulation
from braintuning.study.settings import DatasetSettings, Simulation
from nilearn.glm.first_level import spm_hrf
from scipy.spatial import cKDTree
from tiny import listening, refused
from transformers import AutoModel

TR = 1.0
REPEATS = 8
SETTINGS = Simulation(seed=4, repeats=REPEATS, meaning_components=3)
STORIES, PARTICIPANTS = ("lighthouse", "thewell", "theferry"), ("SIM01", "SIM02")
TRAIN, TEST = STORIES[:2], STORIES[2]
WORDS_PER_STORY = 400


@pytest.fixture(scope="module")
def coarse():
    with coarse_cortex.simulated_on_it() as surface:
        yield surface


@pytest.fixture(scope="module")
def texts(tmp_path_factory, coarse):
    folder = tmp_path_factory.mktemp("texts")
    with pytest.MonkeyPatch.context() as patch:
        for story in STORIES:
            (folder / f"{story}.txt").write_text(stories.story_text(story, WORDS_PER_STORY))
        patch.setattr(stories, "STORY_TEXTS", folder)
        yield folder


def write(root, stories=STORIES, repeated=STORIES, settings=SETTINGS, participants=PARTICIPANTS, tr=TR, **times):
    dataset = DatasetSettings(kind="lebel", root=str(root), tr=tr, simulation=settings, **times)
    simulated.write_dataset(root, participants, stories, repeated, dataset)
    return root


@pytest.fixture(scope="module")
def root(tmp_path_factory, texts):
    return write(tmp_path_factory.mktemp("simulated") / "ds")


@pytest.fixture(scope="module")
def dataset(root):
    return LebelDataset(root, TR)


def load(path, name):
    with h5py.File(path) as file:
        return file[name][()]


def truth(root, participant, name):
    return load(root / "truth" / f"{participant}.h5", name)


def features(root, story, participant="SIM01"):
    """Responses to the feature spaces, the same in every area; (TRs, features) each."""
    return {space: truth(root, participant, f"features/{story}/{space}")[:, 0].astype(np.float64) for space in SPACES}


def group(root, participant, name):
    return np.isin(truth(root, participant, "labels").astype(str), GROUPS[name])


def test_what_is_written_passes_the_check_of_the_reader_of_real_data(dataset):
    dataset.check(dict.fromkeys(PARTICIPANTS, STORIES))
    assert dataset.participants == PARTICIPANTS
    for story in STORIES:
        assert dataset.repeats("SIM01", story).shape == (
            REPEATS,
            dataset.n_rows("SIM01", story),
            dataset.cortex("SIM01").n_voxels,
        )
        assert len(dataset.phones(story)) > len(dataset.words(story)) > 100


def test_rows_follow_the_sound_by_the_layout_of_ds003020(dataset, root):
    volumes = json.loads((root / "derivative" / "respdict.json").read_text())
    for story in STORIES:
        seconds = len(dataset.audio(story)) / 16_000
        assert abs(volumes[story] * TR - (seconds + 2 * 10.028)) <= TR / 2 + listeners.STEP
        assert dataset.n_rows("SIM02", story) == volumes[story] - 20


def test_listeners_respond_at_their_own_times(tmp_path, texts):
    """Each has a TR and a start of the sound; what is planted is the response to the sound heard until then."""
    small = Simulation(seed=1, repeats=2, meaning_components=2, words=200)
    trs, starts = {"SIM01": 1.5, "SIM02": 0.9}, {"SIM01": {"lighthouse": 7.0}, "SIM02": 4.0}
    options = {"tr": trs, "sound_starts": starts, "row_offset": 0.25, "unstored_volumes": 3}
    root = write(tmp_path / "ds", ("lighthouse",), ("lighthouse",), small, **options)
    dataset = LebelDataset(root, trs, row_offset=0.25, unstored_volumes=3, sound_starts=starts)
    dataset.check(dict.fromkeys(PARTICIPANTS, ("lighthouse",)))
    heard = dataset.audio("lighthouse"), dataset.words("lighthouse"), dataset.phones("lighthouse")
    tracks = listeners.feature_spaces(*heard, 2)
    for participant, start in (("SIM01", 7.0), ("SIM02", 4.0)):
        volumes = json.loads((root / "derivative" / "respdict.json").read_text())[participant]["lighthouse"]
        assert abs(volumes * trs[participant] - (len(heard[0]) / 16_000 + 2 * start)) < trs[participant] / 2 + 0.1
        times = np.array([(i + 3.25) * trs[participant] - start for i in range(volumes - 6)])
        np.testing.assert_allclose(dataset.tr_times(participant, "lighthouse"), times, rtol=0, atol=1e-9)
        assert dataset.responses(participant, "lighthouse").shape[0] == volumes - 6
        for space, track in tracks.items():
            expected = listeners.haemodynamic(track, times)
            varies = expected.std(axis=0) > 1e-6
            planted = features(root, "lighthouse", participant)[space]
            np.testing.assert_allclose(correlation(planted[:, varies], expected[:, varies]), 1, atol=5e-3)
            late = listeners.haemodynamic(track, times + 1.0)
            assert correlation(planted[:, varies], late[:, varies]).max() < 0.99


def test_responses_are_the_standardised_mean_of_standardised_repeats(dataset, root):
    repeats = load(root / "derivative" / "preprocessed_data" / "SIM02" / "thewell.hf5", "individual_repeats")
    np.testing.assert_allclose(repeats.mean(axis=1), 0, atol=1e-4)
    np.testing.assert_allclose(repeats.std(axis=1), 1, atol=1e-4)
    mean = repeats.mean(axis=0)
    expected = (mean - mean.mean(axis=0)) / mean.std(axis=0)
    np.testing.assert_allclose(dataset.responses("SIM02", "thewell"), expected, atol=1e-4)


def ridge_by_hand(train_x, train_y, test_x, alphas):
    """Ridge with one penalty a column of y, the one that predicts best a third of the training rows left out."""
    rows = np.arange(len(train_x))
    left_out = rows // 12 % 3 == 0

    def predict(x, y, new, alpha):
        return new @ np.linalg.solve(x.T @ x + alpha**2 * np.eye(x.shape[1]), x.T @ y)

    errors = [
        ((predict(train_x[~left_out], train_y[~left_out], train_x[left_out], a) - train_y[left_out]) ** 2).mean(axis=0)
        for a in alphas
    ]
    best = np.argmin(errors, axis=0)
    predicted = np.stack([predict(train_x, train_y, test_x, a) for a in alphas])
    return np.take_along_axis(predicted, best[None, None], axis=0)[0]


def correlation(a, b):
    """Pearson r of matching columns, from their z-scores."""
    a, b = ((x - x.mean(axis=0)) / x.std(axis=0) for x in (a, b))
    return (a * b).mean(axis=0)


def ceiling_by_hand(repeats):
    """Root of the reliability of a mean of repeats, from the mean correlation of pairs (Spearman 1910; Brown 1910)."""
    n = len(repeats)
    pairwise = np.mean([correlation(repeats[i], repeats[j]) for i in range(n) for j in range(i)], axis=0)
    return np.sqrt(np.clip(n * pairwise / (1 + (n - 1) * pairwise), 0, 1))


@pytest.fixture(scope="module", params=PARTICIPANTS)
def recovered(request, root, dataset):
    """Participant, correlation of truth fitted to two stories with responses to a third, and the noise ceiling."""
    design = {story: np.concatenate(list(features(root, story).values()), axis=1) for story in STORIES}
    design = {story: columns - columns.mean(axis=0) for story, columns in design.items()}
    x = np.concatenate([design[story] for story in TRAIN])
    y = np.concatenate([dataset.responses(request.param, story) for story in TRAIN])
    predicted = ridge_by_hand(x, y, design[TEST], np.logspace(-1, 3, 12))
    ceiling = ceiling_by_hand(dataset.repeats(request.param, TEST))
    return request.param, correlation(predicted, dataset.responses(request.param, TEST)), ceiling


@pytest.mark.parametrize("region", ["late_language", "primary_auditory", "early_auditory"])
def test_truth_fitted_to_responses_reaches_the_noise_ceiling_where_it_was_planted(recovered, root, region):
    participant, r, ceiling = recovered
    inside = group(root, participant, region)
    assert 0.6 < ceiling[inside].mean() < 0.98
    assert r[inside].mean() > 0.85 * ceiling[inside].mean()
    assert r[inside].mean() < 1.02 * ceiling[inside].mean()


def test_truth_fitted_to_responses_finds_nothing_elsewhere(recovered, root):
    participant, r, ceiling = recovered
    outside = truth(root, participant, "signal_share") == 0
    planted = np.any([group(root, participant, region) for region in listeners.SHARES], axis=0)
    np.testing.assert_array_equal(outside, ~planted)
    assert outside.mean() > 0.7
    assert abs(r[outside].mean()) < 0.03 and np.abs(r[outside]).mean() < 0.15 and ceiling[outside].mean() < 0.25


def test_true_weights_predict_up_to_the_noise_ceiling(root, dataset):
    found = features(root, TEST)
    for participant in PARTICIPANTS:
        inside = truth(root, participant, "signal_share") > 0
        shares = truth(root, participant, "shares")[inside]
        heard = sum(
            np.sqrt(shares[:, i]) * (found[space] @ truth(root, participant, f"weights/{space}")[:, inside])
            for i, space in enumerate(SPACES)
        )
        r = correlation(heard, dataset.responses(participant, TEST)[:, inside])
        ceiling = ceiling_by_hand(dataset.repeats(participant, TEST)[..., inside])
        assert r.mean() == pytest.approx(ceiling.mean(), abs=0.02)


def test_every_space_has_its_share_of_a_regions_signal(root):
    everything = [np.concatenate([features(root, story)[space] for story in STORIES]) for space in SPACES]
    for participant in PARTICIPANTS:
        parts = [
            values @ truth(root, participant, f"weights/{s}") for values, s in zip(everything, SPACES, strict=True)
        ]
        np.testing.assert_allclose([part.var(axis=0).mean() for part in parts], 1, rtol=0.02)
        labels, shares = truth(root, participant, "labels").astype(str), truth(root, participant, "shares")
        for region, planted in {
            "A1": (0.80, 0.15, 0.05),
            "LBelt": (0.35, 0.50, 0.15),
            "PGi": (0.10, 0.20, 0.70),
        }.items():
            np.testing.assert_allclose(shares[labels == region], [planted] * (labels == region).sum(), atol=1e-6)
        assert not shares[labels == "V1"].any()
        np.testing.assert_allclose(shares.sum(axis=1)[shares.any(axis=1)], 1, atol=1e-6)


def test_shares_of_a_signal_are_recovered_by_regression_on_features_that_do_not_correlate():
    rng = np.random.default_rng(0)
    drawn = np.linalg.qr(rng.standard_normal((400, 12)))[0] * np.sqrt(400)
    spaces = dict(zip(SPACES, np.split(drawn, 3, axis=1), strict=True))
    weights = {s: listeners.scaled_to_unit_variance(rng.standard_normal((4, 50)), spaces[s]) for s in SPACES}
    shares = rng.dirichlet([1, 1, 1], 50).astype(np.float32)
    listener = listeners.Listener(np.full(50, "A1"), np.zeros(50, int), shares, np.full(50, 0.3, np.float32), weights)
    made = listeners.signal(listener, {space: values[:, None] for space, values in spaces.items()})
    fitted = np.linalg.lstsq(drawn, made, rcond=None)[0]
    for i in range(3):
        part = drawn[:, 4 * i : 4 * i + 4] @ fitted[4 * i : 4 * i + 4]
        np.testing.assert_allclose(part.var(axis=0), shares[:, i], rtol=0.02, atol=1e-3)


def test_signal_share_is_the_part_of_a_presentations_variance_that_repeats_share():
    rng = np.random.default_rng(0)
    share = np.array([0.0, 0.1, 0.3, 0.6], np.float32)
    heard = rng.standard_normal((4000, 4))
    noises = (noise.autoregressive_noise(4000, 4, rng) for _ in range(2))
    one, two = listeners.responses(heard, share, np.ones((2, 4000)), noises)
    np.testing.assert_allclose(correlation(one, two), share, atol=0.05)
    np.testing.assert_allclose(correlation(one, heard), np.sqrt(share), atol=0.05)


@pytest.mark.parametrize("times", [1.0, 2.0, 0.5])
def test_noise_is_so_many_times_as_large_beside_the_same_signal(times):
    rng, share = np.random.default_rng(1), np.array([0.0, 0.1, 0.3, 0.6], np.float32)
    plain = listeners.Listener(np.full(4, "A1"), np.zeros(4, int), np.zeros((4, 3), np.float32), share, {})
    noisy = listeners.noisier(plain, times)
    signal, noise = np.sqrt(share) * rng.standard_normal((9000, 4)), np.sqrt(1 - share) * rng.standard_normal((9000, 4))
    expected = signal.var(axis=0) / (signal + times * noise).var(axis=0)
    np.testing.assert_allclose(noisy.signal_share, expected, atol=0.02)
    assert noisy.weights is plain.weights and noisy.shares is plain.shares


def test_a_noisier_listener_is_written_and_the_others_stay(tmp_path, texts):
    small = Simulation(seed=1, repeats=2, meaning_components=2, words=150)
    noisy = small.model_copy(update={"noise": {"SIM02": 2.0}})
    plain, changed = (
        write(tmp_path / name, ("lighthouse",), ("lighthouse",), settings)
        for name, settings in (("plain", small), ("noisy", noisy))
    )
    responses = [LebelDataset(root, TR).responses("SIM01", "lighthouse") for root in (plain, changed)]
    np.testing.assert_array_equal(*responses)
    before, after = (truth(root, "SIM02", "signal_share") for root in (plain, changed))
    np.testing.assert_allclose(after, before / (before + 4 * (1 - before)), rtol=1e-5)


def test_noise_is_autoregressive_with_the_coefficient_that_is_set():
    drawn = noise.autoregressive_noise(3000, 40, np.random.default_rng(0)).astype(np.float64)
    for lag in (1, 2, 3):
        found = np.mean([np.corrcoef(c[lag:], c[:-lag])[0, 1] for c in drawn.T])
        assert found == pytest.approx(0.35**lag, abs=0.01)
    np.testing.assert_allclose(drawn.var(axis=0), 1, atol=0.15)
    assert drawn[:50].var() == pytest.approx(1, abs=0.1)
    assert abs(np.corrcoef(drawn.T)[np.triu_indices(40, 1)]).max() < 0.12


def test_noise_of_presentations_voxels_and_participants_is_independent(root, dataset):
    residuals = []
    for participant in PARTICIPANTS:
        repeats = dataset.repeats(participant, "thewell")
        silent_in_both = np.all([truth(root, p, "signal_share") == 0 for p in PARTICIPANTS], axis=0)
        residuals += [repeats[0][:, silent_in_both], repeats[1][:, silent_in_both]]
    for one, other in pairwise(residuals):
        assert abs(correlation(one, other).mean()) < 0.03


def test_a_track_is_convolved_with_the_canonical_response_of_nilearn():
    rng = np.random.default_rng(0)
    track = rng.standard_normal((900, 2)).cumsum(axis=0)
    response = spm_hrf(0.1, oversampling=1)
    times = np.array([0.1, 3.0, 25.25, 61.37, 90.0])
    found = listeners.haemodynamic(track, times)
    for column in range(2):
        centred = track[:, column] - track[:, column].mean()
        slow = np.convolve(centred, response)[:900]
        expected = np.interp(times, (np.arange(900) + 1) * 0.1, slow)
        np.testing.assert_allclose(found[:, column], expected, atol=1e-5 * np.abs(slow).max())


def test_an_event_is_felt_five_seconds_later_and_never_before():
    track = np.zeros((600, 1))
    track[200] = 1.0
    times = np.arange(0.5, 60, 0.5)
    felt = listeners.haemodynamic(track, times)[:, 0] - listeners.haemodynamic(np.zeros((600, 1)), times)[:, 0]
    felt -= felt[times < 20].mean() * (times < 20)
    assert times[felt.argmax()] == pytest.approx(25.0, abs=0.5)
    assert times[felt.argmin()] == pytest.approx(36, abs=2.0)


def test_spaces_are_spectrum_articulation_and_meaning_of_what_is_said_now(dataset, texts):
    story = STORIES[0]
    audio, words, phones = dataset.audio(story), dataset.words(story), dataset.phones(story)
    spaces = listeners.feature_spaces(audio, words, phones, 3)
    n_steps = len(audio) // 1600
    assert {s: v.shape for s, v in spaces.items()} == {
        "spectrum": (n_steps, 32), "articulation": (n_steps, 22), "meaning": (n_steps, 3),
    }  # fmt: skip
    vectors = stories.word_vectors(3)
    for step in (20, 333, 600):
        begin, end = step * 0.1, step * 0.1 + 0.1
        said = [w for w in words if stories.has_content(w.label)]
        expected = sum(vectors[w.label] * max(0, min(w.end, end) - max(w.start, begin)) / 0.1 for w in said)
        np.testing.assert_allclose(spaces["meaning"][step], expected, atol=1e-4)
        expected = sum(articulation(p.label) * max(0, min(p.end, end) - max(p.start, begin)) / 0.1 for p in phones)
        np.testing.assert_allclose(spaces["articulation"][step], expected, atol=1e-4)
    assert spaces["articulation"][[20, 333, 600]].any()
    loud = np.array([np.mean(audio[i * 1600 : (i + 1) * 1600] ** 2) for i in range(n_steps)])
    assert np.corrcoef(np.log(loud + 1e-9), spaces["spectrum"].mean(axis=1))[0, 1] > 0.8


def test_two_listeners_differ_in_borders_clarity_tuning_and_noise(root, dataset):
    labels, shares = ([truth(root, p, name) for p in PARTICIPANTS] for name in ("labels", "signal_share"))
    assert 0.05 < (labels[0] != labels[1]).mean() < 0.9
    planted = (shares[0] > 0) & (shares[1] > 0)
    assert planted.any() and (shares[0][planted] != shares[1][planted]).all()
    for space in SPACES:
        one, two = (truth(root, p, f"weights/{space}") for p in PARTICIPANTS)
        assert abs(np.corrcoef(one.ravel(), two.ravel())[0, 1]) < 0.3
    one, two = (dataset.responses(p, "thewell") for p in PARTICIPANTS)
    outside = (shares[0] == 0) & (shares[1] == 0)
    assert abs(correlation(one[:, outside], two[:, outside]).mean()) < 0.05


def test_borders_on_the_whole_cortex_move_by_about_three_degrees(monkeypatch):
    monkeypatch.setattr(listeners, "fs_lr", fs_lr)
    monkeypatch.setattr(listeners, "hcp_mmp_labels", hcp_mmp_labels)
    monkeypatch.setattr(listeners, "BORDER_SHIFT_DEGREES", 3.0)
    labels, moved = hcp_mmp_labels()[fs_lr().cortex], listeners.shifted_labels(np.random.default_rng(0))
    assert moved.shape == (59_412,)
    assert set(labels[labels != ""]) <= set(moved)
    assert 0.05 < (labels != moved).mean() < 0.5
    sphere = fs_lr().sphere["left"][fs_lr().cortex[: len(fs_lr().sphere["left"])]]
    here, there = labels[: len(sphere)], moved[: len(sphere)]
    inside = cKDTree(sphere[here == "44"]).query(sphere[there == "44"])[0]
    assert inside.max() < 2 * 100 * np.sin(np.radians(3))


def test_tuning_varies_smoothly_over_the_cortex(root, coarse):
    weights = truth(root, "SIM01", "weights/meaning")[0]
    points, faces = coarse.sphere["left"], coarse.inflated["left"][1]
    full = np.full(coarse.n_vertices, np.nan)
    full[coarse.cortex] = weights
    full = full[: len(points)]
    neighbours = np.array([full[faces[:, 0]], full[faces[:, 1]]])
    neighbours = neighbours[:, np.isfinite(neighbours).all(axis=0)]
    assert np.corrcoef(neighbours)[0, 1] > 0.8


def digests(root):
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def test_same_seed_gives_identical_files_whoever_else_is_simulated_and_another_seed_does_not(tmp_path, texts):
    small = Simulation(seed=1, repeats=2, meaning_components=2, words=90)
    options = {"stories": STORIES[:1], "repeated": STORIES[:1]}
    one = digests(write(tmp_path / "one", settings=small, participants=("SIM01",), **options))
    again = digests(write(tmp_path / "again", settings=small, participants=("SIM01",), **options))
    both = digests(write(tmp_path / "both", settings=small, participants=("SIM02", "SIM01"), **options))
    reseeded = small.model_copy(update={"seed": 2})
    other = digests(write(tmp_path / "other", settings=reseeded, participants=("SIM01",), **options))
    assert one == again and len(one) == 8
    assert {name for name in one if one[name] != both[name]} == {"simulation.json"}
    assert {name for name in one if one[name] == other[name]} <= {
        "README", "derivative/respdict.json", "derivative/pycortex-db/SIM01/space.json",
    }  # fmt: skip


def test_words_of_like_meaning_lie_together_and_components_have_unit_variance(texts):
    vectors = stories.word_vectors(5)
    every = np.stack(list(vectors.values()))
    np.testing.assert_allclose(every.std(axis=0), 1, rtol=1e-4)
    np.testing.assert_allclose(np.corrcoef(every.T), np.eye(5), atol=1e-3)
    said = {word for story in STORIES for word in stories.words_of(stories.story_text(story))}
    assert set(vectors) == {word for word in said if stories.has_content(word)} < said


def test_a_vocabulary_is_embedded_once(tmp_path, monkeypatch):
    monkeypatch.setattr(stories, "CACHE", tmp_path)
    words = ["boat", "harbour", "lighthouse"]
    first = stories._embeddings(words)
    np.testing.assert_allclose(np.linalg.norm(first, axis=1), 1, rtol=1e-5)
    monkeypatch.setattr(AutoModel, "from_pretrained", None)
    np.testing.assert_array_equal(stories._embeddings(words), first)
    with pytest.raises(TypeError):
        stories._embeddings([*words, "sea"])


def test_a_text_is_cut_at_the_last_sentence_that_fits():
    text = stories.story_text("lighthouse", 40)
    assert text.endswith(".") and len(text.split()) <= 40
    refused(lambda: stories.story_text("lighthouse", 2), "lighthouse", "expected")


def test_an_unknown_story_is_named_before_anything_is_spoken(tmp_path, monkeypatch):
    monkeypatch.setattr(simulated, "speak", lambda *_, **__: pytest.fail("spoke"))
    refused(lambda: write(tmp_path / "ds", stories=("lighthouse", "nosuch")), "nosuch", "expected one of", "lighthouse")
    assert not (tmp_path / "ds").exists()


def test_a_story_too_short_for_a_row_is_refused(tmp_path, texts):
    (texts / "brief.txt").write_text("The light.")
    try:
        refused(
            lambda: write(tmp_path / "ds", stories=("brief",), tr=2.0), "brief", "volumes long", "expected more than 20"
        )
    finally:
        (texts / "brief.txt").unlink()


def test_a_run_killed_half_way_leaves_no_dataset(tmp_path, texts, monkeypatch):
    def die(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(simulated, "_write_responses", die)
    monkeypatch.setattr(simulated, "_write_stimulus", lambda *_: {s: np.eye(300, 9) for s in SPACES})
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "ds")
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def real(tmp_path_factory, texts):
    """A folder like a copy of ds003020, with two stories and labels that cannot be said."""
    folder = tmp_path_factory.mktemp("real")
    volumes = {}
    for name, story in (("souls", "lighthouse"), ("wheretheressmoke", "theferry")):
        speech = speak(stories.story_text(story, 80), VOICES["rosa"], seed=0)
        words = [w._replace(label="x#1") if i == 5 else w for i, w in enumerate(speech.words)]
        seconds = len(speech.audio) / speech.rate
        write_textgrid(folder / "TextGrids" / f"{name}.TextGrid", {"phone": speech.phones, "word": words}, seconds)
        volumes[name] = round(seconds + 20) + 1
    (folder / "respdict.json").write_text(json.dumps(volumes))
    return folder


@pytest.fixture(scope="module")
def retold(tmp_path_factory, real):
    """What is written of these stories, and what was said meanwhile."""
    said = []
    settings = SETTINGS.model_copy(update={"textgrids": str(real), "points_per_hemisphere": 250})
    with pytest.MonkeyPatch.context() as patch, listening(said.append):
        patch.setattr(revoicing, "CACHE", tmp_path_factory.mktemp("cache"))
        root = write(
            tmp_path_factory.mktemp("retold") / "ds", ("souls", "wheretheressmoke"), ("wheretheressmoke",), settings
        )
    return root, said


def test_stories_of_the_real_dataset_keep_their_textgrids_and_volumes(real, retold):
    (root, said), dataset = retold, LebelDataset(retold[0], TR)
    dataset.check(dict.fromkeys(PARTICIPANTS, ("souls", "wheretheressmoke")))
    for story in ("souls", "wheretheressmoke"):
        copied = root / "derivative" / "TextGrids" / f"{story}.TextGrid"
        assert copied.read_bytes() == (real / "TextGrids" / f"{story}.TextGrid").read_bytes()
        volumes = json.loads((real / "respdict.json").read_text())[story]
        assert dataset.responses("SIM01", story).shape == (volumes - 20, dataset.cortex("SIM01").n_voxels)
        assert any(f"{story}: 1 of {len(dataset.words(story))} words" in line for line in said)
    assert dataset.repeats("SIM02", "wheretheressmoke").shape[0] == REPEATS
    assert 300 < dataset.n_voxels("SIM01") < 500


def test_listeners_at_some_vertices_are_those_of_all_vertices_there(retold, coarse):
    kept = np.searchsorted(np.flatnonzero(coarse.cortex), spread_vertices(250))
    everywhere = listeners.shifted_labels(listeners.generator(SETTINGS.seed, "SIM01", "truth"))
    np.testing.assert_array_equal(truth(retold[0], "SIM01", "labels").astype(str), everywhere[kept])
