import numpy as np
import pytest
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
from braintuning.lowlevel.ngrams import RARE, ngram_counts, ngrams, textual_counts, vocabulary
from braintuning.lowlevel.phones import FEATURES, articulation
from braintuning.tuning.controls import text_states
from tiny import listening, refused

TR = 2.0
TIMES = np.array([2.0, 4.0, 6.0, 8.0])
SPOKEN = [("K", 0.1, 0.3), ("AE1", 0.3, 0.5), ("T", 0.5, 0.7), ("S", 2.5, 2.7), ("IH", 2.7, 2.9), ("T", 2.9, 4.3)]
PHONES = [Interval(*phone) for phone in SPOKEN]
WORDS = [Interval("cat", 0.1, 0.7), Interval("sit", 2.5, 4.3), Interval("a", 2.4, 2.45)]


class OneVoice:
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


@pytest.mark.parametrize(
    ("moment", "tr"), [(0.0, None), (0.01, 0), (2.0, 0), (2.01, 1), (7.99, 3), (8.0, 3), (8.01, None), (-0.5, None)]
)
def test_an_event_belongs_to_the_tr_that_ends_at_the_trs_time(moment, tr):
    events = [Interval("S", moment - 0.001, moment + 0.001)]
    found = lowlevel.sums_by_tr(events, np.array([[2.0, 3.0]]), TIMES, TR)
    expected = np.zeros((4, 2))
    if tr is not None:
        expected[tr] = 2, 3
    np.testing.assert_array_equal(found, expected)


def test_articulation_counts_are_sums_of_phones_by_hand():
    found = lowlevel.articulation_counts(PHONES, TIMES, TR)
    assert found.shape == (4, 22) and found.dtype == np.float32
    assert found[:, FEATURES.index("plosive")].tolist() == [2, 1, 0, 0]
    assert found[:, FEATURES.index("front")].tolist() == [1, 1, 0, 0]
    assert found[:, FEATURES.index("fricative")].tolist() == [0, 1, 0, 0]
    assert found[2:].sum() == 0


def test_ngrams_stop_at_pauses():
    assert [ngram.label for ngram in ngrams(PHONES, 2)] == ["K-AE", "AE-T", "S-IH", "IH-T"]
    assert [tuple(ngram) for ngram in ngrams(PHONES, 3)] == [("K-AE-T", 0.1, 0.7), ("S-IH-T", 2.5, 4.3)]


def test_a_vocabulary_comes_from_training_stories_and_pools_what_is_rare(monkeypatch):
    often = [Interval(label, i * 0.1, i * 0.1 + 0.1) for i, label in enumerate("T AH T AH T".split())]
    monkeypatch.setattr("braintuning.lowlevel.ngrams.FEWEST", 2)
    assert vocabulary([often, PHONES], 2) == ("AH-T", "T-AH", RARE)
    counted = ngram_counts(PHONES, 2, ("AE-T", "K-AE", RARE), TIMES, TR)
    assert counted.tolist() == [[1, 1, 0], [0, 0, 2], [0, 0, 0], [0, 0, 0]]
    assert counted.sum() == len(ngrams(PHONES, 2))


def test_textual_counts_by_hand():
    found = textual_counts(WORDS, PHONES, TIMES, TR)
    expected = [[3, 3, 1, 0], [4, 3, 2, np.std([3, 1])], [0, 0, 0, 0], [0, 0, 0, 0]]
    np.testing.assert_allclose(found, expected, atol=1e-6)


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


def test_every_kind_is_there_and_all_is_the_kinds_side_by_side():
    found = low_level_features(OneVoice(), {"a": TIMES, "b": TIMES[:3]}, ["a"])
    assert list(found) == [*KINDS, "all"]
    assert all(len(found[kind]["b"]) == 3 for kind in found)
    np.testing.assert_array_equal(found["all"]["a"], np.hstack([found[kind]["a"] for kind in KINDS]))


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


def test_an_unknown_kind_is_named():
    refused(lambda: low_level_features(OneVoice(), {"a": TIMES}, ["a"], ["quadphones"]), "quadphones", "diphones")


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
        assert source == FROM_DICTIONARY and [word.original for word in words] == labels
        of_text_model = text_states("glove-6b-50d", words, TIMES, TR)
        found.append((words, phones, of_text_model.tolist(), textual_counts(words, phones, TIMES, TR).tolist()))
    assert found[0] == found[1]


def test_features_of_real_stories_with_phones_outside_the_39(shared):
    root = shared / "data/ds003020/TextGrids"
    for name, outside in (("odetostepfather", 1), ("wheretheressmoke", 1)):
        story = Spoken(root / f"{name}.TextGrid")
        times = np.arange(TR, story.words("")[-1].end + 2 * TR, TR)
        found = low_level_features(story, {name: times}, [name], ["articulation", "diphones", "textual"])
        labelled = len(read_tier(story.path, "phone"))
        assert found["articulation"][name][:, FEATURES.index("voiced")].sum() == sum(
            articulation(phone.label)[FEATURES.index("voiced")] for phone in story.phones("")
        )
        assert found["textual"][name][:, 1].sum() == labelled - outside
        assert found["textual"][name][:, 2].sum() == len(read_tier(story.path, "word"))
        assert found["diphones"][name].sum() == len(ngrams(story.phones(""), 2))
