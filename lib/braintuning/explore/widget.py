"""The panel of `explore`: choices above a flat map that is clicked, with scores, time course and sound of a place."""

import io
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import anywidget
import ipywidgets
import numpy as np
import soundfile
import traitlets
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_hex

from braintuning.cortex.colours import DIFFERENCE, SEQUENTIAL, limits
from braintuning.cortex.raster import view_image
from braintuning.cortex.surface import Surface
from braintuning.errors import InputError
from braintuning.explore.flat import drawn_outlines, jpeg, marked, picture
from braintuning.explore.results import QUANTITIES, open_source, with_results
from braintuning.explore.tables import Place
from braintuning.figures.style import looks_of
from braintuning.study import Run, given_name, load_study
from braintuning.timing import SAMPLE_RATE

NOBODY = "nothing"


class Brain(anywidget.AnyWidget):
    """What is seen, in the browser: `brain.js` draws each trait when it changes, and says where it was `clicked`.

    `clicked` is from the left and from the top of the map, as shares of its width and height, and a time.
    """

    _esm = Path(__file__).with_name("brain.js")
    _css = Path(__file__).with_name("brain.css")
    title = traitlets.Unicode().tag(sync=True)
    image = traitlets.Bytes().tag(sync=True)
    outlines = traitlets.Dict({"box": [0, 0, 1, 1], "text": 1, "regions": [], "names": []}).tag(sync=True)
    chosen = traitlets.Unicode().tag(sync=True)
    scale = traitlets.Dict({"colours": ["#fff", "#fff"], "label": "", "low": "", "high": ""}).tag(sync=True)
    scores = traitlets.Dict({"title": "", "lines": [], "layer": 0}).tag(sync=True)
    course = traitlets.Dict({"time": [], "lines": [], "words": [], "start": 0}).tag(sync=True)
    sound = traitlets.Bytes().tag(sync=True)
    note = traitlets.Unicode().tag(sync=True)
    clicked = traitlets.List().tag(sync=True)


