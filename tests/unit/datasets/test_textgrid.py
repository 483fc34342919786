import os

import pytest
from braintuning.datasets.textgrid import Interval, check_within, is_silence, read_tier
from braintuning.demo.textgrid_writer import write_textgrid
from braintuning.errors import InputError
from praatio import textgrid as praatio_textgrid
from praatio.utilities.constants import Interval as PraatioInterval

WORDS = [("SO", 0.25, 0.5), ('SAY "HI"', 0.5, 1.0), ("NOW", 1.5, 2.125)]
PHONES = [("S", 0.25, 0.375), ("OW1", 0.375, 0.5), ("sp", 1.0, 1.5), ("N", 1.5, 1.75), ("AW1", 1.75, 2.125)]


def praat_file(path, form="long_textgrid", encoding="utf-8"):
    """A TextGrid as praatio, an independent implementation, writes it."""
    grid = praatio_textgrid.Textgrid(0, 3)
    for name, rows in (("phone", PHONES), ("word", WORDS)):
        entries = [PraatioInterval(start, end, label) for label, start, end in rows]
        grid.addTier(praatio_textgrid.IntervalTier(name, entries, 0, 3))
    grid.addTier(praatio_textgrid.PointTier("clicks", [(0.5, "x"), (1.25, "5")], 0, 3))
    grid.save(str(path), form, includeBlankSpaces=True)
    if encoding != "utf-8":
        path.write_bytes(path.read_text(encoding="utf-8").encode(encoding))
    return path


