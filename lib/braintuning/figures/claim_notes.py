"""Whether a model could show a claim at all: what is known of it before it is tuned."""

from pathlib import Path

import pandas as pd

from braintuning.figures.paper_claims import LATE
from braintuning.results import REPOSITORY
from braintuning.study import Study

LEAST_ALIGNMENT = 0.05


def too_small(study: Study, alignment: pd.DataFrame, backbone: str) -> str:
    """A sentence where a pretrained model is too small for a claim to be judged on it; else nothing.

    It is if its alignment with late language regions at the figure's layer is below `LEAST_ALIGNMENT` in the mean over
    participants, or if a linear probe reads phones worse out of that layer than out of MFCCs (`probe.csv` beside the
    weights: of synthesised speech where the listeners heard such, else of real speech).

    Parameters
    ----------
    study : Study
    alignment : DataFrame
        backbone, condition, roi, value: alignment at the figure's layer.
    backbone : str
    """
    found = []
    chosen = alignment[(alignment["backbone"] == backbone) & (alignment["roi"] == LATE)]
    mean = chosen.loc[chosen["condition"] == "pretrained", "value"].mean()
    if mean < LEAST_ALIGNMENT:
        found.append(f"pretrained, its alignment with late language is {mean:.3f}, below {LEAST_ALIGNMENT:g}")
    if phones := _phones(study, backbone):
        layer, own, mfcc = phones
        if own < mfcc:
            found.append(f"layer {layer} names {own:.1%} of phones, MFCCs {mfcc:.1%}")
    return f"too small to show it: {'; '.join(found)}" if found else ""


def _phones(study: Study, backbone: str) -> tuple[int, float, float] | None:
    """Figure's layer, its accuracy on phones and that of MFCCs; None where no probe lies beside the weights."""
    name = study.backbones[backbone].name
    path = next((f for f in (Path(name) / "probe.csv", REPOSITORY / name / "probe.csv") if f.is_file()), None)
    if path is None:
        return None
    probe = pd.read_csv(path)
    probe = probe[probe["speech"] == ("synthesised" if study.dataset.simulation else "real")]
    own = probe[probe["features"] == "pretrained"].set_index("layer")["accuracy"]
    layer = study.figures.layer % len(own)
    return layer, float(own[layer]), float(probe.loc[probe["features"] == "MFCC and deltas", "accuracy"].iloc[0])
