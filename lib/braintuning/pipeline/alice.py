"""Alignment of one story's region time courses, cross-validated in blocks: the Alice study."""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
from nilearn.signal import clean

from braintuning.alignment import encoding
from braintuning.alignment.ceiling import group_mean_ceiling, leave_one_out_correlation
from braintuning.alignment.encoding import design_matrix
from braintuning.datasets.alice import REGIONS, STORY, AliceDataset
from braintuning.pipeline.steps import extract_features
from braintuning.results import generator, load_arrays, provenance, provenance_columns, provenance_of, save_table
from braintuning.study import Run, Study

log = logging.getLogger(__name__)

GROUP = "group"


def detrend(courses: np.ndarray, tr: float, high_pass_seconds: float) -> np.ndarray:
    """Regress out a discrete cosine basis up to `1 / high_pass_seconds` Hz with nilearn, and z-score.

    Parameters
    ----------
    courses : (rows, columns) float
        Responses, or the features that predict them: both must lose the same frequencies (Lindquist et al. 2019).
    tr, high_pass_seconds : float
        Seconds.

    Returns
    -------
    detrended : (rows, columns) float
    """
    options = {"filter": "cosine", "high_pass": 1 / high_pass_seconds, "t_r": tr, "detrend": False}
    return clean(courses, standardize="zscore_sample", **options)


def word_rate(dataset: AliceDataset) -> np.ndarray:
    """Words that began within the TR before each row: the simplest model of a listener; (rows, 1) float64."""
    times = dataset.tr_times()
    edges = np.append(times - dataset.tr, times[-1])
    counts, _ = np.histogram([word.start for word in dataset.words()], edges)
    return counts[:, None].astype(np.float64)


def align_alice(study: Study, run: Run, device: str = "cpu") -> Path:
    """Predict every participant and their mean from every layer, block by block, and write `alignment.csv`.

    Columns: participant (or `group`), roi, layer, r, noise_ceiling, and provenance. A participant's noise ceiling is
    the correlation with the mean of all others; the group's is that of a mean of as many participants.
    """
    features_file = extract_features(study, run, device)
    dataset = AliceDataset(study.root, study.dataset.tr)
    for reason in dataset.left_out.values():
        log.info(f"left out: {reason}")
    high_pass = study.encoding.high_pass_seconds
    responses = np.stack([detrend(dataset.responses(p), dataset.tr, high_pass) for p in dataset.participants])
    rows = []
    for layer, features in enumerate(load_arrays(features_file)[STORY]):
        design = detrend(design_matrix(features, study.encoding.delays), dataset.tr, high_pass)
        rows += [
            (*row[:2], layer, *row[2:]) for row in score_design(design, dataset.participants, responses, study, device)
        ]
    table = pd.DataFrame(rows, columns=["participant", "roi", "layer", "r", "noise_ceiling"])
    carried = provenance({"stage": "align_alice", "encoding": study.encoding.model_dump()}, device=device)
    carried["weights"] = provenance_of(features_file)["weights"]
    path = study.figures_folder / "alignment.csv"
    save_table(path, table.assign(**provenance_columns(study.name, carried), seed=study.encoding.seed))
    return path


def score_design(
    design: np.ndarray, participants: tuple[str, ...], responses: np.ndarray, study: Study, device: str = "cpu"
) -> list[tuple[str, str, float, float]]:
    """Cross-validated correlation of a design with each participant and with their mean, beside its ceiling.

    Parameters
    ----------
    design : (rows, features) float
    participants : tuple of str
    responses : (participants, rows, regions) float
    study : Study
    device : str

    Returns
    -------
    rows : list of (participant or `group`, roi, r, noise_ceiling)
    """
    everyone = np.concatenate([responses, responses.mean(axis=0)[None]])
    ceilings = np.concatenate([leave_one_out_correlation(responses), group_mean_ceiling(responses)[None]])
    together = everyone.transpose(1, 0, 2).reshape(len(design), -1)
    rng = generator(study.encoding.seed, "splits")
    gap = max(study.encoding.delays)
    r = encoding.score_blocks(design.astype(np.float32), together, study.encoding, rng, gap, device)
    r = r.reshape(ceilings.shape)
    names = (*participants, GROUP)
    return [(p, roi, r[i, j], ceilings[i, j]) for i, p in enumerate(names) for j, roi in enumerate(REGIONS)]
