import numpy as np
import pandas as pd
import pytest
import tiny
from braintuning.datasets import Dataset
from braintuning.datasets.textgrid import Interval
from braintuning.figures import time_course
from braintuning.results import save_arrays
from braintuning.study import Run, load_study
from scipy.stats import sem, t

TR = 1.5
MODEL = ("small", "pretrained")


def drawn_course(noise=0.5, n=200):
    rng, times = np.random.default_rng(1), 20 + TR * np.arange(n)
    measured = np.convolve(rng.standard_normal(n + 4), np.ones(5) / 5, "valid")
    predicted = measured + noise * rng.standard_normal(n)
    columns = {"time": times, "measured": measured, "predicted": predicted}
    return pd.DataFrame(columns | {"low": measured - 0.2, "high": measured + 0.2, "n_participants": 7})


def spoken(start, end, every=0.5):
    return [Interval(f"w{k}", start + every * k, start + every * k + 0.3) for k in range(int((end - start) / every))]


def test_the_window_is_as_well_predicted_as_the_whole_and_speech_goes_on_in_it():
    found = drawn_course()
    words = [word for word in spoken(20, 300) if not 100 < word.start < 140]
    start, end = time_course.typical_window(found, words, 30.0)
    assert end - start == 30 and (end < 107 or start > 133)
    overall = np.corrcoef(found["measured"], found["predicted"])[0, 1]
    each = {}
    for first in found["time"][found["time"] <= found["time"].iloc[-1] - 30]:
        part = found[found["time"].between(first, first + 30)]
        each[first] = np.corrcoef(part["measured"], part["predicted"])[0, 1]
    allowed = {first: abs(r - overall) for first, r in each.items() if first + 30 < 106 or first > 134}
    assert abs(each[start] - overall) <= min(allowed.values()) + 1e-9
    assert max(abs(r - overall) for r in each.values()) > abs(each[start] - overall)


def test_where_speech_pauses_everywhere_the_window_is_predicted_as_well_as_the_whole_all_the_same():
    found = drawn_course()
    start, end = time_course.typical_window(found, [])
    overall = found["measured"].corr(found["predicted"])
    firsts = found["time"][found["time"] <= found["time"].max() - 30]
    parts = (found[found["time"].between(first, first + 30)] for first in firsts)
    far = [abs(part["measured"].corr(part["predicted"]) - overall) for part in parts]
    assert (start, end) == (firsts.iloc[int(np.argmin(far))], start + 30)


def test_words_are_written_as_phrases_that_do_not_overlap():
    words = [*spoken(0, 3, 0.4), Interval("late", 5.0, 5.2), Interval("one", 5.3, 5.5)]
    found = time_course.phrases(words)
    assert [phrase.label for phrase in found] == ["w0 w1 w2 w3 w4 w5", "w6", "late one"]
    assert (found[2].start, found[2].end) == (5.0, 5.5)
    assert time_course.lanes([0, 1, 2, 5, 5.5], [3, 1, 1, 1, 1]) == [0, 1, 1, 0, 1]


def test_the_picture_has_both_courses_and_every_word_of_the_window_where_it_is_heard():
    found, words = drawn_course(), spoken(20, 320)
    fig = time_course.draw_course(found, words, "Region 7", "Drawn", window=(50.0, 70.0))
    whole, part, below = fig.axes
    assert "Region 7 (r = 0." in whole.get_title()
    for ax in (whole, part):
        np.testing.assert_allclose(ax.lines[0].get_ydata(), found["measured"])
        np.testing.assert_allclose(ax.lines[1].get_ydata(), found["predicted"])
    assert part.get_xlim() == below.get_xlim() == (50.0, 70.0)
    assert part.get_legend().get_texts()[0].get_text() == "measured, mean of 7 people"
    written = " ".join(text.get_text() for text in below.texts).split()
    assert written == [word.label for word in words if 50 <= word.start < 70]
    starts = {text.get_text().split()[0]: text.get_position()[0] for text in below.texts}
    assert all(starts[name] <= word.start for name in starts for word in words if word.label == name)
    assert sum(starts[name] == word.start for name in starts for word in words if word.label == name) >= len(starts) - 2
    fig.canvas.draw()
    boxes = [text.get_window_extent() for text in below.texts]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    assert max(box.x1 for box in boxes) <= below.get_window_extent().x1 + 6  # pixels, half a letter


