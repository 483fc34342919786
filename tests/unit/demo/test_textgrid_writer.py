from braintuning.datasets.textgrid import Interval, read_tier
from braintuning.demo.textgrid_writer import write_textgrid
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


def test_real_words_survive_a_round_trip(shared, tmp_path):
    words = read_tier(shared / "data/alice/words.TextGrid", "words")
    write_textgrid(tmp_path / "copy.TextGrid", {"word": words}, 745)
    assert read_tier(tmp_path / "copy.TextGrid", "word") == words
