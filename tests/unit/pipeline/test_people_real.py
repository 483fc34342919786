"""Real people: the reference figures of the data's READMEs, and pairs of what was never heard together."""

import numpy as np
import pytest
from braintuning.alignment.ceiling import leave_one_out_correlation, split_half_ceiling
from braintuning.alignment.encoding import correlation_in_folds, predict_folds
from braintuning.alignment.features import at_trs, tokens
from braintuning.backbone.encoder import SpeechEncoder
from braintuning.datasets.parcels import ParcelsDataset
from braintuning.study.recordings import Filter, Recording
from braintuning.study.settings import Encoding, Features

PARCELS = ("61", "63", "191", "65", "197", "183", "64", "180", "163", "16", "192", "156")
SHARED = (0.36, 0.33, 0.33, 0.31, 0.30, 0.28, 0.27, 0.27, 0.25, 0.25, 0.24, 0.21)
WORD_RATE = (0.43, 0.26, 0.33, 0.12, 0.38, 0.14, 0.30, 0.35, 0.41, 0.19, 0.16, 0.13)
WHISPER_3 = (0.47, 0.51, 0.42, 0.21, 0.49, 0.19, 0.13, 0.33, 0.37, 0.20, 0.30, 0.30)
LAYERS = (0.27, 0.27, 0.29, 0.33, 0.28)
SETTINGS = Encoding(delays=(2, 3, 4, 5, 6), log10_alpha_min=-1.0, n_alphas=25, folds=6, test_skip_rows=0)
ALICE = Encoding(**{**SETTINGS.model_dump(), "delays": (1, 2, 3, 4, 5)})
GAP = 12
REACHED = 0.05
"""How near to a reference figure counts as having reached it."""


@pytest.fixture(scope="module")
def pieman(shared):
    """48 people, in the volumes of speech."""
    how = Filter(high_pass=0.01, low_pass=0.12)
    parts = {"speech": (18.0, 430.0)}
    recording = Recording(folder="pieman", tr=1.5, regions="parcels.csv", filter=how, parts=parts)
    return ParcelsDataset(shared / "data", {"pieman": recording})


@pytest.fixture(scope="module")
def alice(shared):
    """17 people and six regions."""
    recording = Recording(folder="alice", tr=2.0, unstored_volumes=10)
    people = [f"s{n}" for n in (18, 23, 24, 28, 30, 35, 37, 38, 40, 41, 43, 44, 46, 47, 49, 51, 52)]
    return ParcelsDataset(shared / "data", {"alice": recording}, 0.0, 128.0, people)


@pytest.fixture(scope="module")
def group(pieman):
    """Mean response of everyone in the parcels of the README; (TRs, 12)."""
    names = list(pieman.region_names("sub-007"))
    return pieman.responses("group-pieman", "speech")[:, [names.index(parcel) for parcel in PARCELS]]


def with_lead(dataset, participant, story, lead=6):
    times = dataset.tr_times(participant, story)
    tr = (times[-1] - times[0]) / (len(times) - 1)
    return np.concatenate([times[0] - tr * np.arange(lead, 0, -1), times]), tr


def rate(dataset, story, times, tr):
    """Words that started during each volume."""
    edges = np.append(times, times[-1] + tr) - tr * dataset.row_offset
    return np.histogram([word.start for word in dataset.words(story)], edges)[0].astype(np.float32)[:, None]


def scores(features, responses, settings=SETTINGS, gap=GAP):
    """Correlation of every layer with every column, mean over folds."""
    return np.array(
        [
            correlation_in_folds(predicted, responses, settings.folds)
            for predicted in predict_folds(features, responses, settings, gap)
        ]
    )


@pytest.fixture(scope="module")
def whisper(pieman):
    """Whisper tiny.en at the volumes of speech and six before; (5, 6 + TRs, 384), filtered as the responses were."""
    encoder = SpeechEncoder.from_pretrained("openai/whisper-tiny.en", pad_to_30s=False)
    ((layers,), token_times) = next(tokens([encoder], [pieman.audio("speech")], Features(hop_seconds=3.0)))
    times, tr = with_lead(pieman, "sub-007", "speech")
    read, same = pieman.filtering("sub-007", "speech", times)
    return same(at_trs(layers, token_times, read, tr))


def of_fewer(r, n_then, n_now):
    """What a correlation with the mean of so many others comes to with fewer of them, all pairs correlating alike.

    With n others it is rho sqrt(n / (1 + (n - 1) rho)), rho being that of a pair.
    """
    r2, n = np.square(r), n_then
    rho = (r2 * (n - 1) + np.sqrt(r2**2 * (n - 1) ** 2 + 4 * n * r2)) / (2 * n)
    return rho * np.sqrt(n_now / (1 + (n_now - 1) * rho))


