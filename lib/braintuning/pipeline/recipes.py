"""Recipes: the settings that decide each result, asked by the steps, which store them, and by Snakemake."""

from collections.abc import Iterator, Sequence
from itertools import chain, product
from pathlib import Path
from typing import Any, NamedTuple, get_args

from braintuning.pipeline.pictures import PANELS, amounts, pictures_of
from braintuning.results import fingerprint
from braintuning.study import Run, Study
from braintuning.study.settings import Removal
from braintuning.study.study import TUNED_ON_SEVERAL

FILES = ("kind", "root", "simulation")
CLIPS = ("tr", "unstored_volumes", "sound_starts")
TIMES = (*CLIPS, "row_offset")
REGIONS = ("fsaverage", "coarse_regions")
DISTILLED = ("bigslm-tuned", "lm-tuned")
AIMS = {"random-brain-tuned": "control", "multi-random-brain-tuned": "control", "brain-misaligned": "remove"}
"""What tuning is for where it is not to learn, see `tuning.loop.brain_tune`. Controls have targets that have nothing
to do with what is heard, and show what tuning itself does; brain-misaligned takes out what predicts responses."""


class Recipe(NamedTuple):
    """Settings that decide a result.

    Attributes
    ----------
    stored : dict
        Stand in the result's own recipe as they are.
    behind : dict
        Decide what the result's recipe holds as fingerprints of files, TR times or voxels.
    """

    stored: dict[str, Any]
    behind: dict[str, Any]

    @property
    def fingerprint(self) -> str:
        """Short SHA-256 of all of it."""
        return fingerprint([self.stored, self.behind])


def dataset(study: Study) -> Recipe:
    """That everything which the study names was found and read."""
    named = {"dataset", "participants", "tuned_together", "stories", "lacks", "backbones", "conditions", "variants"}
    named |= {"controls", "tuning", "joint_tuning", "features", "encoding", "preference", "figures"}
    corpora = study.probes.model_dump(include={"corpora", "stand_in_where_absent"})
    low_level = study.low_level.model_dump(exclude={"removal"})
    return Recipe({}, {**study.model_dump(include=named), **corpora, "low_level": low_level})


def ceiling(study: Study, participant: str) -> Recipe:
    """Noise ceiling of a participant."""
    stories = study.stories_for(participant)
    story = (getattr(stories, study.encoding.mask_from) or stories.test)[0]
    skipped = study.encoding.test_skip_rows if story in study.stories.test else 0
    stored = {"participant": participant, "story": story, "skip_rows": skipped, "stories": sorted(stories.all)}
    stored["seed"] = study.encoding.seed
    people = _parcels(study)
    if people:
        side = study.tuned_together if participant in study.tuned_together else study.held_out
        people["people"] = [person for person in side if story in study.stories_for(person).all]
    return Recipe({"stage": "ceiling", **stored, **people}, _of_dataset(study, FILES))


def _parcels(study: Study) -> dict[str, Any]:
    """What of a study decides parcellated responses, and features filtered like them, beside files."""
    if not study.dataset.recordings:
        return {}
    recordings = {name: recording.model_dump() for name, recording in study.dataset.recordings.items()}
    found = {"recordings": recordings, "high_pass_seconds": study.encoding.high_pass_seconds}
    if any(recording.parts for recording in study.dataset.recordings.values()) and study.dataset.row_offset != 0.5:
        found["row_offset"] = study.dataset.row_offset  # when rows are read decides which of them lie in a part
    return found


def aim_of(condition: str) -> str:
    """What tuning a condition is for: see `tuning.loop.brain_tune`."""
    return AIMS.get(condition, "learn")


def tune(study: Study, run: Run) -> Recipe:
    """Weights of a tuned model."""
    stories, base, backbone = study.tuning_stories(run), study.base(run.condition), study.backbones[run.backbone]
    stored = {
        "run": run.name,
        "backbone": backbone.model_dump(exclude=set() if base == "bigslm-tuned" else {"teacher"}),
        "settings": study.tuning_of(run.condition).model_dump(),
        "controls": study.controls.model_dump() if base in DISTILLED else None,
        "train": stories.train,
        "validation": stories.validation,
        "participants": study.tuned_on(run),
        "aim": aim_of(base),
    }
    by_voxels = study.tuned_on(run) or (base in DISTILLED and study.controls.n_targets is None)
    mask = [study.encoding.ceiling_threshold, study.encoding.mask_by]
    head = [mask, study.tuned_on(run) or study.participants[0]] if by_voxels else None
    times = _of_dataset(study, FILES + CLIPS, study.tuned_on(run) or study.participants)
    if base in TUNED_ON_SEVERAL and study.joint_responses != "each":
        stored["joint_responses"] = study.joint_responses
    elif base == "multi-random-brain-tuned":
        stored["permuted"] = "in one order"
    return Recipe({"stage": "tune", **stored, **_parcels(study)}, {**times, "head": head})


