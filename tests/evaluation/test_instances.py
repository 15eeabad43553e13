"""Matching equals the rule of stardist and Cellpose, written out here with an assignment solver."""

from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from unet_keras.evaluation.instances import (
    IOU_THRESHOLDS,
    InstanceScores,
    best_matches,
    match_matrix,
    score_instances,
    segmentation_accuracy,
)
from unet_keras.evaluation.overlaps import label_overlaps, outline_overlaps

from .test_overlaps import encode

GOLDEN = dict(np.load(Path(__file__).parents[1] / "golden" / "matching.npz"))


def iou_by_loops(truth, predicted):
    rows = [truth == number for number in np.unique(truth[truth > 0])]
    columns = [predicted == number for number in np.unique(predicted[predicted > 0])]
    matrix = np.zeros((len(rows), len(columns)))
    for r, row in enumerate(rows):
        for c, column in enumerate(columns):
            matrix[r, c] = (row & column).sum() / (row | column).sum()
    return matrix


def reference(iou, threshold):
    """True positives and the sum of their IoU by the assignment stardist.matching solves."""
    smaller = min(iou.shape)
    if not smaller or not (iou >= threshold).any():
        return 0, 0.0
    cost = -(iou >= threshold).astype(float) - iou / (2 * smaller)
    matched = iou[linear_sum_assignment(cost)]
    return np.count_nonzero(matched >= threshold), matched[matched >= threshold].sum()


def random_pair(random):
    """Two label maps of jittered tiles; tiny ones, so that IoU is often exactly 0.5, 0.6, 0.75."""
    size, cell = int(random.integers(2, 18)), int(random.integers(1, 6))
    tiles = np.arange(1, 26 * 26 + 1).reshape(26, 26)
    truth = np.kron(tiles, np.ones((cell, cell), int))[:size, :size]
    predicted = np.roll(truth, random.integers(-1, 2, 2), (0, 1))
    for labels in (truth, predicted):
        labels[random.random(labels.shape) < random.choice([0, 0.1, 0.4])] = 0
        labels[np.isin(labels, random.integers(0, 60, 8))] = int(random.integers(0, 700))
    return truth.astype(np.uint16), predicted.astype(np.uint16)


@pytest.mark.parametrize("seed", range(250))
def test_equals_the_assignment_rule(seed):
    truth, predicted = random_pair(np.random.default_rng(seed))
    iou = iou_by_loops(truth, predicted)
    np.testing.assert_array_equal(match_matrix(truth, predicted), iou)
    scores = score_instances(label_overlaps(truth, predicted))
    expected = [reference(iou, threshold) for threshold in IOU_THRESHOLDS]
    assert scores.true_positive == tuple(hits for hits, _ in expected)
    assert scores.matched_iou == pytest.approx(expected[0][1])
    assert (scores.truth, scores.predicted) == iou.shape


@pytest.mark.parametrize("seed", range(100))
def test_overlapping_outlines_equal_the_assignment_rule(seed):
    random = np.random.default_rng(seed)
    _, predicted = random_pair(random)
    parts = np.array([predicted == n for n in np.unique(predicted[predicted > 0])], bool)
    parts = parts.reshape(-1, *predicted.shape)
    # every true instance twice, with other pixels lost: several candidates for a prediction
    masks = np.concatenate([parts & (random.random(parts.shape) < level) for level in (0.9, 0.7)])
    overlaps = outline_overlaps(encode(masks), predicted)
    iou = np.zeros((len(masks), len(parts)))
    iou[overlaps.truth_index, overlaps.predicted_index] = overlaps.iou
    scores = score_instances(overlaps)
    for threshold, hits in zip(IOU_THRESHOLDS, scores.true_positive, strict=True):
        assert hits == reference(iou, threshold)[0], threshold


@pytest.mark.parametrize("number", range(40))
def test_equals_stardist(number):
    """As tests/golden/matching.py had it answer."""
    truth, predicted = GOLDEN[f"truth_{number}"], GOLDEN[f"predicted_{number}"]
    scores = score_instances(label_overlaps(truth, predicted))
    assert scores.true_positive == tuple(GOLDEN[f"true_positive_{number}"])
    np.testing.assert_allclose(scores.accuracies(), GOLDEN[f"accuracy_{number}"])
    assert scores.panoptic_quality == pytest.approx(GOLDEN[f"panoptic_quality_{number}"][0])


def test_worked_example():
    # true 1 (4 px) and 2 (2 px); predicted 1 covers 3 of true 1: IoU 3/4; predicted 2 hits nothing
    truth = np.array([[1, 1, 1, 1, 0, 2, 2, 0]])
    predicted = np.array([[0, 4, 4, 4, 0, 0, 0, 9]])
    scores = segmentation_accuracy(truth, predicted)
    # IoU 0.75 matches at .5, .55, .6, .65, .7, .75: six of ten thresholds with 1 / (1 + 1 + 1)
    assert scores["segmentation_accuracy"] == pytest.approx(6 / 10 / 3)
    assert scores["segmentation_accuracy_50"] == pytest.approx(1 / 3)
    assert scores["panoptic_quality"] == pytest.approx(0.75 / (1 + 1 / 2 + 1 / 2))
    assert scores["seg"] == pytest.approx(0.75 / 2)
    assert scores["instance_f1_50"] == pytest.approx(1 / 2)


def test_a_prediction_that_halves_a_cell_matches_once():
    truth, predicted = np.array([[1, 1, 1, 1]]), np.array([[1, 1, 2, 2]])
    assert score_instances(label_overlaps(truth, predicted)).true_positive == (1,) + (0,) * 9


def test_no_instance_is_matched_twice():
    truth, predicted = random_pair(np.random.default_rng(5))
    overlaps = label_overlaps(truth, predicted)
    pairs = best_matches(overlaps)
    assert len(set(overlaps.truth_index[pairs])) == len(pairs)
    assert len(set(overlaps.predicted_index[pairs])) == len(pairs)


def test_empty_truth_and_empty_prediction():
    empty, cells = np.zeros((3, 3), np.uint16), np.eye(3, dtype=np.uint16)
    assert set(segmentation_accuracy(empty, empty).values()) == {1.0}
    assert set(segmentation_accuracy([], empty).values()) == {1.0}
    assert set(segmentation_accuracy(cells, empty).values()) == {0.0}
    assert set(segmentation_accuracy(empty, cells).values()) == {0.0}


def test_scores_of_images_add_up():
    one, two = (
        score_instances(label_overlaps(*random_pair(np.random.default_rng(n)))) for n in (1, 2)
    )
    both = one + two + InstanceScores()
    assert both.truth == one.truth + two.truth
    assert both.true_positive[3] == one.true_positive[3] + two.true_positive[3]


def test_thousands_of_instances():
    truth = np.kron(np.arange(1, 65 * 65 + 1).reshape(65, 65), np.ones((8, 8), int))
    scores = score_instances(label_overlaps(truth, np.roll(truth, 1, axis=1)))
    assert scores.truth == scores.predicted == 65 * 65
    # 7 of 8 columns stay (IoU 7/9), but in the last column of tiles, which wraps around
    assert scores.true_positive[5] >= 64 * 65
