"""Trigger logs: the eight real ones that are in ../shared, their kind in other forms, and broken ones."""

import json
import re
from itertools import pairwise

import numpy as np
import pytest
import tiny
from braintuning.datasets.lebel import LebelDataset
from braintuning.datasets.trigger_log import read_trigger_log
from braintuning.timing import SOUND_START
from tiny import N_ROWS, one_sentence, refused

TR = 2.0045
STORIES = ("alternateithicatom", "avatar", "legacy", "life", "myfirstdaywiththeyankees", "odetostepfather")
STORIES += ("undertheinfluence", "wheretheressmoke")


@pytest.fixture(scope="module")
def ds003020(shared):
    return shared / "data" / "ds003020"


def times_of(text, event):
    """Times of the lines that say just this, or begin with it where it ends in a colon, by another way."""
    end = "" if event.endswith(":") else r"\s*$"
    return [float(time) for time in re.findall(rf"(?m)^([\d.]+)\s+{event}{end}", text)]


@pytest.mark.parametrize("story", STORIES)
def test_real_logs_are_read_whole(ds003020, story):
    path = ds003020 / "trigger_logs" / f"{story}.report"
    log, text = read_trigger_log(path), path.read_text()
    np.testing.assert_array_equal(log.triggers, times_of(text, "first trigger") + times_of(text, "trigger"))
    (start,) = times_of(text, "START:")
    assert log.sound_start == start - log.triggers[0]
    assert 10.027 < log.sound_start < 10.029
    volumes = json.loads((ds003020 / "respdict.json").read_text())[story]
    notes = log.differences(volumes, TR)
    assert notes == (["found 306 triggers, 311 volumes in the table"] if story == "wheretheressmoke" else [])
    assert "the study's TR is 2 s" in log.differences(volumes, 2.0)[-1]


def test_the_start_of_the_sound_without_a_log_is_the_median_of_the_real_ones(ds003020):
    starts = [read_trigger_log(path).sound_start for path in (ds003020 / "trigger_logs").glob("*.report")]
    assert len(starts) == 8
    assert SOUND_START == pytest.approx(np.median(starts), abs=5e-4)


@pytest.mark.parametrize("story", STORIES)
def test_rows_are_read_between_the_triggers_of_their_volume_and_the_next(ds003020, files, story):
    """The times of rows, made of the number of volumes and the TR, against the triggers that the scanner sent."""
    log = (ds003020 / "trigger_logs" / f"{story}.report").read_text()
    files.volumes.write_text((ds003020 / "respdict.json").read_text())
    place_log(files, "trigger_logs", f"{story}.report", log)
    triggers = times_of(log, "first trigger") + times_of(log, "trigger")
    (start,) = times_of(log, "START:")
    times = LebelDataset(files.root, TR).tr_times("P1", story)
    expected = [(before + after) / 2 - start for before, after in pairwise(triggers[10:])]
    n = min(len(times), len(expected))
    assert n > 280
    np.testing.assert_allclose(times[:n], expected[:n], rtol=0, atol=0.02)


LOG = """0.5 first trigger
2.5045 trigger
4.509 trigger
6.52 START: word I -0.0075
6.5135 trigger
7.1 word START -0.002
7.9 word    -0.006
8.518 trigger
9.0 END:
9.1 Finished: Closing display.
"""


def place_log(files, folder, name, text=LOG):
    path = files.root / folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


FORMS = {
    "as it is": LOG,
    "other labels": LOG.replace("first trigger", "init-trigger").replace("START: word I -0.0075", "sound-start"),
    "lines of DOS": LOG.replace("\n", "\r\n"),
    "byte-order mark": "\ufeff" + LOG,
    "tabs and blank lines": re.sub(r"(?m)^([\d.]+) ", r"\1\t", LOG) + "\n   \n",
    "times alone in a line": LOG.replace("7.9 word", "7.85\n7.9 word"),
    "another case": LOG.replace("first t", "First T").replace("5 trig", "5 TRIG").replace("START:", "Start:"),
    "characters that end a line elsewhere": LOG.replace("word I", "word I\u2028a\u0085b\x0cc"),
    "not UTF-8": LOG.replace("word I", "word caf\u00e9").encode("latin-1"),
}


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_a_log(files, form):
    log = read_trigger_log(place_log(files, "trigger_logs", "harbour.report", FORMS[form]))
    np.testing.assert_array_equal(log.triggers, [0.5, 2.5045, 4.509, 6.5135, 8.518])
    assert log.sound_start == pytest.approx(6.02, abs=1e-12)


