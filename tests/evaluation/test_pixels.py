"""Counts and histograms of pixels against plain loops; the edge cases that are promised."""

import numpy as np
import pytest

from unet_keras.errors import InputError
from unet_keras.evaluation.pixels import PixelCounts, ProbabilityHistogram, count_pixels


def counts_by_loop(truth, mask):
    table = {(True, True): 0, (False, True): 0, (True, False): 0, (False, False): 0}
    for pair in zip(truth.ravel().tolist(), mask.ravel().tolist(), strict=True):
        table[pair] += 1
    return PixelCounts(*table.values())


@pytest.mark.parametrize("seed", range(60))
def test_counts_equal_a_plain_loop(seed):
    random = np.random.default_rng(seed)
    shape = tuple(random.integers(1, 20, 2))
    truth = random.random(shape) < random.random()
    probability = random.integers(0, 11, shape).astype(np.float32) / 10
    threshold = round(random.random(), 1)
    ignore = random.random(shape) < 0.2
    mask = probability >= np.float32(threshold)
    assert count_pixels(truth, probability, threshold=threshold) == counts_by_loop(truth, mask)
    assert count_pixels(truth, mask) == counts_by_loop(truth, mask)
    assert count_pixels(truth, probability, threshold=threshold, ignore=ignore) == counts_by_loop(
        truth[~ignore], mask[~ignore]
    )


def test_worked_example():
    scores = PixelCounts(6, 2, 4, 8).scores()
    assert scores == {
        "dice": 12 / 18, "iou": 6 / 12, "precision": 6 / 8, "recall": 6 / 10,
        "accuracy": 14 / 20, "pixel_error": pytest.approx(6 / 20),
    }  # fmt: skip


def test_counts_of_images_add_up():
    random = np.random.default_rng(0)
    truth, mask = random.random((2, 8, 9)) < 0.5
    parts = count_pixels(truth[:3], mask[:3]) + count_pixels(truth[3:], mask[3:])
    assert parts == count_pixels(truth, mask)
    assert parts.total == 72


@pytest.mark.parametrize(
    ("truth", "mask", "dice", "precision", "recall"),
    [(0, 0, 1.0, 1.0, 1.0), (0, 1, 0.0, 0.0, 1.0), (1, 0, 0.0, 1.0, 0.0), (1, 1, 1.0, 1.0, 1.0)],
)
def test_edge_cases(truth, mask, dice, precision, recall):
    counts = count_pixels(np.full((3, 4), truth, bool), np.full((3, 4), mask, bool))
    assert (counts.dice, counts.iou, counts.precision, counts.recall) == (
        dice, dice, precision, recall,
    )  # fmt: skip


def test_an_image_that_is_ignored_as_a_whole_scores_one():
    ignored = np.ones((2, 2), bool)
    assert set(count_pixels(~ignored, ignored, ignore=ignored).scores().values()) == {1.0, 0.0}


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_histogram_gives_the_counts_of_every_threshold(dtype):
    random = np.random.default_rng(1)
    # values on, just below and just above every step
    steps = (np.arange(1001) / 1000).astype(dtype)
    values = np.concatenate([steps, np.nextafter(steps, dtype(0)), np.nextafter(steps, dtype(1))])
    truth = random.random(values.shape) < 0.5
    histogram = ProbabilityHistogram()
    histogram.add(truth[:1500], values[:1500])
    histogram.add(truth[1500:], values[1500:])
    for step in range(1001):
        expected = count_pixels(truth, values, threshold=step / 1000)
        assert histogram.counts_at(step) == expected, step


@pytest.mark.parametrize("score", ["dice", "iou", "accuracy", "pixel_error"])
def test_best_threshold_is_the_best_of_all(score):
    random = np.random.default_rng(2)
    truth = random.random((50, 60)) < 0.3
    probability = np.clip(0.35 * truth + 0.5 * random.random(truth.shape), 0, 1)
    histogram = ProbabilityHistogram()
    histogram.add(truth, probability)
    threshold, value = histogram.best_threshold(score)
    every = [
        getattr(count_pixels(truth, probability, threshold=step / 1000), score)
        for step in range(1, 1001)
    ]
    assert value == (min(every) if score == "pixel_error" else max(every))
    assert every[round(threshold * 1000) - 1] == value


def test_equal_thresholds_give_the_one_nearest_the_middle():
    histogram = ProbabilityHistogram()
    histogram.add(np.array([False, True]), np.array([0.1, 0.9]))
    assert histogram.best_threshold() == (0.5, 1.0)
    assert ProbabilityHistogram().best_threshold() == (0.5, 1.0)


def test_calibration_error_of_a_calibrated_and_of_an_overconfident_prediction():
    truth = np.arange(1000) % 10 < 3
    honest, bold = ProbabilityHistogram(), ProbabilityHistogram()
    honest.add(truth, np.full(1000, 0.3))
    bold.add(truth, np.full(1000, 0.95))
    assert honest.calibration_error() == pytest.approx(0.0, abs=1e-6)
    assert bold.calibration_error() == pytest.approx(0.65, abs=1e-6)
    assert (honest + bold).calibration_error() == pytest.approx(0.325, abs=1e-6)
    assert ProbabilityHistogram().calibration_error() == 0.0
    with pytest.raises(ValueError, match="bins=7 must divide 1000"):
        honest.calibration(bins=7)


def test_calibration_error_equals_a_loop_over_intervals():
    random = np.random.default_rng(4)
    probability = random.random(5000)
    truth = random.random(5000) < probability**2
    histogram = ProbabilityHistogram()
    histogram.add(truth, probability)
    expected = 0.0
    for interval in range(10):
        inside = np.floor(probability.astype(np.float32) * 10) == interval
        expected += inside.mean() * abs(probability[inside].mean() - truth[inside].mean())
    assert histogram.calibration_error() == pytest.approx(expected, abs=1e-6)


def test_what_is_no_probability_is_refused():
    truth = np.zeros((2, 3), bool)
    with pytest.raises(InputError, match=r"truth has shape \(2, 3\), the prediction \(3, 2\)"):
        count_pixels(truth, truth.T)
    with pytest.raises(InputError, match=r"ignore mask has shape \(3, 2\)"):
        count_pixels(truth, truth, ignore=truth.T)
    with pytest.raises(InputError, match=r"from -4.0 to 3.0.*sigmoid"):
        count_pixels(truth, np.array([[-4.0, 3, 0], [0, 0, 0]]))
    with pytest.raises(InputError, match="nan"):
        count_pixels(truth, np.full((2, 3), np.nan, np.float32))
    with pytest.raises(InputError, match="prediction is uint8"):
        count_pixels(truth, np.zeros((2, 3), np.uint8))
