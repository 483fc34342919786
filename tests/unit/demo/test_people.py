"""What makes simulated listeners nearer to people, each part of it alone and all of it as written and planted."""

from functools import cache

import coarse_cortex
import h5py
import numpy as np
import pytest
from braintuning.cortex.regions import GROUPS
from braintuning.cortex.surface import fs_lr
from braintuning.datasets import labels
from braintuning.datasets.lebel import LebelDataset
from braintuning.demo import dataset as simulated
from braintuning.demo import listeners, noise, stories
from braintuning.demo.listeners import AREAS, CANONICAL, SPACES, Response
from braintuning.study.settings import DatasetSettings, Simulation
from nilearn.glm.first_level import hemodynamic_models
from scipy.stats import kstest

TR, STORIES, REPEATS = 1.5, ("lighthouse", "theferry"), 8
NEARER = {"noise_fwhm": 15.0, "drift_share": 0.25, "response_peaks": (4.5, 6.5), "response_widths": (0.8, 1.25)}
NEARER |= {"attention": 0.4}


def test_off_everyone_has_the_canonical_response_and_follows_all():
    assert set(listeners.draw_responses(Simulation(), "SIM01").values()) == {CANONICAL}
    np.testing.assert_array_equal(noise.attention(100, 2.0, 1.0, np.random.default_rng(0)), 1)
    assert (noise.smoothing(0.0) != noise.smoothing(0.0).T).nnz == 0 and noise.smoothing(0.0).diagonal().all()


def test_responses_differ_between_people_and_regions_within_their_ranges():
    simulation = Simulation(response_peaks=(4.5, 6.5), response_widths=(0.8, 1.25))
    people = [listeners.draw_responses(simulation, f"SIM{n:02}") for n in range(200)]
    assert people[0] == listeners.draw_responses(simulation, "SIM00") and tuple(people[0]) == AREAS
    peaks, widths = np.moveaxis(np.array([list(person.values()) for person in people]), -1, 0)
    assert 4.5 < peaks.min() < 4.8 and 6.2 < peaks.max() < 6.5 and 0.8 < widths.min() and widths.max() < 1.25
    between, within = peaks.mean(axis=1).var(), peaks.var(axis=1).mean()
    assert between == pytest.approx(1 / 12 + 1 / 12 / len(AREAS), rel=0.25) and within == pytest.approx(
        1 / 12, rel=0.25
    )


@pytest.mark.parametrize("peak", [3.0, 4.5, 5.0, 6.5])
@pytest.mark.parametrize("width", [0.7, 1.0, 1.4])
def test_a_response_is_nilearns_difference_of_gammas_and_peaks_when_it_says(peak, width):
    curve = listeners.response_curve(Response(peak, width))
    shape = {"delay": peak + width, "undershoot": peak + 10 + width, "dispersion": width, "u_dispersion": width}
    expected = hemodynamic_models._gamma_difference_hrf(0.1, oversampling=1, **shape)
    np.testing.assert_allclose(curve, expected, atol=1e-12)
    assert curve.argmax() * 0.1 == pytest.approx(peak + 0.1, abs=0.15)
    above = (curve > curve.max() / 2).sum() * 0.1
    narrow = (lambda c: (c > c.max() / 2).sum() * 0.1)(listeners.response_curve(Response(peak, width * 0.8)))
    assert narrow < above


def smoothness(values, hemisphere):
    """Full width at half maximum in mm by how much neighbours differ (Forman et al. 1995); values (draws, vertices)."""
    points, faces = noise.middle_surface(hemisphere)
    one, other = faces[:, 0], faces[:, 1]
    apart = np.linalg.norm(points[one] - points[other], axis=1)
    difference = ((values[:, one] - values[:, other]) ** 2).mean(axis=0)
    known = np.isfinite(difference)
    ratio = difference[known].mean() / (2 * np.nanvar(values))
    return np.sqrt(-2 * np.log(2) / np.log(1 - ratio) * (apart[known] ** 2).mean())


