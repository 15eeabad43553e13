"""Scores of pixels: counts that add up, histograms of probabilities, thresholds, calibration.

    truth         bool              (H, W)  foreground
    prediction    bool or floating  (H, W)  a mask, or probabilities in [0, 1] (never logits)
    ignore        bool              (H, W)  True where nothing is counted

A pixel is foreground where its probability is at least the threshold, compared in float32. Counts
and histograms of any number of images add up to those of all, so memory does not grow with them.

Edge cases, by one rule: a ratio 0/0 is 1.0, because nothing was asked and nothing was wrong. An
empty truth with an empty prediction scores 1.0 everywhere; an empty truth with some prediction has
Dice, IoU and precision 0.0 and recall 1.0; some truth with an empty prediction has Dice, IoU and
recall 0.0 and precision 1.0.
"""

from dataclasses import dataclass, field

import numpy as np

from unet_keras.errors import InputError

HISTOGRAM_BINS = 1000
_EDGES = (np.arange(HISTOGRAM_BINS + 1) / HISTOGRAM_BINS).astype(np.float32)


def _ratio(numerator: float, denominator: float) -> float:
    """The quotient, 1.0 for 0/0."""
    return numerator / denominator if denominator else 1.0


@dataclass(frozen=True)
class PixelCounts:
    """How many pixels were right and wrong; addable.

    Attributes:
        true_positive: Foreground in truth and prediction.
        false_positive: Foreground in the prediction only.
        false_negative: Foreground in the truth only.
        true_negative: Background in both.
    """

    true_positive: int = 0
    false_positive: int = 0
    false_negative: int = 0
    true_negative: int = 0

    def __add__(self, other: "PixelCounts") -> "PixelCounts":
        return PixelCounts(
            self.true_positive + other.true_positive,
            self.false_positive + other.false_positive,
            self.false_negative + other.false_negative,
            self.true_negative + other.true_negative,
        )

    @property
    def total(self) -> int:
        """Number of pixels counted."""
        return self.true_positive + self.false_positive + self.false_negative + self.true_negative

    @property
    def dice(self) -> float:
        """2 TP / (2 TP + FP + FN), which is F1, in [0, 1]."""
        wrong = self.false_positive + self.false_negative
        return _ratio(2 * self.true_positive, 2 * self.true_positive + wrong)

    @property
    def iou(self) -> float:
        """TP / (TP + FP + FN), the Jaccard index, in [0, 1]."""
        wrong = self.false_positive + self.false_negative
        return _ratio(self.true_positive, self.true_positive + wrong)

    @property
    def precision(self) -> float:
        """TP / (TP + FP) in [0, 1]."""
        return _ratio(self.true_positive, self.true_positive + self.false_positive)

    @property
    def recall(self) -> float:
        """TP / (TP + FN) in [0, 1]."""
        return _ratio(self.true_positive, self.true_positive + self.false_negative)

    @property
    def accuracy(self) -> float:
        """(TP + TN) / all in [0, 1]."""
        return _ratio(self.true_positive + self.true_negative, self.total)

    @property
    def pixel_error(self) -> float:
        """(FP + FN) / all in [0, 1]: the pixel error of the ISBI 2012 challenge."""
        return 1.0 - self.accuracy

    def scores(self) -> dict[str, float]:
        """All ratios, each in [0, 1], by their names in `metrics.json`."""
        names = ("dice", "iou", "precision", "recall", "accuracy", "pixel_error")
        return {name: getattr(self, name) for name in names}


def count_pixels(
    truth: np.ndarray,
    prediction: np.ndarray,
    *,
    threshold: float = 0.5,
    ignore: np.ndarray | None = None,
) -> PixelCounts:
    """Compare one prediction with one truth.

    Args:
        truth: bool (H, W), foreground.
        prediction: bool (H, W), or floating (H, W) probabilities in [0, 1].
        threshold: Probability from which on (inclusive) a pixel is foreground; unused for a mask.
        ignore: bool (H, W), True where pixels are not counted.

    Returns:
        The four counts.

    Raises:
        InputError: Shapes differ, or the values are no probabilities.
    """
    truth, prediction = _checked(truth, prediction, ignore)
    if prediction.dtype != bool:
        prediction = prediction.astype(np.float32, copy=False) >= np.float32(threshold)
    both = int(np.count_nonzero(truth & prediction))
    in_truth, in_prediction = int(np.count_nonzero(truth)), int(np.count_nonzero(prediction))
    return PixelCounts(
        both,
        in_prediction - both,
        in_truth - both,
        truth.size - in_truth - in_prediction + both,
    )