class Explorer(ipywidgets.VBox):
    """A panel over the results of a study; show it as the last line of a cell.

    Parameters
    ----------
    study : str
        Name in `data/studies`, or path of a YAML file. Of one without results here its committed tables are shown.
    root : str, optional
        Folder of the dataset, instead of the study's.
    device : str
        `cpu` or `cuda`, for encoding models that are not there yet and for models that are added.

    Attributes
    ----------
    brain : Brain
    source : Tables
        Where everything comes from; `Results` where there are such.
    place : Place
        What was chosen last.
    seconds : float
        How long the kernel took for the last change.
    """

    def __init__(self, study: str = "demo", root: str | None = None, device: str = "cpu") -> None:
        self.brain, self.device, self.seconds, self._settling = Brain(), device, 0.0, True
        self._root, self._drawn = {study: root}, {}
        wide, narrow = ({"layout": {"width": width}} for width in ("330px", "250px"))
        studies = list(dict.fromkeys([study, *with_results()]))
        self.study = ipywidgets.Dropdown(options=studies, description="study", **wide)
        self.participant = ipywidgets.Dropdown(description="participant", **narrow)
        self.backbone = ipywidgets.Dropdown(description="backbone", **narrow)
        self.condition = ipywidgets.Dropdown(description="condition", **wide)
        self.minus = ipywidgets.Dropdown(description="minus", **narrow)
        self.layer = ipywidgets.IntSlider(description="layer", min=0, max=99, **narrow)
        self.quantity = ipywidgets.Dropdown(options=QUANTITIES, description="shown", **wide)
        self.region = ipywidgets.Combobox(description="region", placeholder="click the map, or type", **narrow)
        self.pick = ipywidgets.ToggleButtons(options=["region", "voxel"], description="a click is")
        self.pick.style.button_width = "70px"
        self.model = ipywidgets.Text(description="own model", placeholder="name on the hub, or folder", **wide)
        self.add = ipywidgets.Button(description="compare", tooltip="reads all stories once: minutes")
        first, second = (self.study, self.participant, self.backbone), (self.condition, self.minus, self.layer)
        rows = first, second, (self.quantity, self.region, self.pick), (self.model, self.add)
        super().__init__([*map(ipywidgets.HBox, rows), self.brain])
        for control in (*first, *second, self.quantity):
            control.observe(self._changed, "value")
        self.region.observe(self._named, "value")
        self.brain.observe(self._clicked, "clicked")
        self.add.on_click(self._added)
        self._open()

    @property
    def run(self) -> Run:
        """The model that is chosen."""
        return self._run(self.condition.value)

    def _run(self, condition: str) -> Run:
        of_participant = [run for person, run in self.source.models if person == self.participant.value]
        return next(r for r in of_participant if (r.backbone, r.condition) == (self.backbone.value, condition))

    def _open(self) -> None:
        """Read the chosen study and show what it has."""
        name = self.study.value
        self.source = open_source(load_study(name, self._root.get(name)), self.device)
        self._settling = True
        people = list(dict.fromkeys(person for person, _ in self.source.models))
        _offer(self.participant, people, next((p for p in people if (self.source.surface(p)[1] != "").any()), None))
        self.add.disabled = self.model.disabled = not self.source.has_courses
        self._settle()
        self._settling, self.layer.value = True, self.source.study.figures.layer % (self.layer.max + 1)
        person = self.participant.value
        places = (self.source.place(person, name) for name in self.source.names(person))
        self._choose(next(place for place in places if len(self.source.scores(person, place))))

    def _settle(self) -> None:
        """Offer what there is of the choices above; the panel is not drawn meanwhile."""
        self._settling, person = True, self.participant.value
        mine = [run for owner, run in self.source.models if owner == person]
        _offer(self.backbone, list(dict.fromkeys(run.backbone for run in mine)))
        conditions = [run.condition for run in mine if run.backbone == self.backbone.value]
        tuned = [c for c in conditions if self.source.study.base(c) in ("brain-tuned", "multi-brain-tuned")]
        _offer(self.condition, conditions, next(iter(tuned), None))
        _offer(self.minus, [NOBODY, *conditions])
        self.layer.max = self.source.n_layers(person, self.run) - 1
        self.region.options = self.source.names(person)
        self._settling = False

    def _changed(self, change: dict) -> None:
        if self._settling:
            return
        try:
            if change["owner"] is self.study:
                return self._open()
            if change["owner"] in (self.participant, self.backbone):
                self._settle()
                names = self.region.options
                return self._named({"new": self.place.name if self.place.name in names else names[0]})
            self.draw()
        except InputError as error:
            self.brain.note = str(error)

    def _named(self, change: dict) -> None:
        if change["new"] in self.region.options and not self._settling:
            self._choose(self.source.place(self.participant.value, change["new"]))

    def _clicked(self, change: dict) -> None:
        person, (across, down, _) = self.participant.value, change["new"]
        at = view_image(self.source.surface(person)[0]).vertex
        row, column = (int(np.clip(k * n, 0, n - 1)) for k, n in zip((1 - down, across), at.shape, strict=True))
        place = self.source.place_at(person, int(at[row, column]), self.pick.value == "voxel")
        if place and at[row, column] >= 0:
            self._choose(place)

    def _added(self, _: ipywidgets.Button) -> None:
        try:
            with heard(self._say):
                run = self.source.add_model(self.model.value.strip(), self.participant.value)
            self._settle()
            self._settling, self.backbone.value = True, run.backbone
            self._settle()
            self.draw()
        except InputError as error:
            self.brain.note = str(error)
        finally:
            self._settling = False

    def _choose(self, place: Place) -> None:
        self.place, self._settling = place, True
        self.region.value, self._settling = place.name, False
        self._changed({"owner": self.region})

    def _say(self, text: str) -> None:
        self.brain.note = text

    def draw(self) -> None:
        """Show what is chosen: the map at once, the time course when its encoding model is there."""
        began, person, run, layer = time.perf_counter(), self.participant.value, self.run, self.layer.value
        surface, labels = self.source.surface(person)
        key = surface.name, labels.tobytes()
        if key not in self._drawn:
            self._drawn[key] = drawn_outlines(surface, labels)
        with self.brain.hold_sync():
            self.brain.outlines = self._drawn[key]
            self._draw_map(surface, person, run, layer)
            self._draw_scores(person, run, layer)
        with heard(self._say):
            self._draw_course(person, run, layer)
        self.seconds = time.perf_counter() - began
        if not self.brain.note:
            self.brain.note = f"drawn in {self.seconds:.2f} s"

    def _draw_map(self, surface: Surface, person: str, run: Run, layer: int) -> None:
        quantity, minus = self.quantity.value, self.minus.value
        values, label, source = self.source.values(person, run, layer, quantity), quantity, self.source
        ends = (0.0, source.highest(person, quantity))
        difference = minus != NOBODY and quantity != "noise ceiling"
        if difference:
            values = values - source.values(person, self._run(minus), layer, quantity)
            label = f"{quantity}, {run.condition} minus {minus}"
            ends = limits(surface, values, None, None, True) if np.isfinite(values).any() else (-1.0, 1.0)
        label += {"alignment": " (r over noise ceiling)", "correlation": " (r)"}.get(quantity, "")
        scale = ScalarMappable(Normalize(*ends), DIFFERENCE if difference else SEQUENTIAL)
        opacity = source.opacity(person)
        self.brain.image = jpeg(picture(surface, values, scale, opacity))
        note = "" if opacity is None else "grey: below the noise ceiling's threshold"
        note = note if np.isfinite(values).any() else "where these regions lie is not known: choose them by name"
        colours = [to_hex(scale.cmap(share)) for share in np.linspace(0, 1, 12)]
        low, high = (f"{end:.2f}" for end in ends)
        self.brain.scale = {"colours": colours, "label": label, "low": low, "high": high, "note": note}
        weights = "" if quantity == "noise ceiling" else f", {run.backbone}, {run.condition}, layer {layer}"
        self.brain.title = f"{source.study.title}: {person}{weights}"

    def _draw_scores(self, person: str, run: Run, layer: int) -> None:
        table = self.source.scores(person, self.place)
        lines, colours = [], looks_of(list(table["condition"].unique()))
        own = table[table["backbone"] == run.backbone]
        for condition, rows in own.groupby("condition", sort=False):
            look = {"name": condition, "colour": colours[condition].colour, "chosen": condition == run.condition}
            lines.append(look | {"values": [float(v) if np.isfinite(v) else None for v in rows["alignment"]]})
        self.brain.scores = {"title": f"alignment of {self.place.name}", "lines": lines, "layer": layer}
        self.brain.chosen = marked(self.source.surface(person)[0], self.place.vertices)

    def _draw_course(self, person: str, run: Run, layer: int) -> None:
        nothing = {"time": [], "lines": [], "words": [], "start": 0}
        if not self.source.has_courses:
            self.brain.course, self.brain.sound = nothing, b""
            made = f"make figures STUDY={given_name(self.source.study)}"
            self.brain.note = f"Groups of regions, from the committed table; `{made}` makes voxels and time courses."
            return
        minus, lines, colours = self.minus.value, [], looks_of([run.condition, self.minus.value])
        try:
            for condition in dict.fromkeys([run.condition, *([minus] if minus != NOBODY else [])]):
                found = self.source.course(person, self._run(condition), layer, self.place)
                r = found["measured"].corr(found["predicted"])
                name = f"predicted, {condition}: r = {r:.2f}"
                lines.append({"name": name, "colour": colours[condition].colour, "values": found["predicted"].tolist()})
        except InputError as error:
            self.brain.course, self.brain.note = nothing, str(error)
            return
        self.brain.note = ""
        measured = {"name": "measured", "colour": "#000000", "values": found["measured"].tolist()}
        story, audio, words = self._sound(person)
        spoken = {"story": story, "start": words[0][0] if words else 0.0, "words": words, "title": self.place.name}
        self.brain.course = {"time": found["time"].tolist(), "lines": [measured, *lines], **spoken}
        if self.brain.sound != audio:
            self.brain.sound = audio

    def _sound(self, person: str) -> tuple[str, bytes, list]:
        """Story, its sound as FLAC, and its words."""
        story = self.source.study.stories_for(person).test[0]
        if (self.source.study.name, story) not in self._drawn:
            audio, words = self.source.sound(story)
            file = io.BytesIO()
            soundfile.write(file, np.clip(audio, -1, 1), SAMPLE_RATE, format="FLAC", subtype="PCM_16")
            spoken = [[word.start, word.end, word.label] for word in words]
            self._drawn[self.source.study.name, story] = file.getvalue(), spoken
        return story, *self._drawn[self.source.study.name, story]


def _offer(control: ipywidgets.Dropdown, options: list[str], first: str | None = None) -> None:
    """Give a menu its entries, and keep what was chosen where it is among them; else `first`, or the first."""
    kept = control.value if control.value in options else first if first in options else options[0]
    control.options = options
    control.value = kept


@contextmanager
def heard(say: Callable[[str], object]) -> Iterator[None]:
    """Call `say` with every event that the library logs meanwhile."""
    logger, handler = logging.getLogger("braintuning"), logging.Handler()
    handler.emit = lambda record: say(record.getMessage())
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
