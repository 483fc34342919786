import time
from io import BytesIO

import brain_page
import chromium
import explored
import numpy as np
import pytest
import soundfile
from braintuning.cortex.raster import view_image
from braintuning.cortex.surface import fs_lr
from braintuning.explore.widget import NOBODY, Explorer
from braintuning.results import load_arrays
from PIL import Image


@pytest.fixture
def explorer(study, folder):
    made = Explorer(str(folder / "tiny.yaml"))
    made.condition.value = "random-brain-tuned"
    return made


def pixel_of(region):
    """Where a region lies on the map, as shares of its width and height from the left and from the top."""
    return [*map(float, explored.pixel_of(region)), time.time()]


def colours(explorer):
    return np.asarray(Image.open(BytesIO(explorer.brain.image))).astype(int)


def colour_at(explorer, region):
    across, down, _ = pixel_of(region)
    image = colours(explorer)
    return image[int(down * len(image)), int(across * image.shape[1])]


def test_the_panel_begins_with_the_figures_layer_and_offers_what_was_made(explorer):
    assert explorer.participant.options == ("P1",) and explorer.condition.options == (
        "pretrained",
        "random-brain-tuned",
    )
    assert explorer.condition.value == "random-brain-tuned" and explorer.layer.value == explorer.layer.max == 2
    assert explorer.brain.title == "A tiny study: P1, small, random-brain-tuned, layer 2"
    assert explorer.place.name == "Late language regions"
    assert colours(explorer).shape == (*view_image(fs_lr()).vertex.shape, 3)


def test_another_layer_condition_or_quantity_changes_the_picture(explorer):
    seen = [explorer.brain.image]
    for control, value in (("condition", "pretrained"), ("layer", 1), ("quantity", "noise ceiling")):
        getattr(explorer, control).value = value
        assert explorer.brain.image not in seen
        seen.append(explorer.brain.image)
    assert explorer.brain.scale["label"] == "noise ceiling" and explorer.brain.scale["high"] == "1.00"


def test_where_a_condition_is_better_the_difference_is_warm(explorer):
    explorer.minus.value = "pretrained"
    assert explorer.brain.scale["label"] == "alignment, random-brain-tuned minus pretrained (r over noise ceiling)"
    cortex, study = explorer.source.dataset.cortex("P1"), explorer.source.study
    tuned, before = (
        load_arrays(study.scores_file("P1", explorer._run(c)))["alignment"][2]
        for c in ("random-brain-tuned", "pretrained")
    )
    change, opacity = cortex.to_vertices(tuned - before), explorer.source.opacity("P1")
    image = view_image(fs_lr())
    at = image.vertex[::-1]
    painted = colours(explorer)
    warmth = painted[..., 0] - painted[..., 2]
    end = np.nanpercentile(np.abs(change), 99)
    clear = (at >= 0) & (opacity[at] == 1)
    assert warmth[clear & (change[at] > 0.5 * end)].mean() > 30 > -10 > warmth[clear & (change[at] < -0.5 * end)].mean()
    explorer.minus.value = NOBODY
    assert explorer.brain.scale["label"] == "alignment (r over noise ceiling)"


def test_a_click_chooses_the_region_there_and_shows_its_course_and_scores(explorer):
    explorer.brain.clicked = pixel_of("PGi")
    assert explorer.place.name == explorer.region.value == "PGi (left)"
    course = explorer.source.course("P1", explorer.run, 2, explorer.place)
    measured, predicted = explorer.brain.course["lines"]
    assert measured["values"] == course["measured"].tolist() and predicted["values"] == course["predicted"].tolist()
    r = course["measured"].corr(course["predicted"])
    assert predicted["name"] == f"predicted, random-brain-tuned: r = {r:.2f}"
    scores = explorer.source.scores("P1", explorer.place)
    lines = {line["name"]: line["values"] for line in explorer.brain.scores["lines"]}
    assert lines == {c: rows["alignment"].tolist() for c, rows in scores.groupby("condition")}
    assert [line["name"] for line in explorer.brain.scores["lines"] if line["chosen"]] == ["random-brain-tuned"]
    assert explorer.brain.note.startswith("drawn in ")


def test_a_click_off_the_cortex_or_where_nothing_is_known_changes_nothing(explorer):
    before = explorer.place
    for where in ([0.0, 0.0, 1.0], [1.0, 1.0, 2.0], pixel_of("V2")):
        explorer.brain.clicked = where
        assert explorer.place is before


def test_a_voxel_can_be_chosen_and_is_marked_by_a_circle(explorer):
    explorer.pick.value = "voxel"
    explorer.brain.clicked = pixel_of("PGi")
    assert explorer.place.name.startswith("voxel ") and explorer.place.voxels.sum() == 1
    assert "a3,3" in explorer.brain.chosen