BROKEN = {
    "empty": ("", "empty"),
    "no trigger": ("0.1 START: word a\n", "found 0 triggers"),
    "one trigger": ("0.0 first trigger\n10.0 START: word a\n", "found 1 triggers"),
    "no start": (LOG.replace("START: word I", "word I"), "found 0 starts of the sound"),
    "two starts": (LOG + "9.5 START: word again\n", "found 2 starts of the sound"),
    "start before the scanner": (LOG.replace("6.52 START:", "0.1 START:"), "too early"),
    "start after the scanner": (LOG.replace("6.52 START:", "8.6 START:"), "too late, at 8.6 s"),
    "start at no time": (LOG.replace("6.52 START:", "nan START:"), "line 4: found 'nan', expected seconds"),
    "a trigger at infinity": (LOG + "inf trigger\n", "line 11: found 'inf', expected seconds"),
    "milliseconds": (re.sub(r"(?m)^[\d.]+", lambda m: f"{1000 * float(m[0]):g}", LOG), "a trigger every 2004.5 s"),
    "UTF-16": (LOG.encode("utf-16"), "found UTF-16 or no text, expected a line for each event in UTF-8"),
    "UTF-16 without its mark": (LOG.encode("utf-16-le"), "found UTF-16 or no text"),
    "two runs in one file": (LOG.replace("START: word I", "word I") + LOG, "a trigger at 0.5 s after one at 8.518"),
    "a trigger twice": (LOG.replace("4.509 t", "4.509 trigger\n4.509 t"), "a trigger at 4.509 s after one at 4.509"),
    "no time": (LOG.replace("7.1 word", "word"), "line 6: found 'word'"),
    "another file": ("File type = \"ooTextFile\"\n", "line 1: found 'File'"),
    "an annex pointer": ("/annex/objects/MD5E-s1--0.report\n", "git-annex"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_log_is_refused_with_its_name(files, case):
    text, words = BROKEN[case]
    path = place_log(files, "trigger_logs", "harbour.report", text)
    dataset = LebelDataset(files.root, tiny.TR)
    message = refused(lambda: dataset.tr_times("P1", "harbour"), path, words)
    assert message.isprintable()
    dataset.tr_times("P1", "orchard")


FOLDERS = ("trigger_logs", "trfiles", "stimuli", "derivative/trigger_logs", "derivative/trfiles")


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_log_is_found_wherever_logs_may_lie_and_counts_for_its_story(files, folder):
    place_log(files, folder, "harbour.report")
    dataset = LebelDataset(files.root, TR)
    expected = np.array([(i + 10.5) * TR for i in range(N_ROWS)])
    np.testing.assert_allclose(dataset.tr_times("P1", "harbour"), expected - 6.02, rtol=0, atol=1e-12)
    np.testing.assert_allclose(dataset.tr_times("P1", "orchard"), expected - 10.028, rtol=0, atol=1e-12)


def test_a_participants_own_log_counts_before_the_storys_and_the_study_before_both(files):
    place_log(files, "trigger_logs", "harbour.report")
    place_log(files, "trigger_logs", "P2/harbour.report", LOG.replace("6.52 START", "7.5 START"))
    dataset = LebelDataset(files.root, TR)
    assert [dataset.sound_start(p, "harbour") for p in ("P1", "P2")] == pytest.approx([6.02, 7.0])
    for starts, expected in (
        (9.0, (9.0, 9.0)),
        ({"P1": 8.0, "P2": 4.0}, (8.0, 4.0)),
        ({"harbour": 5.0, "orchard": 7.0}, (5.0, 5.0)),
        ({"P1": {"harbour": 1.0, "orchard": 2.0}, "P2": 3.0}, (1.0, 3.0)),
    ):
        dataset = LebelDataset(files.root, TR, sound_starts=starts)
        assert tuple(dataset.sound_start(p, "harbour") for p in ("P1", "P2")) == expected
    dataset = LebelDataset(files.root, TR, sound_starts={"P1": {"orchard": 1.0}})
    assert [dataset.sound_start("P1", story) for story in ("harbour", "orchard")] == pytest.approx([6.02, 1.0])
    refused(lambda: dataset.sound_start("P1", "winter"), "no `sound_starts` of winter of P1", "expected seconds")
    refused(lambda: LebelDataset(files.root, {"P1": 2.0}).tr_times("P2", "harbour"), "no `tr` of P2")


def test_a_log_that_differs_from_table_or_tr_is_noted_once_and_stops_nothing(files, monkeypatch):
    monkeypatch.setattr(LebelDataset, "cortex", lambda *_: tiny.cortex())
    triggers = "".join(f"{2.0 * i} trigger\n" for i in range(1, tiny.N_VOLUMES))
    paths = {}
    for story, text in {
        "harbour": triggers,
        "orchard": triggers.replace("78.0 trigger\n", ""),
        "winter": "".join(f"{2.01 * i} trigger\n" for i in range(1, tiny.N_VOLUMES)),
    }.items():
        paths[story] = place_log(files, "trigger_logs", f"{story}.report", "0.0 first trigger\n10.01 START: a\n" + text)
    lines = []
    with tiny.listening(lines.append):
        notes = LebelDataset(files.root, 2.0).check(dict.fromkeys(tiny.PARTICIPANTS, tiny.STORIES))
    assert len(notes) == 2
    one_sentence(notes[0], paths["orchard"], "found 39 triggers, 40 volumes in the table")
    one_sentence(notes[1], paths["winter"], "found a trigger every 2.0100 s (median), the study's TR is 2 s")
    assert [line for line in lines if "no trigger log of 1 stories" in line and "10.028 s after" in line]
