"""Real brains: the time course of a region, measured and predicted, over the words that were spoken."""

from collections.abc import Collection, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.textpath import TextPath

from braintuning.alignment.correlation import zscore
from braintuning.alignment.mask import used_voxels
from braintuning.alignment.stats import mean_interval
from braintuning.datasets.base import Dataset
from braintuning.datasets.textgrid import Interval
from braintuning.errors import InputError
from braintuning.figures.style import letter, small_print_below
from braintuning.results import load_arrays
from braintuning.study import Study

MEASURED, PREDICTED, SPOKEN = "black", "#d55e00", "#fff2a8"
WIDTH, MARGINS, WORD_POINTS = 7.2, 1.3, 6.2
"""Inches of the figure and beside its axes, and the size of words in points."""
PAUSE, LONGEST_PHRASE = 0.25, 6
LONGEST_PAUSE = 0.2
"""Of a stretch of the story that is shown, as a share of it."""


def course(
    study: Study, dataset: Dataset, backbone: str, condition: str, regions: Collection[str], participants: Sequence[str]
) -> pd.DataFrame:
    """Measured and predicted time course of a region, or the mean of some, over participants who heard one story.

    The prediction is that of a condition's model, each participant's own where there is one. Courses are z-scored in
    each participant. Those in whom no region is in use are left out.

    Returns
    -------
    DataFrame
        time (s after the start of the audio), measured (mean over participants), predicted (likewise, scaled to the
        standard deviation of the measured one: a correlation leaves it open), low and high (`stats.mean_interval` of
        the measured one over participants), n_participants.

    Raises
    ------
    InputError
        Participants with several test stories or TRs at other times, or a region in use in none.
    """
    measured, predicted, times = [], [], None
    for participant in participants:
        if len(stories := study.stories_for(participant).test) != 1:
            raise InputError(f"time course: {participant} has test stories {', '.join(stories)}, expected one")
        (story,), used = stories, used_voxels(study, participant)
        chosen = np.isin(dataset.region_names(participant), list(regions)) & used
        if not chosen.any():
            continue
        skipped = study.encoding.test_skip_rows
        own_times = dataset.tr_times(participant, story)[skipped:]
        if times is not None and (len(times) != len(own_times) or np.abs(times - own_times).max() > 1e-3):
            found = f"found TRs of {participant} at other times than those of others"
            raise InputError(f"time course: {found}, expected participants of one story")
        times, truth = own_times, dataset.responses(participant, story, chosen)[skipped:]
        run = study.run(backbone, condition, participant)
        kept = load_arrays(study.scores_file(participant, run))["predicted"][:, chosen[used]]
        measured.append(zscore(np.asarray(truth, np.float64).mean(axis=1, keepdims=True))[:, 0])
        predicted.append(zscore(kept.astype(np.float64).mean(axis=1, keepdims=True))[:, 0])
    if times is None:
        raise InputError(f"time course: region {', '.join(regions)} is in use in nobody, expected in somebody")
    mean, expected = np.mean(measured, axis=0), np.mean(predicted, axis=0)
    low, high = np.transpose([mean_interval(of_tr) for of_tr in np.transpose(measured)])
    columns = {"time": times, "measured": mean, "predicted": expected * mean.std() / expected.std()}
    return pd.DataFrame(columns | {"low": low, "high": high, "n_participants": len(measured)})


def typical_window(found: pd.DataFrame, words: Sequence[Interval], seconds: float = 30.0) -> tuple[float, float]:
    """Start and end of a stretch of a `course` that is predicted as well as the whole, and so no pick of the best.

    Of all stretches of so many seconds, that whose correlation is nearest to that of the whole course: among those
    without a pause longer than a fifth of it, where there are such.
    """
    times, spoken = found["time"].to_numpy(), np.sort([word.start for word in words])
    overall, stretches = found["measured"].corr(found["predicted"]), []
    for start in times[times <= times[-1] - seconds]:
        inside = (times >= start) & (times <= start + seconds)
        heard = spoken[(spoken >= start) & (spoken <= start + seconds)]
        paused = np.diff([start, *heard, start + seconds]).max() > LONGEST_PAUSE * seconds
        r = found.loc[inside, "measured"].corr(found.loc[inside, "predicted"])
        stretches.append((paused, np.nan_to_num(abs(r - overall), nan=np.inf), float(start)))
    start = min(stretches, default=(False, 0.0, float(times[0])))[2]
    return start, start + seconds


