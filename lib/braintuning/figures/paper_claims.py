"""What the paper and its follow-ups claim, as differences that can be measured."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Claim:
    """A difference between two models, and the direction in which the paper has it.

    `direction` is 1 (more), -1 (less) or 0 (no change); of no change, `against` is the sign that alone would contradict
    it (a control that 'improves nothing' may harm), 0 either. `among` says which participants it is about, `measure`
    what differs: a key of what `claim_measures.measured` returns. `roi` is empty where a measure knows no regions;
    `reference_roi` is the reference's where that is another. `beside_large`: the reference is the larger model of
    Figure A2. `planted`: the simulated listeners were made so that it holds for a model that can learn what drives
    them.
    """

    text: str
    condition: str
    reference: str
    roi: str
    direction: int
    among: str = "all"
    measure: str = "alignment"
    reference_roi: str = ""
    planted: bool = False
    against: int = 0
    beside_large: bool = False


MEASURES = (
    "alignment",
    "low-level impact R (%)",
    "semantic preference",
    "task score",
    "rise from middle to last layer",
    "alignment, joint model on a fifth of the data",
)
ALIGNMENT, IMPACT, PREFERENCE, SCORE, RISE, FIFTH = MEASURES
LATE, AUDITORY = "late_language", "primary_auditory"
TUNED, CONTROL = "brain-tuned", "random-brain-tuned"
CLAIMS = (
    Claim("brain-tuning raises late language", TUNED, "pretrained", LATE, 1, planted=True),
    Claim("brain-tuning leaves primary auditory", TUNED, "pretrained", AUDITORY, 0),
    Claim("brain-tuning beats its permuted control", TUNED, CONTROL, LATE, 1, planted=True),
    Claim("the permuted control harms late language", CONTROL, "pretrained", LATE, -1),
    Claim("brain-tuning beats a larger speech model", TUNED, "bigslm-tuned", LATE, 1),
    Claim("brain-tuning beats a text model", TUNED, "lm-tuned", LATE, 1),
    Claim("brain-tuning beats more of the same sound", TUNED, "stimulus-tuned", LATE, 1),
    Claim("joint tuning helps who took no part", "multi-brain-tuned", "pretrained", LATE, 1, "held out", planted=True),
    Claim("brain-tuned base reaches a large model", TUNED, "pretrained", LATE, 0, against=-1, beside_large=True),
    Claim("late language leans less on sound", "pretrained", "pretrained", LATE, -1, measure=IMPACT,
          reference_roi=AUDITORY, planted=True),
    Claim("brain-tuning lowers low-level impact", TUNED, "pretrained", LATE, -1, measure=IMPACT, planted=True),
    Claim("the permuted control does not lower it", CONTROL, "pretrained", LATE, 0, measure=IMPACT, against=-1),
    Claim("brain-tuned base has less than a large model", TUNED, "pretrained", LATE, -1, measure=IMPACT,
          beside_large=True),
    Claim("brain-tuning prefers meaning", TUNED, "pretrained", "", 1, measure=PREFERENCE, planted=True),
    Claim("the permuted control does not prefer it", CONTROL, "pretrained", "", 0, measure=PREFERENCE, against=1),
    Claim("brain-tuning helps semantic tasks", TUNED, "pretrained", "", 1, measure=SCORE),
    Claim("it helps them more than a larger model", TUNED, "bigslm-tuned", "", 1, measure=SCORE),
    Claim("the permuted control does not help them", CONTROL, "pretrained", "", 0, measure=SCORE, against=1),
    Claim("late language's layer curve rises more", TUNED, "pretrained", LATE, 1, measure=RISE),
    Claim("joint model reaches pretrained on all data", "multi-brain-tuned", "pretrained", LATE, 0, "held out",
          measure=FIFTH, against=-1),
)  # fmt: skip
