"""Bootstrap intervals against the normal approximation; the comparison of two runs; R²."""

import numpy as np
import pytest

from unet_keras.errors import InputError
from unet_keras.evaluation.intervals import (
    RESAMPLES,
    compare,
    determination,
    interval,
    resample_sums,
    resamples,
    score_intervals,
)


def test_every_resample_draws_as_many_images_as_there_are():
    blocks = list(resamples(7, 150))
    assert sum(len(block) for block in blocks) == 150
    assert all((block.sum(axis=1) == 7).all() for block in blocks)
    np.testing.assert_array_equal(np.concatenate(list(resamples(7, 150))), np.concatenate(blocks))


def test_interval_of_a_mean_is_that_of_the_normal_distribution():
    values = np.random.default_rng(0).normal(0.7, 0.1, 400)
    result = score_intervals(np.ones((400, 3), int), {"seg": values.tolist()})
    error = 1.96 * values.std() / np.sqrt(400)
    np.testing.assert_allclose(result["seg"], values.mean() + np.array([-error, error]), atol=2e-3)


def test_pixel_scores_are_ratios_of_resampled_sums():
    # one image all right, one all wrong, of different size: a mean of images would be 0.5 +- 0.5
    counts = np.array([[90, 0, 0], [0, 5, 5]])
    low, high = score_intervals(counts, {})["dice"]
    assert (low, high) == (0.0, 1.0)
    sums = resample_sums(counts)
    assert sums.shape == (RESAMPLES, 3)
    middle = 2 * 90 / (2 * 90 + 10)
    assert any(np.isclose(2 * row[0] / (2 * row[0] + row[1] + row[2]), middle) for row in sums)


def test_equal_images_have_no_spread_and_one_image_no_interval():
    equal = score_intervals(np.tile([8, 1, 1], (5, 1)), {"seg": [0.25] * 5})
    assert equal["dice"] == pytest.approx([16 / 18, 16 / 18])
    assert equal["seg"] == pytest.approx([0.25, 0.25])
    assert score_intervals(np.array([[1, 2, 3]]), {"seg": [0.5]}) == {}
    assert score_intervals(np.zeros((3, 3)), {})["dice"] == [1.0, 1.0]
    assert interval(np.arange(101), confidence=0.9) == pytest.approx([5, 95])


def run(scores):
    images = [
        {"file_name": f"{k}.tif", "dice": score, "count": 3} for k, score in enumerate(scores)
    ]
    return {"images": images}


def test_a_small_but_steady_gain_is_told_from_noise():
    base = np.random.default_rng(1).uniform(0.2, 0.9, 60)
    steady = compare(run(base.tolist()), run((base + 0.01).tolist()))["dice"]
    assert steady["difference"] == pytest.approx(0.01)
    assert steady["interval"] == pytest.approx([0.01, 0.01])
    assert steady["better"] == 1.0
    noise = np.random.default_rng(2).normal(0, 0.1, 60)
    unclear = compare(run(base.tolist()), run((base + noise - noise.mean()).tolist()))["dice"]
    assert unclear["interval"][0] < 0 < unclear["interval"][1]
    assert 0.4 < unclear["better"] < 0.6
    same = compare(run([0.5, 0.6]), run([0.5, 0.6]))
    assert same == {
        "dice": {
            "first": 0.55,
            "second": 0.55,
            "difference": 0.0,
            "interval": [0, 0],
            "better": 0.5,
        }
    }


def test_runs_on_different_images_are_not_compared():
    with pytest.raises(InputError, match=r"different images \(2 and 3, for example 2.tif\)"):
        compare(run([0.1, 0.2]), run([0.1, 0.2, 0.3]))
    with pytest.raises(InputError, match=r"different images \(0 and 0\)"):
        compare(run([]), run([]))


def test_determination():
    assert determination([1, 2, 3], [1, 2, 3]) == 1.0
    assert determination([1, 2, 3], [2, 2, 2]) == 0.0
    # 1 - (1 + 0 + 4) / (1 + 0 + 1)
    assert determination([1, 2, 3], [2, 2, 5]) == pytest.approx(-1.5)
    assert determination([4, 4], [1, 2]) is None
    assert determination([], []) is None
    assert determination([100, 101], [80, 130]) is None, "two images tell nothing of a trend"
