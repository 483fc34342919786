import base64
import json
import re
import shutil
import time
from io import BytesIO
from pathlib import Path

import chromium
import numpy as np
import pytest
import soundfile
import tiny
from braintuning.alignment.features import extract_features
from braintuning.alignment.mask import used_voxels
from braintuning.explore import listen
from braintuning.explore.listen import Film, Listener, predict_cortex
from braintuning.explore.results import Results
from braintuning.explore.widget import Explorer
from braintuning.pipeline.steps import load_encoder
from braintuning.results import load_arrays
from braintuning.study import Run
from PIL import Image
from tiny import TRAIN, closed_form, refused

RUN, LAYER = Run("small", "pretrained"), 1
SOUND = tiny.sound(77, 9.0).astype(np.float32)


@pytest.fixture
def source(study):
    return Results(study)


def standard(rows):
    return (rows - rows.mean(axis=0)) / rows.std(axis=0)


def test_predictions_are_those_of_a_ridge_in_closed_form(source, study):
    """Delays 1 and 2, one penalty of 10; a sound of 9 s has five volumes of 2 s, and two more until the delays end."""
    used, features = used_voxels(study, "P1"), load_arrays(study.features_file(RUN))
    stories = {story: features[story][LAYER].astype(np.float64) for story in TRAIN}
    means = np.mean([rows[2:].mean(axis=0) for rows in stories.values()], axis=0)
    deviations = np.mean([rows[2:].std(axis=0) for rows in stories.values()], axis=0)

    def delayed(rows):
        return np.concatenate([rows[1:-1], rows[:-2]], axis=1)

    scaled = {s: (rows - rows[2:].mean(axis=0)) / rows[2:].std(axis=0) for s, rows in stories.items()}
    x = np.concatenate([delayed(scaled[story]) for story in TRAIN])
    y = np.concatenate([standard(source.dataset.responses("P1", story).astype(float)[:, used]) for story in TRAIN])
    times = np.array([1.0, 3.0, 5.0, 7.0, 9.0, 11.0, 13.0])
    inside = times < 9
    new = extract_features(load_encoder(study, RUN), SOUND, times[inside], 2.0, study.features)[LAYER]
    rows = np.zeros((2 + len(times), new.shape[1]))
    rows[2 : 2 + inside.sum()] = (new - means) / deviations
    found = predict_cortex(source, "P1", RUN, LAYER, SOUND)
    np.testing.assert_allclose(found.times, times)
    np.testing.assert_allclose(found.values[:, used], delayed(rows) @ closed_form(x, y, 10.0), atol=2e-3)
    assert np.isnan(found.values[:, ~used]).all()
    assert (found.values[0, used] == 0).all() and (found.values[1:6, used] != 0).all()


def test_sounds_and_studies_that_cannot_be_are_named(source):
    refused(lambda: predict_cortex(source, "P1", RUN, LAYER, SOUND[:16_000]), "found 1.0 s", "2 to 180 s")
    refused(lambda: predict_cortex(source, "P1", RUN, LAYER, np.zeros(200 * 16_000, np.float32)), "found 200.0 s")
    source.dataset.filters_stories = True
    refused(lambda: predict_cortex(source, "P1", RUN, LAYER, SOUND), "tiny", "filtered as a whole")


def test_a_new_sound_is_read_where_the_dataset_reads_its_volumes_whatever_the_study_says(source):
    other = source.study.dataset.model_copy(update={"row_offset": 0.25})
    source.study = source.study.model_copy(update={"dataset": other})
    assert predict_cortex(source, "P1", RUN, LAYER, SOUND).times[0] == 1.0


@pytest.fixture
def film(source):
    return Film(source, "P1", predict_cortex(source, "P1", RUN, LAYER, SOUND), SOUND, "A <sound> & more")


def test_a_frame_between_two_volumes_lies_between_theirs(film):
    first, middle, last = (np.asarray(film.frame(time)).astype(int) for time in (3.0, 4.0, 5.0))
    map_ = slice(0, len(first) - listen.BAR)
    assert (first[map_] != last[map_]).any()
    assert np.abs(first[map_] + last[map_] - 2 * middle[map_]).mean() < 0.5 * np.abs(first[map_] - last[map_]).mean()
    np.testing.assert_array_equal(np.asarray(film.frame(-5.0))[map_], np.asarray(film.frame(0.0))[map_])
    assert np.asarray(film.frame(99.0)).shape == first.shape and first.shape[1] == 1000


def test_the_page_has_a_frame_a_volume_and_the_sound_and_asks_for_nothing(film):
    page = film.page()
    assert "<title>A &lt;sound&gt; &amp; more</title>" in page and not re.search(r"https?://", page)
    facts = json.loads(re.search(r'type="application/json">(.*?)</script>', page)[1])
    frames = [Image.open(BytesIO(base64.b64decode(frame))) for frame in facts["frames"]]
    assert len(frames) == len(facts["times"]) == 7 and frames[0].size[0] == 1000
    audio, rate = soundfile.read(BytesIO(base64.b64decode(facts["sound"])))
    assert rate == 16_000
    np.testing.assert_allclose(audio, SOUND, atol=1e-4)


def test_a_sound_may_be_called_as_the_page_calls_its_parts(film):
    film.title = "FACTS"
    assert "<title>FACTS</title>" in film.page()