@pytest.mark.parametrize("form", ["long_textgrid", "short_textgrid"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_reads_both_forms_in_every_encoding(tmp_path, form, encoding):
    path = praat_file(tmp_path / "a.TextGrid", form, encoding)
    assert read_tier(path, "word") == WORDS
    assert read_tier(path, "phone") == [row for row in PHONES if row[0] != "sp"]


def test_windows_line_ends_and_header_of_old_short_files(tmp_path):
    path = praat_file(tmp_path / "a.TextGrid", "short_textgrid")
    text = (
        path.read_text()
        .replace('"ooTextFile"', '"ooTextFile short"')
        .replace('Object class = "TextGrid"', '"TextGrid"')
    )
    path.write_bytes(text.replace("\n", "\r\n").encode())
    assert read_tier(path, "word") == WORDS


@pytest.mark.parametrize("asked", ["Phone", "phones", "PHONES", "phone"])
def test_tier_name_in_any_case_or_number(tmp_path, asked):
    assert len(read_tier(praat_file(tmp_path / "a.TextGrid"), asked)) == 4


def test_exact_tier_name_wins_over_a_similar_one(tmp_path):
    path = tmp_path / "a.TextGrid"
    write_textgrid(path, {"Word": [Interval("A", 0, 1)], "word": [Interval("B", 0, 1)]}, 2)
    assert read_tier(path, "word") == [("B", 0, 1)]
    with pytest.raises(InputError, match="2 tiers called 'WORDS'"):
        read_tier(path, "WORDS")


@pytest.mark.parametrize(
    "label",
    ["", " ", "sp", "SP", "sil", "SIL", "<sil>", "{NS}", "{LG}", "br", "ns", "sentence_start", "[noise]", "((x))"],
)
def test_labels_that_are_no_speech(label):
    assert is_silence(label)


@pytest.mark.parametrize("label", ["S", "I", "UH", "NOW", "SPIN", "A", "silence", "<b", "uh"])
def test_labels_that_are_speech(label):
    assert not is_silence(label)


def test_times_that_praat_writes_with_an_exponent(tmp_path):
    path = praat_file(tmp_path / "a.TextGrid")
    path.write_text(path.read_text().replace("xmin = 0.25", "xmin = 5.551115123125783e-17"))
    assert read_tier(path, "word")[0] == ("SO", 5.551115123125783e-17, 0.5)


def test_label_that_looks_like_the_format(tmp_path):
    path = tmp_path / "a.TextGrid"
    label = 'item [2]: "IntervalTier" xmin = 3'
    write_textgrid(path, {"word": [Interval(label, 0.1, 0.4)], "phone": [Interval("S", 0.1, 0.4)]}, 1)
    assert read_tier(path, "word") == [(label, 0.1, 0.4)]
    assert read_tier(path, "phone") == [("S", 0.1, 0.4)]


def test_overlap_in_a_file_is_named_and_rounding_is_forgiven(tmp_path):
    path = praat_file(tmp_path / "a.TextGrid")
    text = path.read_text()
    path.write_text(text.replace("xmax = 1 \n", "xmax = 1.5005 \n"))
    assert read_tier(path, "word")[1].end == 1.5005
    path.write_text(text.replace("xmax = 1 \n", "xmax = 1.6 \n"))
    with pytest.raises(InputError, match=r"'NOW' starts at 1\.5 s, before"):
        read_tier(path, "word")


def test_negative_time_is_refused(tmp_path):
    path = praat_file(tmp_path / "a.TextGrid")
    path.write_text(path.read_text().replace("xmin = 0.25", "xmin = -0.25"))
    with pytest.raises(InputError, match=r"'SO' lasts from -0\.25"):
        read_tier(path, "word")


def refusal(path, tier="word"):
    with pytest.raises(InputError) as caught:
        read_tier(path, tier)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_missing_tier_names_those_found(tmp_path):
    assert "'phone', 'word'" in refusal(praat_file(tmp_path / "a.TextGrid"), "syllable")


def test_point_tier_is_not_an_interval_tier(tmp_path):
    assert "0 tiers called 'clicks'" in refusal(praat_file(tmp_path / "a.TextGrid"), "clicks")


def test_files_that_cannot_be_read(tmp_path):
    path = tmp_path / "a.TextGrid"
    assert "nothing found" in refusal(path)
    path.touch()
    assert "empty" in refusal(path)
    path.write_text("the cat sat")
    assert "another kind of file" in refusal(path)
    path.write_bytes(b"\x80\x81\xfe\x00")
    assert "UTF-8" in refusal(path)
    link = tmp_path / "b.TextGrid"
    os.symlink("annex/objects/MD5E-s5--0.TextGrid", link)
    assert "a link to annex" in refusal(link)


@pytest.mark.parametrize("form", ["long_textgrid", "short_textgrid"])
@pytest.mark.parametrize("kept", [0.15, 0.4, 0.6, 0.8])
def test_cut_off_file_is_never_read_as_a_shorter_story(tmp_path, form, kept):
    path = praat_file(tmp_path / "a.TextGrid", form)
    text = path.read_text()
    path.write_text(text[: int(kept * len(text))])
    refusal(path)


@pytest.mark.parametrize("form", ["long_textgrid", "short_textgrid"])
def test_file_that_lacks_its_last_value_is_refused(tmp_path, form):
    path = praat_file(tmp_path / "a.TextGrid", form)
    text = path.read_text().rstrip()
    path.write_text(text[: text.rindex("\n")])
    assert "breaks off in tier 3 of 3" in refusal(path)


def test_word_after_the_end_of_the_audio():
    words = [Interval("A", 0.0, 1.0), Interval("LAST", 9.0, 10.4)]
    check_within(words, 10.0, "story.TextGrid")
    check_within([], 10.0, "story.TextGrid")
    with pytest.raises(InputError, match=r"story\.TextGrid: 'LAST' ends at 10\.40 s"):
        check_within(words, 9.8, "story.TextGrid")


def test_real_story_against_praatio(shared):
    path = shared / "data/alice/words.TextGrid"
    words = read_tier(path, "words")
    assert len(words) == 2127
    assert words[0] == ("Alice", 20.05891632653599, 20.621637414967992)
    grid = praatio_textgrid.openTextgrid(str(path), includeEmptyIntervals=False)
    theirs = [(e.label, e.start, e.end) for e in grid.getTier("word").entries if e.label != "sp"]
    assert words == theirs