class Listeners(Dataset):
    """Four people, of whom one was scanned at other times; three regions."""

    def region_names(self, participant):
        return ("7", "8", "9")

    def tr_times(self, participant, story):
        return 3.0 + TR * np.arange(80) + (participant == "P4")

    def responses(self, participant, story, voxels=None):
        rng = np.random.default_rng(int(participant[1]))
        return (self.shared() + rng.standard_normal((80, 3)))[:, voxels]

    def shared(self):
        return np.random.default_rng(0).standard_normal((80, 1)) * [1, 2, 3]


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.setenv("BRAINTUNING_RESULTS", str(tmp_path / "results"))
    tiny.encoder("hubert").save_pretrained(tmp_path / "backbone")
    content = tiny.study_content(tmp_path, tmp_path / "backbone")
    content |= {"participants": ["P1", "P2", "P3", "P4"], "conditions": ["pretrained"]}
    content["encoding"] |= {"test_skip_rows": 5, "ceiling_threshold": 0.2}
    study, run = load_study(tiny.write_yaml(tmp_path / "tiny.yaml", content)), Run("small", "pretrained")
    for participant in study.participants:
        ceiling = np.array([0.1, 0.5, 0.6 if participant != "P3" else 0.1])
        used = ceiling > 0.2
        save_arrays(
            study.ceiling_file(participant),
            {"ceiling": ceiling, "q": np.zeros(3), "broken": np.zeros(3, bool)},
            {"recipe": {}},
        )
        kept = (Listeners().shared()[5:, used]).astype(np.float16)
        save_arrays(study.scores_file(participant, run), {"predicted": kept}, {})
    return study


def test_courses_of_people_are_averaged_after_the_skipped_trs(study):
    people = ("P1", "P2", "P3")
    found = time_course.course(study, Listeners(), *MODEL, ["9"], people)
    assert len(found) == 75 and set(found["n_participants"]) == {2}
    np.testing.assert_allclose(found["time"], Listeners().tr_times("P1", "")[5:])
    truth = [Listeners().responses(p, "", np.array([False, False, True]))[5:, 0] for p in ("P1", "P2")]
    expected = np.mean([(one - one.mean()) / one.std() for one in truth], axis=0)
    np.testing.assert_allclose(found["measured"], expected, atol=1e-6)
    ends = t.interval(0.95, 1, found["measured"], sem([(one - one.mean()) / one.std() for one in truth]))
    np.testing.assert_allclose(found[["low", "high"]].T, ends)
    predicted = Listeners().shared()[5:, 2]
    np.testing.assert_allclose(np.corrcoef(found["predicted"], predicted)[0, 1], 1, atol=1e-4)
    assert found["predicted"].std() == pytest.approx(found["measured"].std())
    both = time_course.course(study, Listeners(), *MODEL, ["8", "9"], people)
    assert set(both["n_participants"]) == {3} and (both["low"] < both["measured"]).all()
    alone = time_course.course(study, Listeners(), *MODEL, ["9"], ("P1",))
    assert alone["low"].isna().all()


def test_people_at_other_times_and_regions_in_nobody_are_refused(study):
    tiny.refused(lambda: time_course.course(study, Listeners(), *MODEL, ["9"], ("P1", "P4")), "TRs of P4", "one story")
    tiny.refused(lambda: time_course.course(study, Listeners(), *MODEL, ["7"], ("P1",)), "region 7", "in nobody")
    several = study.stories.model_copy(update={"test": ("begin", "end")})
    cut = study.model_copy(update={"stories": several})
    tiny.refused(lambda: time_course.course(cut, Listeners(), *MODEL, ["9"], ("P1",)), "P1", "begin, end", "one")