def model(study: Study, run: Run) -> Recipe:
    """The model whose layers are read, tuned or as it was pretrained."""
    backbone = study.backbones[run.backbone].model_dump(exclude={"teacher"})
    return Recipe({"run": run.name, "backbone": backbone}, {})


def extract(study: Study, run: Run) -> Recipe:
    """Layer activations of a model on the TR grid."""
    stored = {"settings": study.features.model_dump(exclude={"batch_size"}), "stories": study.encoded_stories}
    behind = {"model": model(study, run).stored, "lead": max(study.encoding.delays)}
    listeners = (run.participant,) if run.participant else study.listeners
    return Recipe(
        {"stage": "extract", **stored, **_parcels(study)}, {**_of_dataset(study, FILES + TIMES, listeners), **behind}
    )


def align(study: Study, participant: str, fitted: Sequence[str] | None = None) -> Recipe:
    """Encoding models of a participant, fitted to some stories (by default all that may fit them)."""
    stories = study.stories_for(participant)
    fitted = stories.train + stories.held_out if fitted is None else fitted
    return _judged(study, participant, "align", fitted, settings=_encoding(study), layer=study.figures.layer)


def nuisance(study: Study, participant: str) -> Recipe:
    """Encoding models of a participant of word rate, envelope and position alone."""
    stories, low_level = study.stories_for(participant), study.low_level_stories(participant)[0]
    fitted = stories.train + stories.held_out
    return _judged(study, participant, "nuisance", fitted, TIMES, settings=_encoding(study), low_level=low_level)


def low_level(study: Study, participant: str) -> Recipe:
    """Alignment of a participant without low-level features."""
    settings = {
        "encoding": _encoding(study),
        "settings": study.low_level.model_dump(exclude={"removal"}),
        "removals": get_args(Removal),
        "layer": study.figures.layer,
    }
    return _judged(study, participant, "low level", study.low_level_stories(participant)[0], **settings)


def _judged(
    study: Study, participant: str, stage: str, fitted: Sequence[str], times: Sequence[str] = (), **more: object
) -> Recipe:
    """Encoding models of a participant that are fitted to some stories and judged on the test story."""
    stored = {"stage": stage, "participant": participant, "fitted": list(fitted), **more}
    stored |= {"test": study.stories_for(participant).test, **_parcels(study)}
    return Recipe(stored, _of_dataset(study, (*FILES, *times, *REGIONS), (participant,)))


def _encoding(study: Study) -> dict[str, Any]:
    """What decides encoding models; permutations test differences when figures are drawn."""
    return study.encoding.model_dump(exclude={"permutations", "permutation_block_rows"})


def low_level_features(study: Study, participant: str) -> Recipe:
    """Low-level features of a participant's stories."""
    train, test = study.low_level_stories(participant)
    stored = {"kinds": study.low_level.features, "train": train, "phones": "Lanczos, from their middles"}
    behind = {"stories": (*train, *test), "lead": max(study.encoding.delays)}
    times = _of_dataset(study, FILES + TIMES, sharing(study, participant))
    return Recipe({"stage": "low-level features", **stored, **_parcels(study)}, {**times, **behind})


def sharing(study: Study, participant: str) -> list[str]:
    """Everyone whose low-level features lie in one file with a participant's."""
    file = study.low_level_features_file(participant)
    return [other for other in study.listeners if study.low_level_features_file(other) == file]


def low_level_alone(study: Study, participant: str) -> Recipe:
    """What low-level features explain of a participant by themselves."""
    stored = {"participant": participant, "settings": _encoding(study)}
    behind = {"stories": study.low_level_stories(participant)}
    return Recipe({"stage": "low-level features alone", **stored}, {**_of_dataset(study, FILES + REGIONS), **behind})


def words(study: Study) -> Recipe:
    """Synthesised words of the study's pairs."""
    stored = {"voices": study.preference.voices, "seed": study.preference.seed}
    return Recipe({"stage": "words", **stored}, {"n_pairs": study.preference.n_pairs})


def preference(study: Study, run: Run, recorded: bool = False) -> Recipe:
    """Similarities of pairs of words in a model, synthesised or recorded ones."""
    stored = {"settings": study.preference.model_dump(exclude={"recordings"})}
    behind = {"model": model(study, run).stored, "recordings": study.preference.recordings if recorded else None}
    return Recipe({"stage": "preference", **stored}, behind)


def probe(study: Study, run: Run, task: str) -> Recipe:
    """Scores of a model on a downstream task."""
    corpus = study.probes.corpora[task] if study.probes.corpus(task) else None
    behind = {"model": model(study, run).stored, "corpus": corpus}
    return Recipe({"stage": "probe", "task": task, "seed": study.probes.seed}, behind)


def leaks(study: Study) -> Recipe:
    """Scores of phonemes in the pretrained model with speakers and prompts kept apart, and mixed."""
    run = Run(study.figure_backbone, "pretrained")
    return Recipe({"stage": "leaks", "seed": study.probes.seed}, {"model": model(study, run).stored})


