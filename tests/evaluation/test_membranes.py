"""Rand and information scores against scikit-image, by hand, and where the two differ."""

import numpy as np
import pytest
from scipy import ndimage
from skimage.measure import shannon_entropy
from skimage.metrics import adapted_rand_error, variation_of_information

from unet_keras.evaluation.membranes import (
    THRESHOLDS,
    compare_segments,
    score_membranes,
    segments_of,
    summarize_membranes,
    thin_borders,
    thresholds_with,
)
from unet_keras.evaluation.warping import count_warping_errors


def random_segments(seed, size=(40, 50)):
    """Two maps of segments between membranes, the second a disturbed first."""
    random = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(random.normal(size=(2, *size)), (0, 3, 3))
    noise /= noise.std()
    masks = np.abs(noise[0]) > 0.3, np.abs(noise[0] + 0.4 * noise[1]) > random.uniform(0.1, 0.5)
    return segments_of(masks[0]), segments_of(masks[1])


def alone_numbered(truth, predicted):
    """The prediction with a number of its own for each predicted membrane pixel in a segment."""
    alone = (predicted == 0) & (truth > 0)
    numbered = predicted.copy()
    numbered[alone] = predicted.max() + 1 + np.arange(np.count_nonzero(alone))
    return numbered


@pytest.mark.parametrize("seed", range(100))
def test_equals_scikit_image_where_it_defines_the_same(seed):
    truth, predicted = random_segments(seed)
    numbered = alone_numbered(truth, predicted)
    agreement = compare_segments(truth, predicted)
    pixels = np.count_nonzero(truth)
    # scikit-image leaves out the pairs of a pixel with itself: `pixels` in each sum
    together = (agreement.joint**2).sum() + agreement.alone
    true_pairs = (agreement.truth**2).sum()
    predicted_pairs = (agreement.predicted**2).sum() + agreement.alone
    error, precision, recall = adapted_rand_error(truth, numbered)
    ratios = [(together - pixels) / (pairs - pixels) for pairs in (true_pairs, predicted_pairs)]
    # sorted, because scikit-image up to 0.26 names the two the other way round
    assert sorted([precision, recall]) == pytest.approx(sorted(ratios), abs=1e-12)
    assert 1 - error == pytest.approx(
        2 * (together - pixels) / (true_pairs + predicted_pairs - 2 * pixels), abs=1e-12
    )
    assert agreement.rand == pytest.approx(2 * together / (true_pairs + predicted_pairs))
    assert 1 - agreement.rand == pytest.approx(error, abs=0.02)
    splits, mergers = variation_of_information(truth, numbered, ignore_labels=(0,))
    inside = truth > 0
    entropies = shannon_entropy(truth[inside]) + shannon_entropy(numbered[inside])
    expected = (entropies - splits - mergers) / entropies
    assert agreement.information == pytest.approx(expected, abs=1e-12)


def test_large_segments_make_the_pairs_of_a_pixel_with_itself_vanish():
    truth, predicted = random_segments(1)
    fine = [np.kron(labels, np.ones((8, 8), int)) for labels in (truth, predicted)]
    numbered = alone_numbered(truth, predicted)
    coarse = np.kron(numbered, np.ones((8, 8), int))
    error = adapted_rand_error(fine[0], coarse)[0]
    assert 1 - compare_segments(truth, numbered).rand == pytest.approx(error, abs=5e-4)


def test_worked_example():
    # two true segments of 4 and 2 pixels; the prediction cuts one pixel off the first, calls one
    # of it membrane, and joins the rest with the second; the membrane between does not count
    truth = np.array([[1, 1, 1, 1, 0, 2, 2]])
    predicted = np.array([[5, 0, 7, 7, 7, 7, 7]])
    agreement = compare_segments(truth, predicted)
    assert sorted(agreement.joint.tolist()) == [1, 2, 2]
    assert (agreement.truth.tolist(), agreement.alone) == ([4, 2], 1)
    assert agreement.predicted.tolist() == [1, 4]
    # pairs together in both: 1 + 4 + 4 + 1; in the truth 16 + 4; in the prediction 1 + 16 + 1
    assert agreement.rand == pytest.approx(2 * 10 / (20 + 18))
    log = np.log
    of_truth = -(4 / 6 * log(4 / 6) + 2 / 6 * log(2 / 6))
    of_prediction = -(1 / 6 * log(1 / 6) + 4 / 6 * log(4 / 6) + 1 / 6 * log(1 / 6))
    of_both = -(2 * 1 / 6 * log(1 / 6) + 2 * 2 / 6 * log(2 / 6))
    expected = 2 * (of_truth + of_prediction - of_both) / (of_truth + of_prediction)
    assert agreement.information == pytest.approx(expected)