def require_reached(found, readme, n_then):
    """The README's means over people, corrected for their number, lie within three standard errors of ours."""
    expected, error = of_fewer(np.array(readme), n_then - 1, len(found) - 1), found.std(axis=0) / np.sqrt(len(found))
    assert (np.abs(found.mean(axis=0) - expected) < 3 * error).all()


def like_its_own_region(found, readme):
    """Values by region are more like the README's than they are with the regions in any other rotation."""
    own, *others = [np.abs(np.roll(found, shift) - readme).mean() for shift in range(len(found))]
    return own < min(others)


def shared_with_others(responses, change=lambda own, others: (own, others)):
    """Mean correlation of a person, changed, with all others, over people and regions."""
    pairs = [change(responses[k : k + 1], np.delete(responses, k, axis=0)) for k in range(len(responses))]
    return np.mean([leave_one_out_correlation(np.concatenate(pair))[0] for pair in pairs])


def test_what_people_share_is_what_the_readmes_say(pieman, alice):
    names = list(pieman.region_names("sub-007"))
    whole = ParcelsDataset(pieman.root, {"pieman": Recording(folder="pieman", tr=1.5, regions="parcels.csv")})
    everyone = whole.everyone("sub-007", "pieman")[:, :, [names.index(parcel) for parcel in PARCELS]]
    found = leave_one_out_correlation(everyone)
    require_reached(found, SHARED, 68)
    split = split_half_ceiling(everyone, np.random.default_rng(0))
    assert (split > found.mean(axis=0)).all(), "the mean of 24 is predicted better than a person"
    of_alice = alice.everyone("s18", "alice")
    require_reached(leave_one_out_correlation(of_alice), (0.25, 0.20, 0.38, 0.23, 0.22, 0.18), 27)
    for responses in (everyone, of_alice):
        right = shared_with_others(responses)
        assert shared_with_others(responses, lambda own, others: (own[:, :-1], others[:, 1:])) < right, "a TR late"
        assert shared_with_others(responses, lambda own, others: (np.roll(own, 1, axis=2), others)) < right, "elsewhere"


def test_word_rate_predicts_the_group_as_the_readmes_say(pieman, alice, group):
    times, tr = with_lead(pieman, "sub-007", "speech")
    unfiltered = scores(rate(pieman, "speech", times, tr)[None], group, gap=6)[0]
    assert np.abs(unfiltered - WORD_RATE).mean() < REACHED and like_its_own_region(unfiltered, WORD_RATE)
    read, same = pieman.filtering("sub-007", "speech", times)
    filtered = same(rate(pieman, "speech", read, tr)[None])
    found = scores(filtered, group)[0]
    assert like_its_own_region(found, WORD_RATE) and found.mean() > scores(filtered[:, ::-1], group)[0].mean()
    times, tr = with_lead(alice, "s18", "alice", lead=5)
    _, same = alice.filtering("s18", "alice", times)
    everyone = alice.responses("group-alice", "alice")
    found = scores(same(rate(alice, "alice", times, tr)[None]), everyone, ALICE, 5)[0]
    assert 0.32 < found.mean() < 0.50, "the README's range over regions"


def test_whisper_predicts_the_group_as_the_readme_says(whisper, group):
    found = scores(whisper, group)
    # 48 of its 68 people, features filtered, folds further apart, tokens that hear up to 3 s ahead
    assert np.abs(found.mean(axis=1) - LAYERS).mean() < REACHED
    assert found.mean(axis=1).argmax() == np.argmax(LAYERS) and like_its_own_region(found[3], WHISPER_3)


def test_negative_controls_are_at_chance(whisper, alice, group):
    """Time-reversed features and the other story's responses lie among features of other minutes; the right do not."""
    layer, lead = whisper[3:4], whisper.shape[1] - len(group)
    rolls = [scores(np.roll(layer, shift, axis=1), group).mean() for shift in range(30 + lead, len(group) - 30, 20)]
    chance, spread = np.mean(rolls), np.std(rolls)
    assert scores(layer, group).mean() > max(rolls) and scores(layer, group).mean() > chance + 3 * spread
    others = alice.responses("group-alice", "alice")[: len(group)]
    for wrong in (scores(layer[:, ::-1], group).mean(), scores(layer, others).mean()):
        assert abs(wrong - chance) < 3 * spread