@pytest.mark.parametrize("fwhm", [4.0, 9.0])
def test_noise_is_as_smooth_over_the_cortex_as_it_is_set_and_keeps_its_variance(fwhm):
    kernel = noise.smoothing(fwhm)
    drawn = noise.cortical_noise(40, 2.0, 0.0, kernel, np.random.default_rng(0))
    np.testing.assert_allclose(kernel.multiply(kernel).sum(axis=1), 1, rtol=1e-5)
    assert drawn.dtype == np.float32 and drawn.var() == pytest.approx(1, abs=0.03)
    surface, found = fs_lr(), np.full((40, fs_lr().n_vertices), np.nan)
    found[:, surface.cortex] = drawn
    for hemisphere in ("left", "right"):
        assert smoothness(found[:, surface.vertices(hemisphere)], hemisphere) == pytest.approx(fwhm, rel=0.07)
    n_left = surface.cortex[: surface.vertices("right").start].sum()
    assert kernel[:n_left, n_left:].nnz == 0
    some = np.arange(0, 59_412, 97)
    alone = noise.cortical_noise(40, 2.0, 0.0, kernel[some], np.random.default_rng(0))
    assert alone.shape == (40, len(some)) and alone.var() == pytest.approx(1, abs=0.05)


def test_drift_has_unit_variance_and_only_periods_above_two_minutes():
    drawn = noise.drift(300, 2.0, 4000, np.random.default_rng(0))
    assert drawn.var() == pytest.approx(1, abs=0.05)
    np.testing.assert_allclose(drawn.mean(axis=0), 0, atol=1e-5)
    doubled = np.concatenate([drawn, drawn[::-1]])
    power = (np.abs(np.fft.rfft(doubled, axis=0)) ** 2).mean(axis=1)
    hertz = np.fft.rfftfreq(600, 2.0)
    assert power[hertz >= 1 / 120].sum() < 1e-9 * power.sum()
    below = power[(hertz > 0) & (hertz < 1 / 120 - 1e-9)]
    assert len(below) == 9 and below.max() < 1.15 * below.min()
    assert not noise.drift(25, 2.0, 5, np.random.default_rng(0)).any()


@pytest.mark.parametrize(("n_trs", "share"), [(200, 0.0), (200, 0.3), (20, 0.0)])
def test_drift_has_its_share_of_the_noise_but_in_a_story_too_short_for_any(n_trs, share):
    kernel = noise.smoothing(0.0)[:3000]
    drawn = noise.cortical_noise(n_trs, 2.0, share or 0.3 * (n_trs == 20), kernel, np.random.default_rng(1))
    assert drawn.shape == (n_trs, 3000) and drawn.var() == pytest.approx(1, abs=0.02)
    order = np.arange(1, int(np.ceil(2 * n_trs * 2.0 / 120)))
    cosines = np.sqrt(2 / n_trs) * np.cos(np.pi * np.outer(np.arange(n_trs) + 0.5, order) / n_trs)
    slow = ((cosines.T @ drawn) ** 2).sum() / drawn.size
    of_the_rest = (1 - share) * len(order) / n_trs * (1 + 0.35) / (1 - 0.35)
    assert slow == pytest.approx(share + of_the_rest, abs=0.02)


def test_attention_lies_between_its_bounds_all_equally_often_and_changes_within_minutes():
    rng = np.random.default_rng(0)
    drawn = np.stack([noise.attention(150, 2.0, 0.5, rng) for _ in range(400)])
    assert drawn.min() >= 0.5 and drawn.max() <= 1
    assert kstest(drawn[:, 75], "uniform", (0.5, 0.5)).pvalue > 0.01
    assert drawn[:, 0].std() == pytest.approx(0.5 / np.sqrt(12), rel=0.1)
    lag = [np.corrcoef(drawn[:, 20], drawn[:, 20 + trs])[0, 1] for trs in (5, 30, 120)]
    assert lag[0] > 0.9 and lag[1] == pytest.approx(0.25, abs=0.13) and abs(lag[2]) < 0.15


def test_function_words_are_a_closed_list_and_everything_else_has_content():
    without = "the a of in and i you she it's don't couldn't we'd was have been would not there's".split()
    assert not any(map(stories.has_content, [*without, "of the", labels.word_of("It 's"), labels.word_of("I’LL")]))
    content = "lighthouse said nine captain's bread went old slowly in-law".split()
    assert all(map(stories.has_content, [*content, "the boat", labels.word_of("Rosa's")]))
    listed = stories.FUNCTION_WORDS.read_text().split()
    assert 300 < len(listed) == len(set(listed)) < 500 and all(word == word.lower() for word in listed)


@pytest.fixture(scope="module")
def coarse():
    with coarse_cortex.simulated_on_it() as surface:
        yield surface


