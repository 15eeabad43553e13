"""Boundary F1 against distances between all pairs of boundary pixels."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from unet_keras.drawing import outlines
from unet_keras.evaluation.boundaries import BoundaryCounts, count_boundaries


@pytest.mark.parametrize("tolerance", [0.0, 1.0, 1.5, 2.0, 3.0])
@pytest.mark.parametrize("seed", range(8))
def test_equals_distances_of_all_pairs(seed, tolerance):
    random = np.random.default_rng(seed)
    truth = np.kron(random.integers(0, 4, (5, 6)), np.ones((7, 5), int))
    predicted = np.roll(truth, random.integers(-4, 5, 2), (0, 1))
    predicted[random.random(truth.shape) < 0.03] = 0
    points, others = (np.argwhere(outlines(labels)) for labels in (truth, predicted))
    near = cdist(points, others) <= tolerance
    expected = BoundaryCounts(len(points), near.any(1).sum(), len(others), near.any(0).sum())
    assert count_boundaries(truth, predicted, tolerance_pixels=tolerance) == expected


def test_worked_example_and_empty_boundaries():
    # 6 of 8 predicted pixels are right, 3 of 4 true ones found: 2 * .75 * .75 / 1.5
    assert BoundaryCounts(4, 3, 8, 6).f1 == pytest.approx(0.75)
    assert BoundaryCounts(0, 0, 0, 0).f1 == 1.0
    assert BoundaryCounts(4, 0, 0, 0).f1 == 0.0
    assert BoundaryCounts(4, 0, 5, 0).f1 == 0.0
    assert (BoundaryCounts(1, 1, 2, 2) + BoundaryCounts(3, 0, 4, 1)) == BoundaryCounts(4, 1, 6, 3)


def test_it_sees_the_separation_that_dice_does_not():
    truth = np.zeros((20, 40), np.uint16)
    truth[5:15, 5:20], truth[5:15, 20:35] = 1, 2
    merged = np.minimum(truth, 1)
    assert count_boundaries(truth, truth).f1 == 1.0
    assert count_boundaries(truth, merged, tolerance_pixels=1.0).f1 < 0.95
