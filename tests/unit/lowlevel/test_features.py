import numpy as np
import pytest
from braintuning.datasets import Dataset
from braintuning.datasets.labels import read_phones, read_words, without_stress
from braintuning.datasets.textgrid import Interval, read_tier
from braintuning.demo.textgrid_writer import write_textgrid
from braintuning.errors import InputError, MissingTier
from braintuning.lowlevel import acoustic as lowlevel
from braintuning.lowlevel.features import (
    FROM_DICTIONARY,
    FROM_TIER,
    KINDS,
    dictionary_note,
    low_level_features,
    phones_of,
)
from braintuning.lowlevel.ngrams import RARE, ngrams, ngrams_by_tr, rare_share, textual_by_tr, vocabulary
from braintuning.lowlevel.phones import FEATURES, articulation
from braintuning.tuning.controls import text_states
from tiny import listening, refused

TR = 2.0
TIMES = np.array([2.0, 4.0, 6.0, 8.0])
SPOKEN = [("K", 0.1, 0.3), ("AE1", 0.3, 0.5), ("T", 0.5, 0.7), ("S", 2.5, 2.7), ("IH", 2.7, 2.9), ("T", 2.9, 4.3)]
PHONES = [Interval(*phone) for phone in SPOKEN]
WORDS = [Interval("cat", 0.1, 0.7), Interval("sit", 2.5, 4.3), Interval("a", 2.4, 2.45)]


class OneVoice(Dataset):
    tr = TR

    def __init__(self, phones=PHONES):
        self._phones = phones

    def audio(self, story):
        return np.random.default_rng(0).standard_normal(8 * 16_000).astype(np.float32) * 0.1

    def words(self, story):
        return WORDS

    def phones(self, story):
        if self._phones is None:
            raise MissingTier(f"{story}: has no phone tier")
        return self._phones


def around(moment, times=TIMES, tr=TR):
    """Lanczos weights of an impulse in each TR, by the formula with sines, three lobes on either side."""
    x = np.pi * (times - moment) / tr
    with np.errstate(invalid="ignore"):
        weights = np.where(x == 0, 1, 3 * np.sin(x) * np.sin(x / 3) / x**2)
    return np.where(np.abs(x) < 3 * np.pi, weights, 0)


@pytest.mark.parametrize("moment", [0.0, 0.01, 2.0, 3.0, 4.9, 7.99, 8.0, 13.9, 14.1, -0.5, -4.1])
def test_an_event_counts_in_the_trs_around_its_middle(moment):
    events = [Interval("S", moment - 0.25, moment + 0.25)]
    found = lowlevel.events_by_tr(events, np.array([[2.0, 3.0]]), TIMES, TR)
    np.testing.assert_allclose(found, np.outer(around(moment), [2, 3]), atol=1e-6)


def test_an_event_counts_once_in_all_and_one_at_a_tr_in_that_one_alone():
    times = np.arange(0, 40, TR)
    for moment in (20.0, 20.7, 21.0):
        found = lowlevel.events_by_tr([Interval("S", moment, moment)], np.ones((1, 1)), times, TR)
        assert found.sum() == pytest.approx(1, abs=0.02)
    at = lowlevel.events_by_tr([Interval("S", 19.9, 20.1)], np.ones((1, 1)), times, TR)
    np.testing.assert_allclose(at[:, 0], times == 20, atol=1e-6)


def test_events_are_resampled_as_by_the_fields_usual_code(shared):
    with np.load(shared / "data" / "oracles" / "reference_numerics.npz") as kept:
        at, vectors, times, expected = (kept[f"lanczos_{name}"] for name in ("times", "data", "new_times", "out"))
    events = [Interval("S", time - 0.03, time + 0.03) for time in at]
    found = lowlevel.events_by_tr(events, vectors, times, np.diff(times).mean())
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_articulation_is_a_sum_over_phones_by_hand():
    found = lowlevel.articulation_by_tr(PHONES, TIMES, TR)
    assert found.shape == (4, 22) and found.dtype == np.float32
    plosives = around(0.2) + around(0.6) + around(3.6)
    np.testing.assert_allclose(found[:, FEATURES.index("plosive")], plosives, atol=1e-6)
    np.testing.assert_allclose(found[:, FEATURES.index("front")], around(0.4) + around(2.8), atol=1e-6)
    np.testing.assert_allclose(found[:, FEATURES.index("fricative")], around(2.6), atol=1e-6)