def make(root, repeats=REPEATS, **settings):
    settings = Simulation(seed=5, repeats=repeats, meaning_components=3, **settings)
    listeners_of = DatasetSettings(kind="lebel", root=str(root), tr=TR, simulation=settings)
    simulated.write_dataset(root, ("SIM01", "SIM02"), STORIES, STORIES, listeners_of)
    return root


@pytest.fixture(scope="module")
def nearer(tmp_path_factory, coarse):
    return make(tmp_path_factory.mktemp("nearer") / "ds", **NEARER)


@cache
def tracks_of(root, story):
    """Feature spaces of a story, worked out once."""
    dataset = LebelDataset(root, TR)
    return listeners.feature_spaces(dataset.audio(story), dataset.words(story), dataset.phones(story), 3)


def truth(root, participant="SIM01"):
    with h5py.File(root / "truth" / f"{participant}.h5") as file:
        found = {}
        file.visititems(lambda name, item: found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None)
        return found, dict(file.attrs)


def correlation(a, b):
    a, b = ((x - x.mean(axis=0)) / x.std(axis=0) for x in (a, b))
    return (a * b).mean(axis=0)


def test_the_truth_says_what_was_planted(nearer):
    for participant in ("SIM01", "SIM02"):
        planted, said = truth(nearer, participant)
        assert (said["noise_fwhm"], said["drift_share"], said["attention"], said["meaning"]) == (15.0, 0.25, 0.4, True)
        assert tuple(planted["areas"].astype(str)) == AREAS
        assert 4.5 < planted["peaks"].min() < planted["peaks"].max() < 6.5
        regions = planted["labels"].astype(str)
        for k, name in enumerate(AREAS[:-1]):
            earlier = [region for other in AREAS[:k] for region in GROUPS[other]]
            own = np.isin(regions, GROUPS[name]) & ~np.isin(regions, earlier)
            np.testing.assert_array_equal(planted["area"] == k, own)
        for story in STORIES:
            followed = planted[f"attention/{story}"]
            assert followed.shape == (REPEATS, LebelDataset(nearer, TR).n_rows(participant, story))
            assert 0.4 <= followed.min() < followed.max() <= 1
            assert abs(np.corrcoef(followed)[np.triu_indices(REPEATS, 1)]).max() < 0.95
    assert (truth(nearer, "SIM01")[0]["peaks"] != truth(nearer, "SIM02")[0]["peaks"]).all()


def test_each_area_responds_at_its_own_time(nearer):
    dataset, (planted, _) = LebelDataset(nearer, TR), truth(nearer)
    times = dataset.tr_times("SIM01", "theferry")
    for k in range(len(AREAS)):
        response = Response(planted["peaks"][k], planted["widths"][k])
        for space, track in tracks_of(nearer, "theferry").items():
            expected = listeners.haemodynamic(track, times, response)
            varies = expected.std(axis=0) > 1e-6
            found = planted[f"features/theferry/{space}"][:, k].astype(float)
            np.testing.assert_allclose(correlation(found[:, varies], expected[:, varies]), 1, atol=5e-3)


def test_true_weights_and_attention_explain_the_planted_share_of_a_presentation(nearer):
    planted, _ = truth(nearer)
    inside = np.flatnonzero(planted["signal_share"] > 0)
    found = []
    for story in STORIES:
        repeats = LebelDataset(nearer, TR).repeats("SIM01", story)[..., inside]
        heard = np.zeros(repeats.shape[1:])
        for column, vertex in enumerate(inside):
            for i, space in enumerate(SPACES):
                response = planted[f"features/{story}/{space}"][:, planted["area"][vertex]]
                weights = planted[f"weights/{space}"][:, vertex]
                heard[:, column] += np.sqrt(planted["shares"][vertex, i]) * (response @ weights)
        gain = planted[f"attention/{story}"] / 0.7
        found.append([correlation(own[:, None] * heard, one) for own, one in zip(gain, repeats, strict=True)])
        without = [correlation(heard, one) for one in repeats]
        assert np.mean(without) < np.mean(found[-1])
    r = np.mean(found, axis=(0, 1))
    assert np.mean(r**2) == pytest.approx(planted["signal_share"][inside].mean(), abs=0.03)
    assert np.corrcoef(r**2, planted["signal_share"][inside])[0, 1] > 0.9


