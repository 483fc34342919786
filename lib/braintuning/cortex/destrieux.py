"""A sanity check of transferred regions against the gyri and sulci that FreeSurfer found in the participant."""

from pathlib import Path

import numpy as np
import pandas as pd

from braintuning.cortex.fsaverage import PREFIX, read_annotation
from braintuning.cortex.subject import Cortex
from braintuning.errors import InputError

ANATOMY: dict[str, tuple[str, ...]] = {
    "A1": ("G_temp_sup-G_T_transv", "S_temporal_transverse"),
    "44": ("G_front_inf-Opercular", "S_precentral-inf-part", "S_front_inf"),
    "45": ("G_front_inf-Triangul", "S_front_inf", "Lat_Fis-ant-Vertical", "Lat_Fis-ant-Horizont"),
    "PGp": ("G_pariet_inf-Angular", "G_occipital_middle", "S_oc_middle_and_Lunatus"),
    "PGi": ("G_pariet_inf-Angular", "S_temporal_sup"),
    "A5": ("G_temp_sup-Lateral", "S_temporal_sup"),
    "V1": ("S_calcarine", "Pole_occipital", "G_cuneus", "G_oc-temp_med-Lingual"),
}
"""Labels of the Destrieux atlas in which a region is expected to lie, by the gyri and sulci it is known to occupy."""


def overlap(labels: np.ndarray, destrieux: np.ndarray) -> pd.DataFrame:
    """How transferred regions lie among the gyri and sulci that FreeSurfer found in the participant.

    Parameters
    ----------
    labels : ndarray of str, (n_vertices,)
        Region at each vertex, '' for none.
    destrieux : ndarray of str, (n_vertices,)
        Name in `aparc.a2009s` at each vertex.

    Returns
    -------
    DataFrame
        A row per region: `region`, `vertices`, `destrieux` (the label that holds most of it), `share` of its vertices
        there, `expected` (the labels of `ANATOMY`, joined by ' + ', '' when none is listed) and `expected_share`.

    Raises
    ------
    InputError
        If the two differ in length.

    References
    ----------
    Destrieux et al. 2010, NeuroImage 53:1.
    """
    if len(labels) != len(destrieux):
        raise InputError(f"Destrieux labels: found {len(destrieux)}, expected {len(labels)}, one per vertex")
    rows = []
    for region in sorted(set(labels.tolist()) - {""}):
        names, counts = np.unique(destrieux[labels == region], return_counts=True)
        expected = ANATOMY.get(region, ())
        share = counts[np.isin(names, expected)].sum() / counts.sum() if expected else np.nan
        best = counts.argmax()
        rows.append((region, counts.sum(), names[best], counts[best] / counts.sum(), " + ".join(expected), share))
    columns = ["region", "vertices", "destrieux", "share", "expected", "expected_share"]
    return pd.DataFrame(rows, columns=columns)


def participant_overlap(derivative: Path, participant: str, cortex: Cortex) -> pd.DataFrame:
    """How a participant's regions lie among their own gyri and sulci (`aparc.a2009s`); see `overlap`."""
    folder = Path(derivative) / "freesurfer_subjdir" / participant / "label"
    own = np.concatenate([read_annotation(folder / f"{prefix}.aparc.a2009s.annot") for prefix in PREFIX.values()])
    return overlap(cortex.vertex_labels, own)