def test_ngrams_stop_at_pauses():
    assert [ngram.label for ngram in ngrams(PHONES, 2)] == ["K-AE", "AE-T", "S-IH", "IH-T"]
    assert [tuple(ngram) for ngram in ngrams(PHONES, 3)] == [("K-AE-T", 0.1, 0.7), ("S-IH-T", 2.5, 4.3)]


def test_a_vocabulary_comes_from_training_stories_and_pools_what_is_rare(monkeypatch):
    often = [Interval(label, i * 0.1, i * 0.1 + 0.1) for i, label in enumerate("T AH T AH T".split())]
    monkeypatch.setattr("braintuning.lowlevel.ngrams.FEWEST", 2)
    assert vocabulary([often, PHONES], 2) == ("AH-T", "T-AH", RARE)
    found = ngrams_by_tr(PHONES, 2, ("AE-T", "K-AE", RARE), TIMES, TR)
    expected = [around(0.5), around(0.3), around(2.7) + around(3.5)]
    np.testing.assert_allclose(found, np.transpose(expected), atol=1e-6)


def test_textual_features_by_hand():
    found = textual_by_tr(WORDS, PHONES, TIMES, TR)
    words, phones = (0.4, 3.4, 2.425), (0.2, 0.4, 0.6, 2.6, 2.8, 3.6)
    letters = sum(n * around(middle) for n, middle in zip((3, 3, 1), words, strict=True))
    counted = [letters, sum(map(around, phones)), sum(map(around, words))]
    np.testing.assert_allclose(found[:, :3], np.transpose(counted), atol=1e-6)
    together = textual_by_tr([*WORDS, Interval("ten", 2.0, 2.2)], PHONES, TIMES, TR)
    np.testing.assert_allclose(together[:, 3], [np.std([1, 3]), 0, 0, 0], atol=1e-6)


def test_the_spectrum_of_a_steady_tone_is_steady_and_of_silence_is_nothing():
    tone = (0.5 * np.sin(2 * np.pi * 1000 * np.arange(40 * 16_000) / 16_000)).astype(np.float32)
    times = np.arange(-20, 60, TR)
    rows = lowlevel.power_spectrum_by_tr(tone, times, TR)
    assert np.abs(rows[times < -6]).max() < 1e-3
    inside = rows[(times > 10) & (times < 30)]
    loud = inside.mean(axis=0).argmax()
    assert inside[:, loud].std() < 0.02 * inside[:, loud].mean()
    bands, _ = lowlevel.power_spectrum(tone)
    assert loud == bands.mean(axis=0).argmax()


def test_every_kind_is_there():
    found = low_level_features(OneVoice(), {"a": TIMES, "b": TIMES[:3]}, ["a"])
    assert list(found) == [*KINDS] and all(len(found[kind]["b"]) == 3 for kind in found)


def test_phones_come_from_a_dictionary_where_there_are_words_alone_and_it_is_said():
    said = []
    with listening(said.append):
        low_level_features(OneVoice(None), {"alice": TIMES}, ["alice"], ["articulation"])
    assert any("dictionary" in line and "alice" in line for line in said)
    cat = phones_of(OneVoice(None), "alice")[0][:3]
    assert [phone.label for phone in cat] == ["K", "AE", "T"]
    np.testing.assert_allclose([phone[1:] for phone in cat], [(0.1, 0.3), (0.3, 0.5), (0.5, 0.7)])


def test_words_that_the_dictionary_lacks_are_spelled_and_counted_and_most_may_not_be(monkeypatch):
    story = OneVoice(None)
    words = [*WORDS, Interval("zzqx", 5.0, 5.4), Interval("3", 5.5, 5.8)]
    monkeypatch.setattr(story, "words", lambda _: words)
    phones, source = phones_of(story, "a")
    assert source == FROM_DICTIONARY
    assert [phone.label for phone in phones if phone.start >= 5.5] == ["TH", "R", "IY"]
    spelled = [phone.label for phone in phones if 5 <= phone.start < 5.4]
    assert len(spelled) >= 4 and spelled == [without_stress(label) for label in spelled]
    assert dictionary_note(story, "a").endswith("1 of 5 words are not in it and spelled by rule (zzqx 1)")
    words += [Interval("xqzt", 6 + n / 10, 6.1 + n / 10) for n in range(5)]
    refused(lambda: phones_of(story, "a"), "6 of 10 words", "'zzqx' at 5.00 s", "expected words of English")


