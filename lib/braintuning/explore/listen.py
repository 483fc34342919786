"""Cortex predicted from any sound, and a film of it."""

import base64
import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import anywidget
import ipywidgets
import numpy as np
import traitlets
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from PIL import Image, ImageDraw, ImageFont

from braintuning import timing
from braintuning.alignment.correlation import moments
from braintuning.alignment.encoding import design_matrix, predict, standard_responses
from braintuning.alignment.features import extract_features
from braintuning.cortex.colours import DIFFERENCE
from braintuning.datasets.audio import write_wav
from braintuning.errors import InputError
from braintuning.explore.flat import jpeg, lines_in_pixels, picture
from braintuning.explore.results import Results
from braintuning.explore.widget import Explorer, heard
from braintuning.pipeline.steps import load_encoder
from braintuning.results import atomic_path, generator
from braintuning.study import Run

SHORTEST, LONGEST = 2.0, 180.0
FRAMES_A_SECOND = 5
WIDTH = 1000
BAR = 46
"""Pixels below the map for its scale and the time."""
PAGE = Path(__file__).with_name("film.html")


class Prediction(NamedTuple):
    """What a participant's cortex is expected to do: `times` (TRs,) in seconds after the sound's start, `values`.

    `values`, (TRs, voxels) float32, are z-scores relative to listening to the stories; NaN in voxels not in use.
    """

    times: np.ndarray
    values: np.ndarray


def predict_cortex(source: Results, participant: str, run: Run, layer: int, audio: np.ndarray) -> Prediction:
    """Responses to a sound that nobody heard, by encoding models of a layer fitted to the training stories.

    Features are standardised as those of the training stories were, by the mean of their means and deviations; before
    and after the sound they have the mean, so that 0 is the response to the stories on average. The film goes on for as
    long as the delays reach.

    Parameters
    ----------
    audio : (samples,) float32
        Mono, 16 kHz.

    Raises
    ------
    InputError
        A sound shorter than 2 s or longer than 180, or a dataset whose responses were filtered over the whole story,
        which a sound of its own cannot be.
    """
    study, seconds = source.study, len(audio) / timing.SAMPLE_RATE
    if not SHORTEST <= seconds <= LONGEST:
        raise InputError(f"sound: found {seconds:.1f} s, expected {SHORTEST:g} to {LONGEST:g} s")
    stories, settings = study.stories_for(participant), study.encoding
    fitted, lead = stories.train or stories.test, max(settings.delays)
    if source.dataset.filters_stories:
        raise InputError(f"study {study.name}: its responses are filtered as a whole, expected a study without that")
    tr = timing.spacing(source.dataset.tr_times(participant, fitted[0]))
    times = (np.arange(int(np.ceil(seconds / tr)) + lead) + source.dataset.row_offset) * tr
    inside = times < seconds
    encoder = load_encoder(study, run).to(source.device)
    new = extract_features(encoder, audio.astype(np.float32), times[inside], tr, study.features, source.device)[layer]
    compared = source.compared(participant, run, layer)
    known = {story: compared.features[story][0] for story in fitted}
    mean, deviation = np.mean([moments(known[story][lead:]) for story in fitted], axis=0)
    standard = np.zeros((len(times), new.shape[1]), np.float32)
    standard[inside] = (new - mean) / deviation
    train_x = np.concatenate([design_matrix(known[story], settings.delays) for story in fitted])
    train_y = standard_responses(compared.responses, fitted)
    test_x, rng = timing.delay(standard, settings.delays), generator(settings.seed, "splits")
    values = np.full((len(times), len(compared.used)), np.nan, np.float32)
    values[:, compared.used] = predict(train_x, train_y, test_x, settings, rng, source.device)
    return Prediction(times, values)