def figure(study: Study, notebook: str, results: Sequence[Path] | None = None) -> Recipe:
    """A notebook of the study: what it takes from the study, and which results it reads (by default `inputs_of`)."""
    sections = {"encoding", "title", "dataset"}
    sections |= {"low_level"} if notebook in ("fig3", "claims") else set()
    sections |= {"tuning", "features"} if notebook == "fig1" else set()
    drawn = study.figures.model_dump(exclude=set() if notebook == "claims" else {"notebooks"})
    results = inputs_of(study, notebook) if results is None else results
    read = [str(path.relative_to(study.results)) for path in results]
    variants = [name for name in study.variants if study.is_main(name)]
    more = {"variants": variants} if variants else {}
    return Recipe({}, {**study.model_dump(include=sections), "figures": drawn, "read": read, **more})


def _of_dataset(study: Study, keys: Sequence[str], listeners: Sequence[str] = ()) -> dict[str, Any]:
    """Settings of the dataset, of those by name that of `listeners`; simulated responses are made at the TRs' times."""
    found = study.dataset.model_dump(include={*keys, *(TIMES if study.dataset.simulation else ())})
    others = set(study.participants) - set(listeners)
    for key in ("tr", "sound_starts"):
        if listeners and isinstance(found.get(key), dict):
            found[key] = {name: value for name, value in found[key].items() if name not in others}
    if study.dataset.simulation:
        found["told"] = study.stories.all, study.stories.test  # their order decides voices, all of them the responses
    return {"dataset": found}


def of_means(study: Study) -> Iterator[tuple[str, Run]]:
    """Every mean over people with every model that is tuned on nobody alone."""
    return product(study.groups, [run for run in study.runs() if not run.participant])


def of_results(study: Study) -> dict[Path, Recipe]:
    """Every result of a study and what decides it."""
    made = {study.results / "dataset.json": dataset(study), study.words_file: words(study)}
    made[study.leaks_file] = leaks(study)
    for participant in study.listeners:
        made[study.ceiling_file(participant)] = ceiling(study, participant)
        made[study.nuisance_file(participant)] = nuisance(study, participant)
        made[study.low_level_features_file(participant)] = low_level_features(study, participant)
        made[study.low_level_alone_file(participant)] = low_level_alone(study, participant)
    for run in study.runs():
        made[study.features_file(run)] = extract(study, run)
        made |= {study.preference_file(run, recorded): preference(study, run, recorded) for recorded in (False, True)}
        made |= {study.probe_file(task, run): probe(study, run, task) for task in study.probes.tasks}
    for run in study.tuned_runs():
        made[study.model_folder(run) / "provenance.json"] = tune(study, run)
    for participant, run in chain(study.alignments(), of_means(study)):
        made[study.scores_file(participant, run)] = align(study, participant)
        made[study.low_level_file(participant, run)] = low_level(study, participant)
    for participant, run, n_stories in amounts(study):
        first = study.stories_for(participant).train[:n_stories]
        made[study.scores_file(participant, run, n_stories)] = align(study, participant, first)
    return made


def inputs_of(study: Study, notebook: str) -> list[Path]:
    """Results that a notebook of the study reads, by its name in `notebooks/` or of a panel, such as `figA1`."""
    main = list(study.main_runs())
    recorded = [run for run in main if run.condition == "pretrained"] if study.recordings else []
    ceilings = [study.ceiling_file(listener) for listener in study.listeners]
    scores = [study.scores_file(*one) for one in (*study.alignments(), *of_means(study))]
    baselines = [study.nuisance_file(listener) for listener in study.tested]
    amount = [study.scores_file(*one) for one in amounts(study)]
    shown = [run for run in main if (run.backbone, run.condition) == (study.figure_backbone, "brain-tuned")][:1]
    of_figure = {
        "01_dataset": [study.results / "dataset.json", *ceilings],
        "fig1": [study.model_folder(run) / "provenance.json" for run in shown]
        + [study.scores_file(run.participant, run) for run in shown],
        "figA1": ceilings,
        "fig3": [study.low_level_file(participant, run) for participant, run in study.alignments(main)]
        + [study.low_level_features_file(participant) for participant in study.participants[:1]]
        + [study.features_file(Run(study.figure_backbone, "pretrained")), *ceilings, *baselines],
        "fig4": [study.probe_file(task, run) for task in study.probes.tasks for run in main] + [study.leaks_file],
        "fig5": [
            study.words_file,
            *[study.preference_file(run) for run in main],
            *[study.preference_file(run, True) for run in recorded],
        ],
        "figB1": amount,
    }
    if notebook in PANELS:
        parts = [inputs_of(study, panel) for panel in pictures_of(study, notebook)]
        return list(dict.fromkeys(chain.from_iterable(parts)))
    shown = pictures_of(study, *study.figures.notebooks)
    judged = [of_figure[name] for name in ("fig3", "fig4", "fig5", "figB1") if name in shown]
    of_figure["claims"] = list(dict.fromkeys([*ceilings, *scores, *baselines, *chain.from_iterable(judged)]))
    return of_figure.get(notebook, [*ceilings, *scores, *baselines])