def test_a_place_without_a_voxel_in_use_says_so_and_shows_no_course(explorer):
    explorer.region.value = "A5 (right)"
    assert explorer.brain.note == "A5 (right) of P1: no voxel has a sufficient noise ceiling, expected some"
    assert explorer.brain.course["time"] == []
    explorer.region.value = "A5 (left)"
    assert explorer.brain.note.startswith("drawn in") and len(explorer.brain.course["time"]) == 18


def test_two_conditions_are_compared_in_the_course_too(explorer):
    explorer.minus.value = "pretrained"
    names = [line["name"].split(":")[0] for line in explorer.brain.course["lines"]]
    assert names == ["measured", "predicted, random-brain-tuned", "predicted, pretrained"]


def test_the_sound_is_that_of_the_story_and_is_sent_once(explorer):
    audio, rate = soundfile.read(BytesIO(explorer.brain.sound))
    np.testing.assert_allclose(audio, explorer.source.sound("winter")[0], atol=1e-4)
    assert rate == 16_000 and explorer.brain.course["words"][0] == [1.0, 1.5, "and"]
    sent = []
    explorer.brain.observe(sent.append, "sound")
    explorer.condition.value = "pretrained"
    assert not sent


def test_another_model_appears_among_the_backbones(explorer, folder):
    explorer.model.value = str(folder / "whisper")
    explorer.add.click()
    assert explorer.backbone.value == "whisper" and explorer.run.condition == "pretrained"
    assert "whisper, pretrained" in explorer.brain.title
    explorer.backbone.value = "small"
    assert explorer.condition.value == "pretrained" and "small, pretrained" in explorer.brain.title
    explorer.model.value = "no-such/model"
    explorer.add.click()
    assert "no-such/model" in explorer.brain.note


def test_another_study_is_shown_by_its_tables(explorer, monkeypatch):
    monkeypatch.delenv("BRAINTUNING_FIGURES")
    explorer.study.options = [*explorer.study.options, "demo-full"]
    explorer.study.value = "demo-full"
    assert explorer.add.disabled and "SIM02" in explorer.participant.options
    assert explorer.brain.course["time"] == [] and explorer.brain.sound == b""
    explorer.brain.clicked = pixel_of("A1")
    assert explorer.place.name == "Primary auditory cortex"
    explorer.quantity.value = "noise ceiling"
    assert "only tables" in explorer.brain.note
    explorer.brain.note = ""
    explorer.brain.clicked = pixel_of("A1")
    assert "only tables" in explorer.brain.note


@pytest.fixture
def served(explorer, tmp_path):
    """Address of a page with what the explorer shows."""
    explorer.region.value = "A5 (left)"
    brain_page.write_page(tmp_path / "page", explorer.brain)

    with chromium.served(tmp_path / "page") as address:
        yield f"{address}/index.html"


def test_the_front_draws_what_it_is_given_and_says_where_it_was_clicked(served, explorer, tmp_path):
    (tmp_path / "browser").mkdir()
    with chromium.page(tmp_path / "browser", 1200, 1000) as page:
        page.open(served)
        chromium.wait_for(lambda: page.evaluate("window.ready && document.querySelector('img').naturalWidth"), 60)
        assert page.evaluate("document.querySelector('.bt-head').textContent") == explorer.brain.title
        assert page.evaluate("document.querySelectorAll('path.region').length") == len(
            explorer.brain.outlines["regions"]
        )
        words = page.evaluate("[...document.querySelectorAll('.bt-words text')].map((one) => one.textContent)")
        assert words[:3] == ["and", "then", "and"] and len(words) >= 23
        across, down, _ = pixel_of("PGi")
        box = "const b = document.querySelector('.bt-map img').getBoundingClientRect();"
        box += "return [b.left, b.top, b.width, b.height]"
        left, top, width, height = page.evaluate(f"(() => {{ {box} }})()")
        page.click(left + across * width, top + down * height)
        where = chromium.wait_for(lambda: page.evaluate("window.saved"), 10)
        assert where[:2] == pytest.approx([across, down], abs=3 / height)
        explorer.brain.clicked = where
        assert explorer.place.name == "PGi (left)"
        page.evaluate("window.model.set('title', 'another'); window.model.set('chosen', 'M-100,-50L-50,-50L-50,0Z')")
        assert page.evaluate("document.querySelector('.bt-head').textContent") == "another"
        assert page.evaluate("document.querySelector('.chosen').getAttribute('d')") == "M-100,-50L-50,-50L-50,0Z"
        page.evaluate("document.querySelector('.bt-course').scrollIntoView()")
        box = box.replace(".bt-map img", ".bt-course svg")
        left, top, width, height = page.evaluate(f"(() => {{ {box} }})()")
        page.click(left + 0.5 * width, top + 0.05 * height)
        chromium.wait_for(lambda: page.evaluate("document.querySelector('audio').currentTime > 20"), 20)
