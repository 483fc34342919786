import os
import re

import pytest
from braintuning.datasets.textgrid import Interval, check_within, is_silence, overlaps, read_tier, without_edges
from braintuning.demo.textgrid_writer import write_textgrid
from braintuning.errors import InputError, MissingTier
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


FORMS = ("long", "short", "chronological", "chronological with comments")


def praat_text(form, tiers, end=3.0, escape=True):
    """A TextGrid as Praat writes it, from tiers of (name, rows of (label, start, end) or of (label, time))."""

    def quoted(label):
        return '"' + (label.replace('"', '""') if escape else label) + '"'

    classes = ['"IntervalTier"' if len(rows[0]) == 3 else '"TextTier"' for _, rows in tiers]
    if form.startswith("chronological"):
        lines = ['"Praat chronological TextGrid text file"', f"0 {end}   ! Time domain.", f"{len(tiers)}   ! Tiers."]
        lines += [f"{kind} {quoted(name)} 0 {end}" for kind, (name, _) in zip(classes, tiers, strict=True)]
        rows = [(*row[1:2], number, row) for number, (_, rows) in enumerate(tiers, 1) for row in rows]
        for _, number, (label, *times) in sorted(rows):
            lines += ["", f"! {tiers[number - 1][0]}:"] if "comments" in form else []
            lines += [" ".join(map(str, (number, *times))), quoted(label)]
        return "\n".join(lines) + "\n"
    long = form == "long"
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', ""]
    lines += [f"{'xmin = ' * long}0 ", f"{'xmax = ' * long}{end} ", f"{'tiers? ' * long}<exists> "]
    lines += [f"{'size = ' * long}{len(tiers)} ", *["item []: "] * long]
    for number, (kind, (name, rows)) in enumerate(zip(classes, tiers, strict=True), 1):
        lines += [
            *[f"    item [{number}]:"] * long,
            f"{'class = ' * long}{kind} ",
            f"{'name = ' * long}{quoted(name)} ",
        ]
        lines += [f"{'xmin = ' * long}0 ", f"{'xmax = ' * long}{end} ", f"{'intervals: size = ' * long}{len(rows)} "]
        for index, (label, *times) in enumerate(rows, 1):
            keys = ("xmin", "xmax") if len(times) == 2 else ("number",)
            lines += [f"        intervals [{index}]:"] * long
            lines += [f"{f'{key} = ' * long}{time} " for key, time in zip(keys, times, strict=True)]
            lines += [f"{('text = ' if len(times) == 2 else 'mark = ') * long}{quoted(label)} "]
    return "\n".join(lines) + "\n"


def whole(rows, end=3.0):
    """Rows with an empty label wherever nothing is said, as Praat has them."""
    filled, now = [], 0.0
    for label, start, stop in rows:
        filled += [("", now, start)] if start > now else []
        filled.append((label, start, stop))
        now = stop
    return [*filled, ("", now, end)] if now < end else filled


CLICKS = ("clicks", [("x", 0.5), ("5", 1.25)])
TIERS = [("phone", whole(PHONES)), CLICKS, ("word", whole(WORDS))]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "latin-1"])
def test_every_text_form_in_every_encoding_with_every_line_end(tmp_path, form, line_end, encoding):
    path, words = tmp_path / "a.TextGrid", [*WORDS[:2], ("ÉTÉ", 1.5, 2.125)]
    text = praat_text(form, [("word", whole(words)), CLICKS, ("phone", whole(PHONES))])
    mark = b"\xfe\xff" if encoding == "utf-16-be" else b""
    path.write_bytes(mark + text.replace("\n", line_end).encode(encoding))
    assert read_tier(path, "word") == words
    assert read_tier(path, "phone") == [row for row in PHONES if row[0] != "sp"]


@pytest.mark.parametrize("form", ["long_textgrid", "short_textgrid"])
def test_files_that_praatio_writes(tmp_path, form):
    path = praat_file(tmp_path / "a.TextGrid", form)
    assert read_tier(path, "word") == WORDS
    assert read_tier(path, "phone") == [row for row in PHONES if row[0] != "sp"]


