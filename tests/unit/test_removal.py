import numpy as np
import pytest
from braintuning.encoding import correlation, zscore
from braintuning.removal import reach_of, remove, surrounding
from braintuning.settings import Encoding
from braintuning.timing import delay
from sklearn.linear_model import LinearRegression

SETTINGS = Encoding(delays=(1, 2, 3, 4), log10_alpha_min=-2.0, log10_alpha_max=3.0, validation_chunk_rows=20)
REACH = 3
ROWS = {"a": 400, "b": 380, "winter": 300}
TRAIN = ("a", "b")


@pytest.fixture
def feature():
    rng = np.random.default_rng(0)
    return {story: rng.standard_normal((rows + 2 * REACH, 3)).astype(np.float32) for story, rows in ROWS.items()}


def now(feature, story, shift=0):
    return feature[story][REACH + shift : REACH + shift + ROWS[story]]


def removed(representations, feature):
    return remove(representations, [feature], TRAIN, SETTINGS, np.random.default_rng(1))


def read_out(design, target):
    """Correlation on the test story of a least-squares model fitted to the training stories; the mean of columns."""
    model = LinearRegression().fit(
        np.concatenate([design[story] for story in TRAIN]), np.concatenate([target[story] for story in TRAIN])
    )
    return correlation(model.predict(design["winter"]), target["winter"]).mean()


def test_reach_is_as_wide_as_the_delays_are_apart():
    assert reach_of((1, 2, 3, 4)) == 3 and reach_of((2,)) == 0


def test_surrounding_rows_are_before_and_after():
    found = surrounding(np.arange(6, dtype=np.float32)[:, None], 1)
    assert found.tolist() == [[0, 1, 2], [1, 2, 3], [2, 3, 4], [3, 4, 5]]


def test_what_comes_from_the_feature_goes_and_the_rest_stays(feature):
    rng = np.random.default_rng(2)
    own = {story: rng.standard_normal((rows, 8)).astype(np.float32) for story, rows in ROWS.items()}
    mixing = rng.standard_normal((3, 8))
    mixed = {story: (own[story] + now(feature, story) @ mixing).astype(np.float32) for story in ROWS}
    residual = removed(mixed, feature)
    target = {story: now(feature, story) for story in ROWS}
    assert read_out(mixed, target) > 0.5
    assert abs(read_out(residual, target)) < 2 / np.sqrt(ROWS["winter"])
    kept = correlation(residual["winter"], own["winter"])
    assert kept.min() > 0.97


def test_a_feature_does_not_come_back_through_a_lag_of_the_encoding_model(feature):
    """Each row of this representation keeps the sound of the row before it; delays would bring it back."""
    rng = np.random.default_rng(3)
    mixing = rng.standard_normal((3, 8))
    late = {
        story: (now(feature, story, -1) @ mixing + 0.5 * rng.standard_normal((rows, 8))).astype(np.float32)
        for story, rows in ROWS.items()
    }
    target = {story: now(feature, story, -2) for story in ROWS}

    def through_delays(representations):
        return read_out(
            {story: delay(zscore(rows), SETTINGS.delays) for story, rows in representations.items()}, target
        )

    same_row_only = {story: late[story] - _same_row_fit(late, feature)[story] for story in ROWS}
    assert through_delays(late) > 0.6
    assert through_delays(same_row_only) > 0.6
    assert abs(through_delays(removed(late, feature))) < 2.5 / np.sqrt(ROWS["winter"])


def _same_row_fit(representations, feature):
    model = LinearRegression().fit(
        np.concatenate([now(feature, story) for story in TRAIN]),
        np.concatenate([representations[story] for story in TRAIN]),
    )
    return {story: model.predict(now(feature, story)) for story in ROWS}


def test_a_feature_without_anything_in_common_takes_almost_nothing(feature):
    rng = np.random.default_rng(5)
    own = {story: rng.standard_normal((rows, 6)).astype(np.float32) for story, rows in ROWS.items()}
    residual = removed(own, feature)
    assert correlation(residual["winter"], own["winter"]).min() > 0.97


def test_test_stories_do_not_decide_what_is_removed(feature):
    rng = np.random.default_rng(6)
    own = {story: rng.standard_normal((rows, 6)).astype(np.float32) for story, rows in ROWS.items()}
    other = {**own, "winter": own["winter"][::-1].copy()}
    first, second = removed(own, feature), removed(other, feature)
    np.testing.assert_array_equal(first["a"], second["a"])
    np.testing.assert_allclose(
        zscore(own["winter"]) - first["winter"], zscore(other["winter"]) - second["winter"], atol=1e-6
    )
