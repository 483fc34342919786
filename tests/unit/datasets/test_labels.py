import unicodedata

import pytest
from braintuning.datasets import labels
from braintuning.datasets.labels import PHONES, intervals_of, phones_among, read_phones, read_words, word_of
from braintuning.datasets.textgrid import Interval, read_tier
from braintuning.demo.textgrid_writer import write_textgrid
from braintuning.errors import MissingTier
from braintuning.lowlevel.phones import words_of
from braintuning.results import REPOSITORY
from braintuning.tuning.controls import glove_table
from tiny import one_sentence, refused

SPELLED = {
    "SO,": "so",
    "{LG} YEAH": "yeah",
    "{NS}HELLO": "hello",
    "HELLO}": "hello",
    "(sigh) Well, I": "well i",
    "<i>so</i>": "so",
    "{LG}": "",
    '"EXCUSE': "excuse",
    '"MEAN".': "mean",
    "'YOU\"?": "you",
    "TEMPER--": "temper",
    "CO-": "co",
    "CAMP,,": "camp",
    "(hello)": "hello",
    "[I": "i",
    "“Déjà”": "déjà",
    unicodedata.normalize("NFD", "Déjà"): "déjà",
    "DON'T,": "don't",
    "o’clock": "o'clock",
    "well-known.": "well-known",
    "YANKEES'": "yankees",
    "’Tis": "tis",
    "'S": "'s",
    "'ll": "'ll",
    "n't": "n't",
    "T.V.": "t.v",
    "3": "3",
    "our(2)": "our",
    'SAID "HI"': "said hi",
    "wait--what": "wait what",
    "ПРИВЕТ!": "привет",
    "हिन्दी।": "हिन्दी",
    "(2)": "2",
    "...": "",
}


@pytest.mark.parametrize("label", SPELLED)
def test_a_word_has_one_spelling_whatever_stands_around_it(label):
    assert word_of(label) == SPELLED[label]
    assert word_of(word_of(label)) == word_of(label)


def test_words_of_texts_are_spelled_as_those_of_labels():
    texts = [path.read_text() for path in sorted((REPOSITORY / "data" / "stories").glob("*.txt"))]
    spoken = {word for text in texts for word in words_of(text)}
    assert len(spoken) > 1000 and all(word_of(word) == word == word_of(f"“{word.upper()},”") for word in spoken)


def test_words_of_a_file_are_words_alone_in_one_spelling(tmp_path):
    path, spoken = tmp_path / "a.TextGrid", ["{NS}", "SO,", "sp", "(br", "--", "“Well-KNOWN”"]
    write_textgrid(path, {"Words": [Interval(label, n, n + 1) for n, label in enumerate(spoken)]}, 9)
    found = read_words(path)
    assert found == [("so", 1, 2), ("well-known", 5, 6)]
    with pytest.raises(MissingTier):
        read_phones(path)


def phone_file(path, spoken):
    tiers = {
        "word": [Interval("A", 0.0, 1.0)],
        "phone": [Interval(p, n / 10, n / 10 + 0.1) for n, p in enumerate(spoken)],
    }
    write_textgrid(path, tiers, len(spoken) / 10 + 1)
    return path


def test_phones_in_any_case_with_stress_or_place_are_kept_and_others_left_out_with_a_note(tmp_path):
    spoken = ["sp", "AH0", "t", "iy1", "K_B", "AE1_I", "H", "{sl}", "ns", "C", "OA1", "S", "H", ""]
    path = phone_file(tmp_path / "a.TextGrid", spoken)
    assert [phone.label for phone in read_phones(path)] == ["AH0", "t", "iy1", "K_B", "AE1_I", "S"]
    assert [labels.without_stress(p.label) for p in read_phones(path)] == ["AH", "T", "IY", "K", "AE", "S"]
    (note,) = labels.notes(path)
    one_sentence(note, path, "left out 4 of 10 phones", "39 of English (H 2, C 1, OA1 1)")


IPA = dict(
    zip(
        PHONES,
        "p b t d k g tʃ dʒ f v θ ð s z ʃ ʒ h m n ŋ l r w j i ɪ ɛ æ ə ɝ ɑ ɔ ʊ u eɪ aɪ ɔɪ aʊ oʊ".split(),
        strict=True,
    )
)
SAMPA = dict(
    zip(
        PHONES,
        "p b t d k g tS dZ f v T D s z S Z h m n N l r\\ w j i: I e { @ 3: A: O: U u: eI aI OI aU @U".split(),
        strict=True,
    )
)
ENGLISH = (
    "DH AH N AO R TH W IH N D AH N D DH AH S AH N W ER D IH S P Y UW T IH NG W IH CH W AA Z DH AH S T R AO NG G ER "
    "W EH N AH T R AE V AH L ER K EY M AH L AO NG R AE P T IH N AH W AO R M K L OW K"
).split()