def _checked(
    truth: np.ndarray, prediction: np.ndarray, ignore: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Both arrays, flat where pixels are ignored, after a check of shapes and ranges."""
    for name, array in (("truth", truth), ("ignore mask", ignore)):
        if array is not None and array.shape != prediction.shape:
            raise InputError(
                f"The {name} has shape {array.shape}, the prediction {prediction.shape}; "
                "both must be the size of the image."
            )
    if prediction.dtype != bool:
        if not np.issubdtype(prediction.dtype, np.floating):
            raise InputError(
                f"The prediction is {prediction.dtype}; expected a bool mask or floating "
                "probabilities. Compare with a level first, for example `mask > 0`."
            )
        low, high = (prediction.min(), prediction.max()) if prediction.size else (0.0, 0.0)
        if not (low >= 0.0 and high <= 1.0):
            raise InputError(
                f"The prediction holds values from {low} to {high}, not probabilities in [0, 1]. "
                "Logits go through a sigmoid first, and NaN means that the training diverged."
            )
    truth = truth.astype(bool, copy=False)
    if ignore is not None:
        keep = ~ignore.astype(bool, copy=False)
        truth, prediction = truth[keep], prediction[keep]
    return truth, prediction


def _zeros() -> np.ndarray:
    return np.zeros(HISTOGRAM_BINS + 1, np.int64)


@dataclass
class ProbabilityHistogram:
    """Probabilities of true foreground and true background, in steps of 1/1000; addable.

    Bin k < 1000 holds probabilities in [k/1000, (k+1)/1000), bin 1000 those of exactly 1, so
    counts at every threshold k/1000 are exact, whatever the number of images.

    Attributes:
        foreground: int64 (1001,), pixels of true foreground.
        background: int64 (1001,), pixels of true background.
        probability_sum: float64 (1001,), sum of the probabilities in each bin.
    """

    foreground: np.ndarray = field(default_factory=_zeros)
    background: np.ndarray = field(default_factory=_zeros)
    probability_sum: np.ndarray = field(default_factory=lambda: np.zeros(HISTOGRAM_BINS + 1))

    def add(
        self, truth: np.ndarray, probability: np.ndarray, *, ignore: np.ndarray | None = None
    ) -> None:
        """Count the pixels of one image.

        Args:
            truth: bool (H, W), foreground.
            probability: floating (H, W) in [0, 1].
            ignore: bool (H, W), True where pixels are not counted.

        Raises:
            InputError: Shapes differ, or the values are no probabilities.
        """
        truth, probability = _checked(truth, probability, ignore)
        truth, values = truth.ravel(), probability.ravel().astype(np.float32, copy=False)
        bins = (values * np.float32(HISTOGRAM_BINS)).astype(np.int32)
        # the product is rounded: put values beside an edge on the side the comparison puts them
        bins -= values < _EDGES[bins]
        bins += values >= _EDGES[np.minimum(bins + 1, HISTOGRAM_BINS)]
        bins = np.minimum(bins, HISTOGRAM_BINS)
        length = HISTOGRAM_BINS + 1
        inside = np.bincount(bins[truth], minlength=length)
        self.foreground += inside
        self.background += np.bincount(bins, minlength=length) - inside
        self.probability_sum += np.bincount(bins, values, length)

    def __add__(self, other: "ProbabilityHistogram") -> "ProbabilityHistogram":
        return ProbabilityHistogram(
            self.foreground + other.foreground,
            self.background + other.background,
            self.probability_sum + other.probability_sum,
        )

    def counts_at(self, step: int) -> PixelCounts:
        """What `count_pixels` gives at the threshold step/1000, for 0 <= step <= 1000."""
        positive, false = int(self.foreground[step:].sum()), int(self.background[step:].sum())
        return PixelCounts(
            positive,
            false,
            int(self.foreground.sum()) - positive,
            int(self.background.sum()) - false,
        )

    def best_threshold(self, score: str = "dice") -> tuple[float, float]:
        """The threshold in (0, 1] where a score of all pixels together is highest.

        Args:
            score: Name of a ratio of `PixelCounts`. Lower is taken as better for "pixel_error".

        Returns:
            Threshold, a multiple of 1/1000, and the score there, in [0, 1]. Among equals the one
            nearest 0.5.
        """
        sign = -1.0 if score == "pixel_error" else 1.0
        steps = range(1, HISTOGRAM_BINS + 1)
        values = {step: getattr(self.counts_at(step), score) for step in steps}
        best = max(steps, key=lambda step: (sign * values[step], -abs(step - HISTOGRAM_BINS // 2)))
        return best / HISTOGRAM_BINS, values[best]

    def calibration(self, bins: int = 10) -> list[dict[str, float]]:
        """The reliability diagram: predicted against observed frequency of foreground.

        Args:
            bins: Number of equally wide intervals of the probability; a divisor of 1000.

        Returns:
            For each interval that holds pixels: `probability` (mean predicted), `frequency` (share
            of true foreground), `share` (of all pixels); each in [0, 1].

        Raises:
            ValueError: `bins` does not divide 1000.
        """
        if HISTOGRAM_BINS % bins:
            raise ValueError(f"bins={bins} must divide {HISTOGRAM_BINS}.")
        group = np.minimum(np.arange(HISTOGRAM_BINS + 1) // (HISTOGRAM_BINS // bins), bins - 1)
        pixels = np.bincount(group, self.foreground + self.background)
        positive = np.bincount(group, self.foreground)
        predicted = np.bincount(group, self.probability_sum)
        return [
            {
                "probability": float(predicted[index] / pixels[index]),
                "frequency": float(positive[index] / pixels[index]),
                "share": float(pixels[index] / pixels.sum()),
            }
            for index in np.flatnonzero(pixels)
        ]

    def calibration_error(self, bins: int = 10) -> float:
        """Expected calibration error in [0, 1] (Guo et al. 2017, eq. 3, for the foreground).

        The mean over all pixels of |predicted - observed frequency| of their interval; 0.0 without
        pixels.
        """
        return sum(
            point["share"] * abs(point["probability"] - point["frequency"])
            for point in self.calibration(bins)
        )