class Film:
    """Flat maps of a prediction, a frame at each of its times.

    Parameters
    ----------
    source, participant, prediction
        Of `predict_cortex`.
    audio : (samples,) float32
        What is heard with it.
    title : str
        Stands above the film.
    """

    def __init__(
        self, source: Results, participant: str, prediction: Prediction, audio: np.ndarray, title: str
    ) -> None:
        self.prediction, self.audio, self.title = prediction, audio, title
        self._cortex, (self._surface, self._labels) = source.dataset.cortex(participant), source.surface(participant)
        self._opacity = source.opacity(participant)
        end = float(np.nanpercentile(np.abs(prediction.values), 99.5)) or 1.0
        self._scale = ScalarMappable(Normalize(-end, end), DIFFERENCE)
        self._lines = lines_in_pixels(self._surface, self._labels)

    def frame(self, time: float) -> Image.Image:
        """The map at a time in seconds, between the two TRs around it in proportion, with its scale; 1000 wide."""
        times, values = self.prediction
        place = float(np.clip(np.interp(time, times, np.arange(len(times))), 0, len(times) - 1))
        before, share = int(place), place % 1
        now = values[before] * (1 - share) + (values[min(before + 1, len(values) - 1)] * share if share else 0)
        whole = picture(self._surface, self._cortex.to_vertices(now), self._scale, self._opacity)
        pen = ImageDraw.Draw(whole)
        for ink, width in (("#111111", 4), (None, 2)):
            for colour, points in self._lines:
                pen.line(points, fill=ink or colour, width=width)
        map_ = whole.resize((WIDTH, 2 * round(whole.height * WIDTH / whole.width / 2)), Image.Resampling.LANCZOS)
        page = Image.new("RGB", (WIDTH, map_.height + BAR), "white")
        page.paste(map_)
        self._draw_scale(page, map_.height, time)
        return page

    def _draw_scale(self, page: Image.Image, top: int, time: float) -> None:
        pen, font, end = ImageDraw.Draw(page), ImageFont.load_default(18), self._scale.norm.vmax
        steps = np.linspace(0, 1, 200)
        bar = (255 * self._scale.cmap(steps)[None, :, :3]).astype(np.uint8).repeat(14, axis=0)
        page.paste(Image.fromarray(bar), (400, top + 14))
        pen.text((15, top + 10), "predicted response (z)", "black", font)
        pen.text((392, top + 10), f"{-end:.2f}", "black", font, anchor="ra")
        pen.text((608, top + 10), f"{end:.2f}", "black", font)
        seconds = len(self.audio) / timing.SAMPLE_RATE
        after = "" if time <= seconds else " (the sound is over)"
        pen.text((WIDTH - 15, top + 10), f"{time:.1f} s{after}", "black", font, anchor="ra")

    @property
    def seconds(self) -> float:
        """Length of the film."""
        return float(self.prediction.times[-1])

    def page(self) -> str:
        """The film as a page of HTML by itself, with its sound; frames at the TRs, faded into each other."""
        frames = [base64.b64encode(jpeg(self.frame(time))).decode() for time in self.prediction.times]
        with TemporaryDirectory() as folder:
            write_wav(Path(folder) / "sound.wav", np.clip(self.audio, -1, 1), timing.SAMPLE_RATE)
            sound = base64.b64encode((Path(folder) / "sound.wav").read_bytes()).decode()
        facts = {"times": self.prediction.times.tolist(), "seconds": self.seconds, "frames": frames, "sound": sound}
        filled = {"TITLE": html.escape(self.title), "FACTS": json.dumps(facts)}
        return re.sub("|".join(filled), lambda found: filled[found[0]], PAGE.read_text())

    def write_mp4(self, path: Path) -> Path:
        """Write the film as mp4 (H.264 and AAC, five frames a second); `InputError` without ffmpeg, or if it fails."""
        if shutil.which("ffmpeg") is None:
            raise InputError(f"{path}: found no ffmpeg on this machine, expected it for mp4; `page` needs none")
        with TemporaryDirectory() as folder, atomic_path(Path(path)) as temporary:
            sound = Path(folder) / "sound.wav"
            write_wav(sound, np.clip(self.audio, -1, 1), timing.SAMPLE_RATE)
            for number, time in enumerate(np.arange(0, self.seconds, 1 / FRAMES_A_SECOND)):
                self.frame(time).save(Path(folder) / f"{number:05d}.png", compress_level=1)
            options = ["-framerate", FRAMES_A_SECOND, "-i", Path(folder) / "%05d.png", "-i", sound]
            options += ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-c:a", "aac", "-movflags", "+faststart"]
            command = ["ffmpeg", "-v", "error", "-y", *options, "-f", "mp4", temporary]
            done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
            if done.returncode:
                reason = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
                raise InputError(f"{path}: ffmpeg failed ({reason}), expected a film")
        return Path(path)


class Recorder(anywidget.AnyWidget):
    """Opens a sound file of any kind that the browser plays, or records the microphone.

    `samples` are int16 at 16 kHz, one channel, and `name` says where they come from.
    """

    _esm = Path(__file__).with_name("recorder.js")
    name = traitlets.Unicode().tag(sync=True)
    samples = traitlets.Bytes().tag(sync=True)


class Listener(ipywidgets.VBox):
    """A panel that predicts the cortex of the participant and model that an `Explorer` shows, from any sound.

    Attributes
    ----------
    recorder : Recorder
    film : Film or None
        The last one.
    """

    def __init__(self, explorer: Explorer) -> None:
        self._explorer, self.film, self.recorder = explorer, None, Recorder()
        self._said, self._shown = ipywidgets.Label(), ipywidgets.HTML()
        super().__init__([self.recorder, self._said, self._shown])
        self.recorder.observe(self._heard, "samples")

    def _heard(self, change: dict) -> None:
        self.show(np.frombuffer(change["new"], np.int16).astype(np.float32) / 32768, self.recorder.name)

    def show(self, audio: np.ndarray, name: str) -> None:
        """Predict the response to (samples,) audio at 16 kHz and show the film of it."""
        chosen = self._explorer
        person, run, layer, source = chosen.participant.value, chosen.run, chosen.layer.value, chosen.source
        self._said.value = f"{name}: {len(audio) / timing.SAMPLE_RATE:.1f} s; features and encoding models ..."
        try:
            if not source.has_courses:
                raise InputError(f"study {source.study.name}: only tables are here, expected results to predict from")
            with heard(lambda text: setattr(self._said, "value", text)):
                predicted = predict_cortex(source, person, run, layer, audio)
        except InputError as error:
            self._said.value = str(error)
            return
        title = f"{name}: cortex of {person} predicted by {run.backbone}, {run.condition}, layer {layer}"
        self.film = Film(source, person, predicted, audio, f"{title} ({source.study.title})")
        page = html.escape(self.film.page(), quote=True)
        self._shown.value = (
            f'<iframe srcdoc="{page}" style="width: 100%; max-width: 1040px; height: 560px; border: 0"></iframe>'
        )
        self._said.value = f"{name}: {len(predicted.times)} TRs predicted"
