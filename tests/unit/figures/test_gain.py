"""The law of gains against curves that were planted."""

import numpy as np
import pytest
from braintuning.figures.gain import FACTORS, GainLaw, fit_gain
from tiny import refused

PLATEAU, SCALE = 0.08, 12.0
MINUTES, PEOPLE, N_TRS = (4, 8, 20, 40, 90, 180), ("P1", "P2", "P3", "P4"), 160
CEILINGS = dict(zip(PEOPLE, (0.6, 0.55, 0.35, 0.3), strict=True))


def truth(minutes, participants, ceiling):
    return PLATEAU * (1 - np.exp(-minutes * participants * ceiling**2 / SCALE))


def planted(rng, noise=0.0, spread=0.0, curve=truth):
    """Gains of four people alone, and of the first two together; noise by TR, part of it shared by all rows."""
    rows = [(m, 1, CEILINGS[p], p) for m in MINUTES for p in PEOPLE]
    rows += [(m, 2, 0.57, p) for m in MINUTES for p in PEOPLE[:2]]
    own = {person: 1 + spread * rng.standard_normal() for person in PEOPLE}
    gains = np.array([curve(*row[:3]) * own[row[3]] for row in rows])
    shared = rng.standard_normal(N_TRS)
    values = gains[:, None] + noise * (shared + rng.standard_normal((len(rows), N_TRS)))
    minutes, participants, ceiling, people = zip(*rows, strict=True)
    return minutes, participants, ceiling, values, people


def test_a_planted_curve_comes_back_without_noise():
    law = fit_gain(*planted(np.random.default_rng(0)), np.random.default_rng(1))
    assert law.plateau == pytest.approx(PLATEAU, rel=0.01) and law.scale == pytest.approx(SCALE, rel=0.03)
    assert law.saturates
    for minutes, participants, ceiling in ((30, 1, 0.5), (10, 2, 0.4), (150, 1, 0.35)):
        found = law.expected_gain(minutes, participants, ceiling)
        assert found.gain == pytest.approx(truth(minutes, participants, ceiling), rel=0.02)
        assert found.low <= found.gain <= found.high and not found.beyond


def test_the_fit_is_that_of_scipy():
    from scipy.optimize import curve_fit

    minutes, participants, ceiling, values, people = planted(np.random.default_rng(2), noise=0.05, spread=0.1)
    law = fit_gain(minutes, participants, ceiling, values, people, np.random.default_rng(0))
    amount = np.array(minutes) * participants * np.square(ceiling)
    expected, _ = curve_fit(lambda x, a, s: a * (1 - np.exp(-x / s)), amount, values.mean(axis=1), p0=(0.1, 10))
    assert (law.plateau, law.scale) == pytest.approx(tuple(expected), rel=0.03)


def test_the_interval_holds_the_planted_gain_about_as_often_as_it_says():
    held = []
    for seed in range(60):
        rng = np.random.default_rng([7, seed])
        law = fit_gain(*planted(rng, noise=0.1, spread=0.05), rng)
        found = law.expected_gain(40, 1, 0.45)
        held.append(found.low <= truth(40, 1, 0.45) <= found.high)
    assert 0.85 <= np.mean(held)


def test_no_gain_is_expected_where_none_was_planted():
    rng, around = np.random.default_rng(5), []
    for _ in range(20):
        law = fit_gain(*planted(rng, noise=0.1, curve=lambda *_: 0.0), rng)
        found = law.expected_gain(60, 1, 0.5)
        around.append(found.low <= 0 <= found.high)
    assert np.mean(around) >= 0.85


def test_a_straight_line_has_no_plateau_to_speak_of():
    law = fit_gain(
        *planted(np.random.default_rng(0), curve=lambda m, n, c: 1e-3 * m * n * c**2), np.random.default_rng(1)
    )
    assert not law.saturates
    assert law.expected_gain(40, 1, 0.5).gain == pytest.approx(0.01, rel=0.1)


def law_of(**measured):
    ranges = {"minutes": (4.0, 180.0), "participants": (1.0, 2.0), "ceiling": (0.3, 0.6), "amount": (0.36, 120.0)}
    return GainLaw(PLATEAU, SCALE, np.array([[PLATEAU, SCALE]]), ranges | measured)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ((300, 1, 0.5), "minutes 300, measured from 4 to 180"),
        ((3, 1, 0.5), "minutes 3, measured from 4 to 180"),
        ((20, 8, 0.5), "participants 8, measured from 1 to 2"),
        ((20, 1, 0.9), "ceiling 0.9, measured from 0.3 to 0.6"),
        ((180, 2, 0.6), "amount 130, measured from 0.36 to 120"),
        ((180, 1, 0.6), ""),
    ],
)
def test_it_says_where_it_extrapolates(asked, words):
    assert law_of().expected_gain(*asked).beyond == words


def test_minutes_needed_give_the_share_that_was_asked_for():
    minutes = law_of().minutes_needed(0.5, 2, 0.5)
    assert law_of().expected_gain(minutes, 2, 0.5).gain == pytest.approx(PLATEAU / 2)
    assert law_of().minutes_needed(0.5, 1, 0.25) == pytest.approx(8 * minutes)


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("value", [0, -1.0, np.nan, np.inf])
def test_what_cannot_be_is_refused(place, value):
    asked = [20, 1, 0.5]
    asked[place] = value
    refused(lambda: law_of().expected_gain(*asked), f"`{FACTORS[place]}`", "expected")


def test_a_ceiling_above_one_or_one_dose_is_refused():
    refused(lambda: law_of().expected_gain(20, 1, 1.2), "`ceiling` 1.2", "at most 1")
    one = ([5, 5], [1, 1], [0.5, 0.5], np.zeros((2, 40)), ["P1", "P2"])
    refused(lambda: fit_gain(*one, np.random.default_rng(0)), "found 1 amounts")
    short = ([5, 9], [1, 1], [0.5, 0.5], np.zeros((2, 12)), ["P1", "P2"])
    refused(lambda: fit_gain(*short, np.random.default_rng(0)), "1 blocks of 10 TRs")
