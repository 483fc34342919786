import numpy as np
import pytest
from braintuning.cortex.destrieux import overlap, participant_overlap
from braintuning.cortex.pycortex import participant_cortex
from braintuning.errors import InputError
from tiny_subject import DESTRIEUX, write_fsaverage, write_subject


def test_overlap_names_the_gyrus_that_holds_most_of_a_region():
    labels = np.array(["A1"] * 4 + ["V1"] * 2 + [""] * 3)
    own = np.array(["G_temp_sup-G_T_transv"] * 2 + ["S_temporal_transverse", "G_temp_sup-Lateral"] + ["G_cuneus"] * 5)
    table = overlap(labels, own).set_index("region")
    assert table.index.tolist() == ["A1", "V1"]
    assert table.loc["A1", ["vertices", "destrieux", "share", "expected_share"]].tolist() == [
        4,
        "G_temp_sup-G_T_transv",
        0.5,
        0.75,
    ]
    assert table.loc["V1", "expected_share"] == 1
    with pytest.raises(InputError, match="found 8, expected 9"):
        overlap(labels, own[:8])


def test_regions_lie_in_the_gyri_they_were_planted_in(tmp_path):
    write_subject(tmp_path / "derivative", "UTS03", seed=3)
    fsaverage = write_fsaverage(tmp_path / "fsaverage")
    cortex = participant_cortex(tmp_path / "derivative", "UTS03", fsaverage, tmp_path / "cache")
    table = participant_overlap(tmp_path / "derivative", "UTS03", cortex).set_index("region")
    for region, gyrus in DESTRIEUX.items():
        assert table.loc[region, "destrieux"] == gyrus
        assert table.loc[region, "expected_share"] > 0.8