def phrases(words: Sequence[Interval]) -> list[Interval]:
    """Words in a row as one label, up to a pause longer than `PAUSE` s or `LONGEST_PHRASE` words."""
    together: list[list[Interval]] = []
    for word in words:
        last = together[-1] if together else []
        if last and word.start - last[-1].end <= PAUSE and len(last) < LONGEST_PHRASE:
            last.append(word)
        else:
            together.append([word])
    return [Interval(" ".join(w.label for w in some), some[0].start, some[-1].end) for some in together]


def lanes(starts: Sequence[float], widths: Sequence[float]) -> list[int]:
    """Row of each text, from 0, the first in which it does not begin before the last one there ends."""
    ends, found = [], []
    for start, width in zip(starts, widths, strict=True):
        lane = next((number for number, end in enumerate(ends) if end <= start), len(ends))
        ends[lane : lane + 1] = [start + width]
        found.append(lane)
    return found


def draw_course(
    found: pd.DataFrame,
    words: Sequence[Interval],
    title: str,
    note: str,
    condition: str = "brain-tuned",
    window: tuple[float, float] | None = None,
) -> Figure:
    """Measured and predicted course of a region: all of it, and a part of it over the words that were spoken.

    `found` is from `course`, with a condition's prediction; `words` are the story's, in the order of their start, and
    `window` is the part in seconds, by default `typical_window`.
    """
    start, end = window or typical_window(found, words)
    spoken = phrases([word for word in words if start <= word.start < end])
    seconds_per_point = (end - start) / (72 * (WIDTH - MARGINS))
    widths = [
        seconds_per_point * (TextPath((0, 0), phrase.label, size=WORD_POINTS).get_extents().width + WORD_POINTS)
        for phrase in spoken
    ]
    places = [min(phrase.start, end - width) for phrase, width in zip(spoken, widths, strict=True)]
    rows = lanes(places, widths)
    heights = [0.9, 1.9, 0.12 * (max(rows, default=0) + 2)]
    fig = Figure(figsize=(WIDTH, sum(heights) + 1.0), layout="constrained")
    whole, part, below = fig.subplots(3, 1, height_ratios=heights)
    for ax, width in ((whole, 0.8), (part, 1.6)):
        ax.fill_between(found["time"], found["low"], found["high"], color="0.85", lw=0, zorder=1)
        ax.plot(found["time"], found["measured"], color=MEASURED, lw=width, zorder=3)
        ax.plot(found["time"], found["predicted"], color=PREDICTED, lw=width, zorder=4)
        ax.axhline(0, color="0.6", lw=0.5, zorder=0)
        ax.set_ylabel("response (z)")
    whole.axvspan(start, end, color=SPOKEN, zorder=0)
    whole.set_title(f"{title} (r = {found['measured'].corr(found['predicted']):.2f} over the whole story)")
    whole.set_xlim(found["time"].iloc[0], found["time"].iloc[-1])
    drawn = found.loc[found["time"].between(start - 3, end + 3), ["low", "high", "predicted", "measured"]].to_numpy()
    margin = 0.1 * (np.nanmax(drawn) - np.nanmin(drawn))
    part.set(xlim=(start, end), ylim=(np.nanmin(drawn) - margin, np.nanmax(drawn) + 2 * margin))
    whole.set_xlabel("time in the story (s)", labelpad=1)
    letter((whole, part))
    part.set_xlabel("time in the story (s), and the words", labelpad=1)
    people = f"measured, mean of {found['n_participants'].iloc[0]} people"
    lines = [Line2D([], [], color=colour, lw=1.6) for colour in (MEASURED, PREDICTED)]
    part.legend(lines, [people, f"predicted from audio ({condition})"], loc="upper right", ncols=2)
    below.set(xlim=(start, end), ylim=(-max(rows, default=0) - 1, 0.6))
    below.set_axis_off()
    for phrase, place, row in zip(spoken, places, rows, strict=True):
        below.plot([phrase.start, phrase.start], [0.6, -row - 0.4], color="0.8", lw=0.5, zorder=0)
        below.text(place, -row, f" {phrase.label}", fontsize=WORD_POINTS, va="center", clip_on=True)
    lag = "Responses lag the words by about five seconds. Grey: 95 % interval of the mean over people; r: of the lines"
    chosen = "" if window else ", predicted about as well as the whole"
    small_print_below(fig, f"{lag}. b: {start:.0f} to {end:.0f} s of the story{chosen}. {note}")
    return fig