def test_noise_of_the_written_responses_is_smooth_and_drifts(nearer):
    planted, _ = truth(nearer)
    silent = np.flatnonzero(planted["signal_share"] == 0)
    repeats = LebelDataset(nearer, TR).repeats("SIM01", "theferry")[..., silent].astype(float)
    expected = (noise.smoothing(15.0) @ noise.smoothing(15.0).T).toarray()[np.ix_(silent, silent)]
    found = np.mean([np.corrcoef(one.T) for one in repeats], axis=0)
    near = (expected > 0.1) & (expected < 0.99)
    assert near.any() and found[near].mean() == pytest.approx(expected[near].mean(), abs=0.03)
    assert abs(found[expected == 0].mean()) < 0.03
    n_trs = repeats.shape[1]
    order = np.arange(1, int(np.ceil(2 * n_trs * TR / 120)))
    cosines = np.sqrt(2 / n_trs) * np.cos(np.pi * np.outer(np.arange(n_trs) + 0.5, order) / n_trs)
    slow = ((cosines.T @ repeats) ** 2).sum() / repeats.size
    assert slow == pytest.approx(0.25 + 0.75 * len(order) / n_trs * 1.35 / 0.65, abs=0.04)


def explained(root, region, spaces):
    """How well some spaces predict a region's responses to a story from another, and how well these repeat: r."""
    planted, _ = truth(root)
    dataset = LebelDataset(root, TR)
    vectors = {}
    for story in STORIES:
        tracks, times = tracks_of(root, story), dataset.tr_times("SIM01", story)
        parts = np.hstack([listeners.haemodynamic(tracks[space], times) for space in spaces])
        vectors[story] = parts - parts.mean(axis=0)
    inside = np.isin(planted["labels"].astype(str), GROUPS[region])
    train, test = (dataset.responses("SIM01", story)[:, inside] for story in STORIES)
    x = vectors[STORIES[0]]
    scale = x.std(axis=0) + 1e-9
    weights = np.linalg.solve((x / scale).T @ (x / scale) + 20 * np.eye(x.shape[1]), (x / scale).T @ train)
    r = correlation(vectors[STORIES[1]] / scale @ weights, test)
    one, two = (dataset.repeats("SIM01", STORIES[1])[k::2].mean(axis=0)[:, inside] for k in (0, 1))
    return r.mean(), correlation(one, two).mean()


def test_without_meaning_nothing_that_is_said_predicts_what_repeats(tmp_path, nearer):
    """Late language regions of the negative control repeat as well, yet neither meaning nor sound predicts them."""
    shares = {"late_language": (0.0, 0.0, 1.0)}
    null = make(tmp_path / "null", **NEARER, meaning=False, shares=shares)
    planted, said = truth(null)
    late = np.isin(planted["labels"].astype(str), GROUPS["late_language"])
    np.testing.assert_allclose(planted["shares"][late & ~np.isin(planted["area"], [0, 1])], [(0, 0, 1)] * late.sum())
    assert not said["meaning"]
    r, repeated = explained(nearer, "late_language", ["meaning"])
    r_null, repeated_null = explained(null, "late_language", ["meaning"])
    assert r > 0.35 and abs(r_null) < 0.1 and repeated_null == pytest.approx(repeated, abs=0.12)
    assert abs(explained(null, "late_language", ["spectrum", "articulation"])[0]) < 0.15
    sound, sound_null = (explained(root, "early_auditory", ["spectrum", "articulation"])[0] for root in (nearer, null))
    assert sound_null == pytest.approx(sound, abs=0.1)


def test_each_word_that_is_said_again_has_another_vector_in_the_control(nearer):
    dataset = LebelDataset(nearer, TR)
    heard = dataset.audio("theferry"), dataset.words("theferry"), dataset.phones("theferry")
    drawn = listeners.feature_spaces(*heard, 3, meaningless=np.random.default_rng(0))
    known = tracks_of(nearer, "theferry")
    assert drawn["meaning"].shape == known["meaning"].shape
    np.testing.assert_array_equal(drawn["meaning"].any(axis=1), known["meaning"].any(axis=1))
    np.testing.assert_array_equal(drawn["spectrum"], known["spectrum"])
    n_words = sum(stories.has_content(word.label) for word in heard[1])
    assert abs(np.corrcoef(drawn["meaning"].T, known["meaning"].T)[:3, 3:]).max() < 4 / np.sqrt(n_words)