def test_a_browser_plays_the_film_with_the_sound_and_beyond(film, tmp_path):
    (tmp_path / "film.html").write_text(film.page())
    with chromium.page(tmp_path / "b", flags=("--autoplay-policy=no-user-gesture-required",)) as page:
        page.open((tmp_path / "film.html").as_uri())
        chromium.wait_for(lambda: page.evaluate("window.ready"), 60)
        first = page.screenshot()
        page.evaluate("audio.currentTime = 6")
        chromium.wait_for(lambda: page.evaluate("Math.abs(window.shown - 2.5) < 0.05"), 20)
        assert (page.screenshot() != first).any()
        page.evaluate("audio.currentTime = 8.8; void audio.play()")
        chromium.wait_for(lambda: page.evaluate("audio.ended && window.shown > 5.9"), 60)


def test_an_mp4_is_what_ffmpeg_makes_of_frames_and_sound(film, tmp_path, monkeypatch):
    """A program that says what it was given stands in for ffmpeg."""
    program = tmp_path / "bin" / "ffmpeg"
    program.parent.mkdir()
    program.write_text('#!/bin/sh\nfor last; do :; done\necho "$@" > "$last"\nls "$(dirname "$7")" >> "$last"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    said = film.write_mp4(tmp_path / "film.mp4").read_text()
    assert said.count(".png\n") == 65 and "sound.wav" in said and "libx264" in said
    program.write_text("#!/bin/sh\necho no such codec >&2\nexit 1\n")
    refused(lambda: film.write_mp4(tmp_path / "other.mp4"), "other.mp4: ffmpeg failed", "no such codec")
    program.unlink()
    monkeypatch.setenv("PATH", str(program.parent))
    refused(lambda: film.write_mp4(tmp_path / "other.mp4"), "found no ffmpeg", "`page` needs none")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bin", "film.mp4"]


def test_a_real_ffmpeg_makes_a_film(film, tmp_path):
    if shutil.which("ffmpeg") is None:
        pytest.skip("no ffmpeg on this machine")
    content = film.write_mp4(tmp_path / "film.mp4").read_bytes()
    assert content[4:8] == b"ftyp" and len(content) > 20_000


def test_the_panel_predicts_what_it_hears_by_the_explorers_choice(folder, study):
    explorer = Explorer(str(folder / "tiny.yaml"))
    explorer.layer.value = LAYER
    listener = Listener(explorer)
    listener.recorder.name = "mine.wav"
    listener.recorder.samples = np.rint(32767 * SOUND).astype(np.int16).tobytes()
    assert "mine.wav: cortex of P1 predicted by small, pretrained, layer 1" in listener.film.title
    expected = predict_cortex(explorer.source, "P1", RUN, LAYER, SOUND).values
    np.testing.assert_allclose(listener.film.prediction.values, expected, atol=0.02)
    assert listener._shown.value.startswith("<iframe srcdoc=") and listener._said.value == "mine.wav: 7 TRs predicted"
    listener.recorder.samples = b"\0\0" * 16_000
    assert listener._said.value == "sound: found 1.0 s, expected 2 to 180 s"


PAGE = """<!doctype html><meta charset="utf-8"><title>recorder</title><div id="el"></div><script type="module">
import recorder from "./recorder.js";
const state = {};
const set = (name, value) => { state[name] = value; };
window.model = { get: (name) => state[name], set, save_changes: () => { window.saved = state; } };
recorder.render({ model: window.model, el: document.getElementById("el") });
window.heard = () => {
  const samples = new Int16Array(state.samples.buffer);
  return [samples.length, Math.max(...samples), state.name];
};
window.ready = true;
</script>"""


@pytest.fixture
def recorder(tmp_path):
    """Address of a page with the recorder and a stereo wav of 44.1 kHz beside it, 1.5 s, of which one is silent."""
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "index.html").write_text(PAGE)
    shutil.copy(Path(listen.__file__).with_name("recorder.js"), tmp_path / "page")
    tone = np.sin(2 * np.pi * 300 * np.arange(66_150) / 44_100)
    soundfile.write(tmp_path / "page" / "tone.wav", np.stack([0.5 * tone, 0.0 * tone], axis=1), 44_100)

    with chromium.served(tmp_path / "page") as address:
        yield f"{address}/index.html"


OPEN = """(async () => {
  const blob = await (await fetch("%s")).blob(), files = new DataTransfer(), input = document.querySelector("input");
  files.items.add(new File([blob], "%s"));
  input.files = files.files;
  input.onchange();
})(), 0"""


def test_a_file_or_the_microphone_arrives_as_one_channel_at_16_khz(recorder, tmp_path):
    flags = ("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    with chromium.page(tmp_path / "b", flags=flags) as page:
        page.open(recorder)
        chromium.wait_for(lambda: page.evaluate("window.ready"), 60)
        page.evaluate(OPEN % ("tone.wav", "tone.wav"))
        chromium.wait_for(lambda: page.evaluate("window.saved"), 30)
        n_samples, highest, name = page.evaluate("window.heard()")
        assert abs(n_samples - 24_000) < 20 and name == "tone.wav"
        assert highest == pytest.approx(0.25 * 32767, rel=0.02)
        page.evaluate("window.saved = null")
        page.evaluate(OPEN % ("recorder.js", "words.txt"))
        said = "document.querySelector('span').textContent"
        chromium.wait_for(lambda: "words.txt: not a sound" in page.evaluate(said), 30)
        page.evaluate("document.querySelector('button').click()")
        chromium.wait_for(lambda: page.evaluate("document.querySelector('button').textContent") == "stop", 30)
        time.sleep(2.5)
        page.evaluate("document.querySelector('button').click()")
        chromium.wait_for(lambda: page.evaluate("window.saved"), 30)
        n_samples, highest, name = page.evaluate("window.heard()")
        assert 24_000 < n_samples < 120_000 and highest > 500 and name == "your recording"