STRAY = {
    '"EXCUSE': "EXCUSE",
    'ME"': "ME",
    '"HEADS"': "HEADS",
    '"MEAN".': "MEAN.",
    "'YOU\"?": "'YOU?",
    '"': "",
    '"""': "",
    'SAY "NO" NOW': "SAY NO NOW",
    '"A" "B"': "A B",
    "LAST": "LAST",
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_quotation_marks_that_are_not_doubled_lose_nothing(tmp_path, form, line_end):
    rows = [(label, n / 4, n / 4 + 0.25) for n, label in enumerate(STRAY)]
    text = praat_text(form, [("word", rows), CLICKS, ("phone", rows[:-1])], end=2.5, escape=False)
    path = tmp_path / "a.TextGrid"
    path.write_bytes(text.replace('"phone" 0 2.5', '"phone" 0 2.25').replace("\n", line_end).encode())
    expected = [(STRAY[label], *times) for label, *times in rows if STRAY[label]]
    assert read_tier(path, "word") == expected
    assert read_tier(path, "phone") == expected[:-1]


def test_doubled_marks_stay_beside_stray_ones_and_an_equals_sign_may_be_missing(tmp_path):
    path = tmp_path / "a.TextGrid"
    text = praat_text(
        "long", [("word", [('SAID ""HI""', 0.0, 1.0), ('"OH', 1.0, 2.0), ("'THIS", 2.0, 3.0)])], escape=False
    )
    path.write_text(text.replace("text = \"'THIS", "text \"'THIS").replace("xmin = 2.0", "xmin=2.0"))
    assert read_tier(path, "word") == [('SAID "HI"', 0.0, 1.0), ("OH", 1.0, 2.0), ("'THIS", 2.0, 3.0)]


@pytest.mark.parametrize("form", FORMS)
def test_a_label_of_several_lines_is_one_label(tmp_path, form):
    path, rows = tmp_path / "a.TextGrid", [("one\ntwo", 0.0, 1.0), ('say\n"no"\n3', 1.0, 2.0), ("end", 2.0, 3.0)]
    for escape, second in ((True, 'say "no" 3'), (False, "say no 3")):
        path.write_text(praat_text(form, [("word", rows)], escape=escape))
        assert [label for label, *_ in read_tier(path, "word")] == ["one two", second, "end"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("stray", ["", '"'])
def test_a_file_cut_anywhere_is_refused(tmp_path, form, stray):
    tiers = [
        ("phone", whole(PHONES)),
        ("word", [(stray + label, *times) for label, *times in whole(WORDS)[:-1]] + [("z", 2.125, 3.0)]),
    ]
    text = praat_text(form, tiers, escape=not stray).rstrip()
    path = tmp_path / "a.TextGrid"
    path.write_text(text)
    assert read_tier(path, "word")[-1] == ("z", 2.125, 3.0)
    for kept in range(1, len(text), 3):
        path.write_text(text[:kept])
        refusal(path)


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
    [
        *("", " ", "sp", "SP", "sil", "SIL", "<sil>", "{NS}", "{LG}", "br", "ns", "sentence_start", "[noise]", "((x))"),
        *(
            "{LS)",
            "(br",
            "ls)",
            "{{BR}",
            "{NS_AP}",
            "br ",
            "{laughs",
            "<unk>",
            "<p:>",
            "(laughter)",
            "noise]",
            "--",
            '"',
        ),
        *("(laughing)", "(applause)", "(Sigh)", "SIL_S", "SIL_B", "SPN_S", "sil_i", "{LG} {NS}", "{NS} sp", "[[x]]"),
    ],
)
def test_labels_that_are_no_speech(label):
    assert is_silence(label)


@pytest.mark.parametrize(
    "label",
    [
        "S",
        "I",
        "UH",
        "NOW",
        "SPIN",
        "A",
        "silence",
        "<b",
        "uh",
        "(hello)",
        "[I",
        "noise",
        "Laughter,",
        "{LG} YEAH",
        "{NS}HELLO",
        "HELLO}",
        "YEAH{LG}",
        "(sigh) well",
        "laughing)",
        "<i>hello</i>",
        "[I] went [home]",
        "S_B",
    ],
)
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


def words_file(path, rows):
    """A long TextGrid of one tier, rows as they are given."""
    path.write_text(praat_text("long", [("word", rows)]))
    return path


def test_words_that_overlap_are_kept_in_the_order_of_their_start(tmp_path):
    rows = [("b", 1.0, 1.4), ("a", 0.0, 0.5), ("c", 1.3999, 2.1), ("d", 1.8, 2.0), ("d", 2.0, 2.4), ("e", 2.4, 2.9)]
    found = read_tier(words_file(tmp_path / "a.TextGrid", rows), "word")
    assert found == [rows[1], rows[0], *rows[2:]]
    assert overlaps(found) == [pytest.approx(0.3)]
    assert overlaps(found[:3]) == [] and overlaps([]) == []


def test_a_few_long_overlaps_among_many_words_are_kept_as_planted(tmp_path):
    rows = [[f"w{n}", n / 2, n / 2 + 0.45] for n in range(400)]
    for n, late in ((60, 0.05), (190, 0.4), (301, 0.7)):
        rows[n][2] = rows[n + 1][1] + late
    found = read_tier(words_file(tmp_path / "a.TextGrid", rows), "word")
    assert [list(word) for word in found] == rows
    assert overlaps(found)[:2] == pytest.approx([0.05, 0.4])


BROKEN = {
    "ends before it starts": ([("a", 0, 1), ("b", 2, 1.5)], "'b' lasts from 2.0 to 1.5 s"),
    "far before the audio": ([("a", -0.25, 1)], "'a' lasts from -0.25"),
    "all at one time": ([(label, 1, 2) for label in "abcd"], "3 of 4 overlap an earlier one, 'b' at 1.0 s"),
    "within one that never ends": ([("a", 0, 999), *((label, n, n + 1) for n, label in enumerate("bcd"))], "3 of 4"),
    "no number": ([("a", "nan", 1)], "breaks off in tier 1 of 1"),
    "beyond all numbers": ([("a", 0, "1e999")], "lasts from 0.0 to inf s"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_tier_that_is_really_broken_is_refused(tmp_path, case):
    rows, said = BROKEN[case]
    assert said in refusal(words_file(tmp_path / "a.TextGrid", rows))


def test_times_a_hair_off_are_forgiven(tmp_path):
    rows = [("a", -0.004, 0.5), ("b", 0.5, 0.5), ("c", 1.0, 0.9995), ("d", 2.0, 3.7)]
    found = read_tier(words_file(tmp_path / "a.TextGrid", rows), "word")
    assert found == [("a", 0.0, 0.5), ("b", 0.5, 0.5), ("c", 1.0, 1.0), ("d", 2.0, 3.7)]


@pytest.mark.parametrize("name", ["Words", "WORD", " word ", "Ann - words"])
def test_names_of_tiers_that_aligners_write(tmp_path, name):
    path = tmp_path / "a.TextGrid"
    path.write_text(praat_text("short", [CLICKS, (name, [("a", 0.0, 1.0)])]))
    assert read_tier(path, "word") == [("a", 0.0, 1.0)]
    with pytest.raises(MissingTier, match="0 tiers called 'phone'"):
        read_tier(path, "phone")


def test_what_is_left_over_and_a_tier_of_no_known_kind_are_refused(tmp_path):
    path, text = tmp_path / "a.TextGrid", praat_text("short", [("word", [("a", 0.0, 1.0)])])
    path.write_text(text + "4.0\n")
    assert "4.0 where the end of the file should be" in refusal(path)
    path.write_text(text.replace("IntervalTier", "IntervalTeir"))
    assert "breaks off in tier 1 of 1" in refusal(path)


def test_edges_of_labels():
    assert [without_edges(label) for label in ("a", " “a”, ", "--", "don't!", "हिन्दी।", "_a_")] == [
        "a",
        "a",
        "",
        "don't",
        "हिन्दी",
        "a",
    ]


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
    assert "another kind of file" in refusal(path)
    path.write_bytes(b"ooBinaryFile\x08TextGrid" + bytes(40))
    assert "binary form" in refusal(path)
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


REAL = (
    *("alternateithicatom", "avatar", "legacy", "life", "myfirstdaywiththeyankees", "odetostepfather"),
    *("undertheinfluence", "wheretheressmoke"),
)


def by_line(path):
    """Labels and times of a long TextGrid's tiers, line by line, a label being what its line's outer quotes hold."""
    tiers, times = [], []
    for line in path.read_text().splitlines():
        key, _, value = line.strip().partition(" ")
        value = value.removeprefix("= ")
        if key == "name":
            tiers.append([])
        elif key in ("xmin", "xmax"):
            times.append(float(value))
        elif key == "text":
            tiers[-1].append((value[1:-1], *times[-2:]))
    return tiers


@pytest.mark.parametrize("story", REAL)
def test_real_story_is_read_whole(shared, story):
    path = shared / f"data/ds003020/TextGrids/{story}.TextGrid"
    for tier, rows in zip(("phone", "word"), by_line(path), strict=True):
        assert len(rows) == int(re.findall(r"intervals: size = (\d+)", path.read_text())[tier == "word"])
        spoken = [row for row in rows if not re.fullmatch(r"|{+\w+}|sp|br ?|l[gs]|ns|NS|cg", row[0])]
        found = read_tier(path, tier)
        assert [(label.replace('"', ""), *times) for label, *times in spoken] == found


@pytest.mark.parametrize("form", FORMS[1:])
def test_a_real_story_with_stray_quotes_is_the_same_in_every_form(shared, tmp_path, form):
    real, path = shared / "data/ds003020/TextGrids/alternateithicatom.TextGrid", tmp_path / "a.TextGrid"
    phones, words = by_line(real)
    text = praat_text(form, [("phone", phones), ("word", words)], words[-1][2], escape=False)
    path.write_bytes(text.replace("\n", "\r\n").encode("utf-16"))
    assert [read_tier(path, tier) for tier in ("phone", "word")] == [
        read_tier(real, tier) for tier in ("phone", "word")
    ]


@pytest.mark.parametrize("story", REAL)
def test_real_words_are_those_that_the_stimulus_computer_logged(shared, story):
    """The log has a line for each interval, without text where nothing is said or the label opens with a quote.

    In `wheretheressmoke` it lacks those whose equals sign is missing: all whose label opens with an apostrophe.
    """
    log = (shared / f"data/ds003020/trigger_logs/{story}.report").read_text(encoding="latin-1")
    logged = re.findall(r"^([\d.]+) (?:START: )?word ?(.*?) +-?[\d.e-]+$", log, re.MULTILINE)
    path = shared / f"data/ds003020/TextGrids/{story}.TextGrid"
    intervals, of_start = by_line(path)[1], {start: label for label, start, _ in read_tier(path, "word")}
    intervals = [row for row in intervals if story != "wheretheressmoke" or not row[0].startswith("'")]
    assert len(logged) == len(intervals)
    n_words = 0
    for (moment, text), (label, start, _) in zip(logged, intervals, strict=True):
        if (text.strip() and "{" not in text) or label.startswith('"'):
            n_words += 1
            assert of_start[start].strip(".,?!'") == (text.strip() or label.replace('"', "")).strip(".,?!'")
            assert story == "wheretheressmoke" or 10 < float(moment) - start < 10.2
        else:
            assert start not in of_start
    assert n_words == len(of_start) - (44 if story == "wheretheressmoke" else 0)