def test_only_a_missing_phone_tier_is_made_up_for():
    class Damaged(OneVoice):
        def phones(self, story):
            raise InputError(f"{story}.TextGrid: breaks off")

    assert phones_of(OneVoice(), "a") == (PHONES, FROM_TIER)
    assert phones_of(OneVoice(None), "a")[1] == FROM_DICTIONARY
    refused(lambda: phones_of(Damaged(), "a"), "a.TextGrid", "breaks off")


@pytest.mark.parametrize(
    ("phones", "words"),
    [([], ("story a", "no phones")), ([*PHONES, Interval("QX", 5.25, 5.5)], ("story a", "QX", "5.25 s"))],
)
def test_a_story_without_phones_and_an_unknown_phone_are_named(phones, words):
    refused(lambda: low_level_features(OneVoice(phones), {"a": TIMES}, ["a"]), *words)


def said(labels):
    return [Interval(label, 0.1 * n, 0.1 * (n + 1)) for n, label in enumerate(labels)]


def test_a_share_of_rare_diphones_counts_those_that_training_hardly_has():
    assert rare_share([said("KT" * 10)], [said("KTKS")], 2) == pytest.approx(2 / 3)  # T-K occurs 9 times
    assert rare_share([said("KT" * 11)], [said("KTK"), said("KS")], 2) == pytest.approx(1 / 3)
    assert np.isnan(rare_share([said("KT")], [said("K")], 2))


class Part(OneVoice):
    """The first seconds of a recording."""

    def __init__(self, phones, end):
        super().__init__(phones)
        self.end = end

    def seconds(self, story):
        return 0.0, self.end


def test_phones_outside_a_part_are_in_no_vocabulary_and_in_the_features():
    phones = said("KT" * 10 + "KS" * 10)
    whole, part = (low_level_features(Part(phones, end), {"a": TIMES}, ["a"], ["diphones"]) for end in (9.0, 2.0))
    assert whole["diphones"]["a"].shape[1] == 4  # K-T, T-K, K-S and those pooled; S-K occurs 9 times
    assert part["diphones"]["a"].shape[1] == 2
    np.testing.assert_allclose(part["diphones"]["a"].sum(axis=1), whole["diphones"]["a"].sum(axis=1), atol=1e-6)


class Spoken(OneVoice):
    """A story whose words and phones are those of a TextGrid."""

    def __init__(self, path):
        self.path = path

    def words(self, story):
        return read_words(self.path)

    def phones(self, story):
        return read_phones(self.path)


def test_however_the_words_of_a_story_are_written_all_that_uses_them_finds_the_same(tmp_path):
    written = {
        "plain": ["she", "didn't", "see", "the", "well-known", "lighthouse", "our", "home"],
        "untidy": ["“SHE", "Didn’t,", "see--", "'THE'", "(well-known", "LIGHTHOUSE!”", "our(2)", '"HOME".'],
    }
    found = []
    for name, labels in written.items():
        spoken = [Interval(label, n, n + 0.8) for n, label in enumerate([*labels, "{LS)", "(br", "--", "sp"])]
        write_textgrid(tmp_path / name, {"Words": spoken}, 14)
        story = Spoken(tmp_path / name)
        words, (phones, source) = story.words("a"), phones_of(story, "a")
        assert source == FROM_DICTIONARY and len(words) == len(labels)
        of_text_model = text_states("glove-6b-50d", words, TIMES, TR)
        found.append((words, phones, of_text_model.tolist(), textual_by_tr(words, phones, TIMES, TR).tolist()))
    assert found[0] == found[1]


def test_features_of_real_stories_with_phones_outside_the_39(shared):
    root = shared / "data/ds003020/TextGrids"
    for name, outside in (("odetostepfather", 1), ("wheretheressmoke", 1)):
        story = Spoken(root / f"{name}.TextGrid")
        times = np.arange(TR, story.words("")[-1].end + 2 * TR, TR)
        found = low_level_features(story, {name: times}, [name], ["articulation", "diphones", "textual"])
        labelled = len(read_tier(story.path, "phone"))
        voiced = sum(articulation(phone.label)[FEATURES.index("voiced")] for phone in story.phones(""))
        for column, expected in (
            (found["articulation"][name][:, FEATURES.index("voiced")], voiced),
            (found["textual"][name][:, 1], labelled - outside),
            (found["textual"][name][:, 2], len(read_tier(story.path, "word"))),
            (found["diphones"][name], len(ngrams(story.phones(""), 2))),
        ):
            assert column.sum() == pytest.approx(expected, rel=0.01)  # the filter's weights sum to about 1