@pytest.mark.parametrize(
    ("alphabet", "first"), [(IPA, "'ð' at 0.00 s"), (SAMPA, "'O:' at 0.30 s")], ids=["IPA", "SAMPA"]
)
def test_english_in_another_alphabet_is_refused_although_half_its_letters_are_arpabets(tmp_path, alphabet, first):
    path = phone_file(tmp_path / "story.TextGrid", [alphabet[phone] for phone in ENGLISH])
    refused(lambda: read_phones(path), path, first, "another alphabet", "expected the 39")
    assert [str(path) in note and "another alphabet" in note for note in labels.notes(path)] == [True]
    assert read_words(path) == [("a", 0.0, 1.0)]
    assert len(read_phones(phone_file(path, ENGLISH))) == len(ENGLISH)


@pytest.mark.parametrize(
    ("spoken", "n_others"),
    [
        ("AH T TSH", 1),
        ("AH T X1 X2", 2),
        ("AH T X1 X2 X3", None),
        ("AH H C OA1 T S K", 3),
        ("T S K H C", None),
        ("", 0),
    ],
)
def test_a_tier_is_of_another_alphabet_where_most_labels_are_or_hardly_any_has_two_letters(spoken, n_others):
    labelled = [Interval(label, n, n + 1) for n, label in enumerate(spoken.split())]
    if n_others is None:
        refused(lambda: phones_among(labelled, "here"), "here: ", f"of {len(labelled)} phones", " s, expected")
    else:
        phones, others = phones_among(labelled, "here")
        assert len(others) == n_others and sorted([*phones, *others]) == sorted(labelled)


def test_a_tier_of_silence_is_none(tmp_path):
    with pytest.raises(MissingTier, match="no phone in tier 'phone'"):
        read_phones(phone_file(tmp_path / "a.TextGrid", ["sp", "", "{NS}"]))


def test_overlaps_are_counted_in_a_note_for_each_tier(tmp_path):
    path = tmp_path / "a.TextGrid"
    rows = "".join(f"{n} {n + (1.3 if n == 3 else 1)}\n" for n in range(9))
    tiers = "".join(
        f'"IntervalTier"\n"{name}"\n0\n9\n9\n'
        + "".join(f'{row.replace(" ", chr(10))}\n"AH"\n' for row in rows.splitlines())
        for name in ("word", "phone")
    )
    path.write_text(f'File type = "ooTextFile"\nObject class = "TextGrid"\n\n0\n9\n<exists>\n2\n{tiers}')
    for note, tier in zip(labels.notes(path), ("words", "phones"), strict=True):
        one_sentence(note, path, f"1 of 9 {tier} start before the one before ends", "0.30 s", "kept")


def test_many_labels_are_not_all_named_in_a_note():
    assert labels.tally([Interval(label, 0, 1) for label in "abcab"]) == "a 2, b 2, c 1"
    assert labels.tally([Interval(str(n), 0, 1) for n in range(40)]).endswith("11 1, ...")


@pytest.mark.parametrize(
    "words", ["so", [["so", 1.0]], [["so", "0", 1]], [[3, 0, 1]], [["so", 1, 0]], ["so"], {"so": 1}, [["so", 0, None]]]
)
def test_what_is_no_interval_is_named(words):
    refused(lambda: intervals_of({"words": words}, "words", "x.jsonl: line 3"), "x.jsonl: line 3", "'words'", "[label,")


def test_intervals_of_an_entry():
    assert intervals_of({"words": [["so", 0, 1.5]]}, "words", "") == (Interval("so", 0, 1.5),)
    assert intervals_of({}, "words", "") == intervals_of({"words": None}, "words", "") == ()


OUTSIDE = {"alternateithicatom": "H 1", "avatar": "H 1", "odetostepfather": "H 1", "wheretheressmoke": "UN 1"}


def test_real_labels_are_words_that_glove_knows_and_phones_of_english(shared):
    files = sorted((shared / "data/ds003020/TextGrids").glob("*.TextGrid"))
    known, words = glove_table()[0], [word for file in files for word in read_words(file)]
    before, after = (
        sum(label.split("'")[0] in known for label in spelled) / len(words)
        for spelled in (
            [label.lower() for file in files for label, *_ in read_tier(file, "word")],
            [word.label for word in words],
        )
    )
    assert len(files) == 8 and len(words) > 16_000 and after > 0.998 > 0.95 > before
    assert all(word.label and word.label == word.label.lower() for word in words)
    found = {file.stem: note.partition("English (")[2][:-1] for file in files for note in labels.notes(file)}
    assert found == OUTSIDE
    for file in files:
        assert set(PHONES) - {labels.without_stress(phone.label) for phone in read_phones(file)} <= {"ZH"}
