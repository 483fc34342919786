import re

import pytest
from braintuning.datasets.textgrid import Interval, read_tier
from braintuning.demo.textgrid_writer import write_textgrid
from braintuning.errors import InputError
from praatio import textgrid as praatio_textgrid


def test_written_file_is_what_praatio_reads(tmp_path):
    path = tmp_path / "new" / "b.TextGrid"
    words = [Interval("été", 1 / 3, 2 / 3), Interval('"quoted"', 2 / 3, 0.7), Interval("end", 1.1, 3)]
    write_textgrid(path, {"word": words, "phone": []}, 3)
    grid = praatio_textgrid.openTextgrid(str(path), includeEmptyIntervals=True, reportingMode="error")
    assert (grid.minTimestamp, grid.maxTimestamp) == (0, 3)
    rows = [(entry.label, entry.start, entry.end) for entry in grid.getTier("word").entries]
    assert rows == [("", 0, 1 / 3), words[0], words[1], ("", 0.7, 1.1), words[2]]
    assert len(grid.getTier("phone").entries) == 1
    assert [p.name for p in path.parent.iterdir()] == ["b.TextGrid"]


@pytest.mark.parametrize(
    ("rows", "found"),
    [
        ([("A", 0.0, 1.0), ("B", 0.9, 1.5)], "before 'A' ends"),
        ([("A", 1.0, 2.0), ("B", 0.0, 0.5)], "before 'A' ends"),
        ([("A", 1.0, 1.0)], "expected 0 <= start < end"),
        ([("A", -0.5, 1.0)], "expected 0 <= start < end"),
        ([("A", 0.0, float("nan"))], "expected 0 <= start < end"),
        ([("A", 1.0, 3.5)], "3.50 s"),
    ],
)
def test_write_refuses_impossible_times_and_leaves_nothing(tmp_path, rows, found):
    with pytest.raises(InputError, match=re.escape(found)):
        write_textgrid(tmp_path / "a.TextGrid", {"word": [Interval(*row) for row in rows]}, 3.0)
    assert list(tmp_path.iterdir()) == []


def test_real_words_survive_a_round_trip(shared, tmp_path):
    words = read_tier(shared / "data/alice/words.TextGrid", "words")
    write_textgrid(tmp_path / "copy.TextGrid", {"word": words}, 745)
    assert read_tier(tmp_path / "copy.TextGrid", "word") == words