def test_one_segment_no_segment_and_nothing_in_common():
    one, none = np.ones((4, 4), int), np.zeros((4, 4), int)
    each = np.arange(1, 17).reshape(4, 4)
    assert compare_segments(one, one).rand == compare_segments(one, one).information == 1.0
    assert compare_segments(none, one).rand == compare_segments(none, one).information == 1.0
    assert compare_segments(one, none).rand == pytest.approx(2 * 16 / (256 + 16))
    assert compare_segments(one, none).information == 0.0
    assert compare_segments(each, one).information == 0.0
    assert compare_segments(one, each).rand == compare_segments(one, none).rand
    two = np.repeat([[1], [1], [2], [2]], 4, axis=1)
    assert compare_segments(two, two).information == pytest.approx(1.0)


def test_thinning_leaves_lines_and_drops_membranes_that_part_nothing():
    mask = np.ones((20, 30), bool)
    mask[:, 10:16] = False
    mask[5:8, :6] = False
    thinned = thin_borders(mask)
    assert set(np.unique(thinned)) == {0, 1, 2}
    line = thinned == 0
    assert line.sum(axis=1).tolist() == [1] * 20
    assert not line[:, :10].any()
    assert not line[:, 16:].any()
    left, right = thinned[:, 9], thinned[:, 16]
    assert len(set(left)) == len(set(right)) == 1
    assert left[0] != right[0]
    assert not thin_borders(np.zeros((5, 6), bool)).any()
    assert (thin_borders(np.ones((5, 6), bool)) == 1).all()


@pytest.mark.parametrize("seed", range(10))
def test_thinning_keeps_segments_whole_and_apart(seed):
    truth, _ = random_segments(seed)
    thinned = thin_borders(truth > 0)
    inside = truth > 0
    pairs = np.unique(np.stack([truth[inside], thinned[inside]]), axis=1)
    assert len(pairs[0]) == len(set(pairs[0])) == len(set(pairs[1])) == truth.max()
    # no two segments touch over an edge
    for first, second in ((thinned[:, 1:], thinned[:, :-1]), (thinned[1:], thinned[:-1])):
        assert not ((first != second) & (first > 0) & (second > 0)).any()


def test_thick_borders_cost_rand_error_but_not_v_rand():
    truth = np.ones((40, 61), bool)
    truth[:, 30] = False
    thick = truth.copy()
    thick[:, 26:35] = False
    scores = score_membranes(segments_of(truth), truth, thick.astype(np.float32), threshold=0.5)
    assert scores.pixel_error == pytest.approx(8 * 40 / truth.size)
    assert scores.rand_error > 0.05
    assert scores.v_rand == scores.v_info == 1.0
    assert scores.warping_error == scores.warping_error_all == scores.splits == 0


def test_the_best_of_all_thresholds_and_the_one_in_use():
    random = np.random.default_rng(3)
    thresholds = thresholds_with(0.45)
    assert thresholds == (0.1, 0.2, 0.3, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9)
    assert thresholds_with(0.5) == THRESHOLDS
    images = []
    for seed in range(3):
        truth, _ = random_segments(seed)
        blurred = ndimage.gaussian_filter((truth > 0) + random.normal(0, 0.3, truth.shape), 1)
        probability = np.clip(blurred, 0, 1).astype(np.float32)
        images.append(
            [score_membranes(truth, truth > 0, probability, threshold=t) for t in thresholds]
        )
    result = summarize_membranes(images, thresholds, threshold=0.45)
    at_each = np.array([[scores.v_rand for scores in image] for image in images]).mean(axis=0)
    assert [point["v_rand"] for point in result["curve"]] == pytest.approx(at_each)
    assert result["best"]["v_rand"] == pytest.approx(at_each.max())
    assert result["best_threshold"]["v_rand"] == thresholds[at_each.argmax()]
    assert result["at_threshold"]["v_rand"] == pytest.approx(at_each[4])
    assert result["best"]["rand_error"] == min(p["rand_error"] for p in result["curve"])
    assert result["at_threshold"]["mergers"] == sum(image[4].mergers for image in images)
    assert "mergers" not in result["best"]
    # the parts are those of the functions they come from
    errors = count_warping_errors(truth > 0, probability, threshold=0.45)
    assert images[-1][4].warping_error_all == errors.warping_error_all
