"""What tuning on more minutes, and on more people, is worth: a law fitted to measured gains, and what it expects."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from braintuning.errors import InputError

FACTORS = ("minutes", "participants", "ceiling")
N_DRAWS = 1000
N_SCALES = 200
REACH = 10.0
"""Scales are sought up to so many times beyond the measured amounts."""
DRAWS_AT_ONCE = 200


class Gain(NamedTuple):
    """An expected gain, its 95 % interval, and where what was asked lies outside what was measured ('': nowhere)."""

    gain: float
    low: float
    high: float
    beyond: str


@dataclass(frozen=True, eq=False)
class GainLaw:
    """Gain = plateau (1 - exp(-amount / scale)), amount = minutes x participants x ceiling^2.

    A minute of each of two people is worth two minutes of one, and a minute of somebody with half the noise ceiling a
    quarter. The law describes the measured range; `Gain.beyond` says where it extrapolates.

    Attributes
    ----------
    plateau : float
        Gain with unlimited data, in units of alignment.
    scale : float
        Minutes of one person with a ceiling of 1 that give 63 % of the plateau.
    draws : (draws, 2) float64
        Plateau and scale of resampled data.
    measured : dict of str to (float, float)
        Range of each of `FACTORS`, and of 'amount', in the data.
    """

    plateau: float
    scale: float
    draws: np.ndarray
    measured: dict[str, tuple[float, float]]

    @property
    def saturates(self) -> bool:
        """Whether the bend lies within the measured amounts; else the plateau is a guess."""
        return self.scale <= self.measured["amount"][1]

    def expected_gain(self, minutes: float, participants: float, ceiling: float) -> Gain:
        """Gain in alignment of one of `participants` people, tuned jointly, after `minutes` of stories to each.

        `ceiling` is their noise ceiling in the region, as `dose.region_ceiling` measures it. The interval says how sure
        the law's curve is, not how much people differ from it. `InputError` for a number that is not positive, or a
        ceiling above 1.
        """
        asked = dict(zip(FACTORS, (minutes, participants, ceiling), strict=True))
        for name, value in asked.items():
            if not 0 < value < np.inf or (name == "ceiling" and value > 1):
                expected = "expected one above 0 and at most 1" if name == "ceiling" else "expected one above 0"
                raise InputError(f"expected gain: found `{name}` {value:g}, {expected}")
        asked["amount"] = minutes * participants * ceiling**2
        beyond = [self._beyond(name, value) for name, value in asked.items()]
        low, high = np.quantile(_curve(*self.draws.T, asked["amount"]), [0.025, 0.975])
        gain = float(_curve(self.plateau, self.scale, asked["amount"]))
        return Gain(gain, float(low), float(high), "; ".join(filter(None, beyond)))

    def _beyond(self, name: str, value: float) -> str:
        low, high = self.measured[name]
        if low * (1 - 1e-9) <= value <= high * (1 + 1e-9):
            return ""
        return f"{name} {value:.3g}, measured from {low:.3g} to {high:.3g}"

    def minutes_needed(self, share: float, participants: float, ceiling: float) -> float:
        """Minutes of each of some people that give a share of the plateau; `expected_gain` says what is beyond."""
        return -self.scale * np.log1p(-share) / (participants * ceiling**2)


def fit_gain(
    minutes: Sequence[float],
    participants: Sequence[float],
    ceiling: Sequence[float],
    values: np.ndarray,
    people: Sequence[str],
    rng: np.random.Generator,
    block_rows: int = 10,
) -> GainLaw:
    """Fit a `GainLaw` to measured gains by least squares.

    For each scale, on a logarithmic grid that reaches `REACH` times beyond the amounts on both sides, the best plateau
    is linear regression through zero. The interval is from draws in which people and blocks of TRs of the test story
    are resampled, each with replacement and independently (the pigeonhole bootstrap, Owen 2007): all doses of one
    person go together, and so does what everybody shares in one block. In planted gains of four people the interval
    holds the truth in 95 % of data sets. `InputError` for fewer than two different amounts, or two blocks of TRs.

    Parameters
    ----------
    minutes, participants, ceiling : (rows,) float
        Of every measured gain.
    values : (rows, TRs) float
        `stats.tr_values` of the gain, whose mean over TRs it is.
    people : (rows,) str
        Whose gain it is.
    block_rows : int
        TRs that stay together.
    """
    values, factors = np.asarray(values, float), np.array([minutes, participants, ceiling], float)
    amount, n_blocks = factors[0] * factors[1] * factors[2] ** 2, values.shape[1] // block_rows
    if len(np.unique(amount)) < 2 or n_blocks < 2:
        found = f"found {len(np.unique(amount))} amounts and {n_blocks} blocks of {block_rows} TRs"
        raise InputError(f"law of gain: {found}, expected at least 2 of each")
    scales = np.geomspace(amount.min() / REACH, amount.max() * REACH, N_SCALES)
    blocks = values[:, : n_blocks * block_rows].reshape(len(values), n_blocks, block_rows).mean(axis=2)
    names, owner = np.unique(list(people), return_inverse=True)
    drawn = [_best(values.mean(axis=1)[None], np.ones((1, len(values))), amount, scales)]
    for _ in range(0, N_DRAWS, DRAWS_AT_ONCE):
        of_blocks = rng.multinomial(n_blocks, np.full(n_blocks, 1 / n_blocks), DRAWS_AT_ONCE) / n_blocks
        of_people = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), DRAWS_AT_ONCE)
        drawn.append(_best(of_blocks @ blocks.T, of_people[:, owner].astype(float), amount, scales))
    ranges = dict(zip((*FACTORS, "amount"), (*factors, amount), strict=True))
    measured = {name: (float(found.min()), float(found.max())) for name, found in ranges.items()}
    return GainLaw(*map(float, drawn[0][0]), np.concatenate(drawn[1:]), measured)


def _curve(plateau: np.ndarray, scale: np.ndarray, amount: float) -> np.ndarray:
    return -plateau * np.expm1(-amount / scale)


def _best(gains: np.ndarray, weights: np.ndarray, amount: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Plateau and scale of least weighted squares for each of (draws, rows) gains; (draws, 2)."""
    basis = _curve(1.0, scales, amount[:, None])
    products, powers = (weights * gains) @ basis, weights @ basis**2
    best = (products**2 / powers).argmax(axis=1)
    rows = np.arange(len(gains))
    return np.stack([products[rows, best] / powers[rows, best], scales[best]], axis=1)
