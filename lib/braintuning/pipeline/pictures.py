"""Pictures that a notebook of a study draws: Figures A and B have panels, of which a study may lack some."""

from collections.abc import Iterator

from braintuning.study import Run, Study

PANELS = {"figA": ("figA1", "figA2", "figA3", "figA4", "figA5"), "figB": ("figB1", "figB2", "figB3")}
TEXT_CONDITIONS = ("pretrained", "brain-tuned", "lm-tuned")
JOINTLY_TUNED = "multi-brain-tuned"
TRANSFERRED = ("pretrained", "brain-tuned", JOINTLY_TUNED)
"""Conditions that panels B1 and B2 compare."""


def pictures_of(study: Study, *notebooks: str) -> list[str]:
    """Names, without a suffix, of the pictures that notebooks draw: their own, or of Figures A and B those of panels.

    `fig3` draws a second one, which is not named.
    """
    return [n for name in notebooks for n in PANELS.get(name, (name,)) if name not in PANELS or not left_out(study, n)]


def left_out(study: Study, panel: str) -> str:
    """Why a study has no such panel of Figure A or B, the second half of a sentence; empty where it has."""
    if not study.participants:
        return "it has no participants"
    text = {condition for condition in TEXT_CONDITIONS if condition in study.conditions}
    joint = {c for c in study.conditions_of(study.figure_backbone) if study.base(c) == JOINTLY_TUNED}
    whys = {
        "figA2": (study.figures.base_and_large, "`figures: base_and_large` names no two backbones"),
        "figA5": (
            "lm-tuned" in text and any(text <= set(study.conditions_of(b)) for b in study.backbones),
            "nothing is tuned to a text model (`lm-tuned`)",
        ),
        "figB1": (any(amounts(study)), "nobody is held out of joint tuning, or `figures: story_counts` is empty"),
        "figB2": (JOINTLY_TUNED in joint and study.held_out, "no model is tuned jointly, or on everybody"),
        "figB3": (joint & set(study.variants), "joint tuning has no `variants`"),
    }
    can, why = whys.get(panel, (True, ""))
    return "" if can else why


def amounts(study: Study) -> Iterator[tuple[str, Run, int]]:
    """Held-out participant, model and number of training stories of every encoding model of panel B1."""
    backbone = study.figure_backbone
    for participant in study.held_out:
        for condition in [c for c in TRANSFERRED if c in study.conditions_of(backbone)]:
            n_train = len(study.stories_for(participant).train)
            for n_stories in [n for n in study.figures.story_counts if n <= n_train]:
                yield participant, study.run(backbone, condition, participant), n_stories
