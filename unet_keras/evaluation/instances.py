"""Scores of instances: which predicted instance is which true one, and what follows from it.

    truth      integer labels (H, W), or n COCO run-length codes of size (H, W), which may overlap
    predicted  integer labels (H, W)  0 background, 1..n instances, numbers may have gaps

A match is a pair whose IoU is at least a threshold of 0.5 or more. Where an instance has several
candidates (only at an IoU of exactly 0.5, or where true outlines overlap), matches are chosen so
that most are made, then so that their IoU is largest: the rule of `stardist.matching` and of
Cellpose's `average_precision`.

Edge case: no true and no predicted instance scores 1.0 everywhere (stardist says 0).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from unet_keras.evaluation.overlaps import Overlaps, label_overlaps, outline_overlaps

IOU_THRESHOLDS = tuple(step / 100 for step in range(50, 100, 5))


def match_matrix(truth: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    """IoU of every true with every predicted instance.

    Args:
        truth: Integer labels (H, W).
        predicted: Integer labels (H, W).

    Returns:
        float64 (n, m) in [0, 1], rows and columns in ascending order of the numbers in use.

    Raises:
        InputError: The label maps differ in size or are none.
    """
    overlaps = label_overlaps(truth, predicted)
    matrix = np.zeros((len(overlaps.truth_numbers), len(overlaps.predicted_numbers)))
    matrix[overlaps.truth_index, overlaps.predicted_index] = overlaps.iou
    return matrix


def best_matches(overlaps: Overlaps) -> np.ndarray:
    """The pairs that match at IoU 0.5; those of them above a higher threshold match there.

    Args:
        overlaps: Of one image.

    Returns:
        int64 (k,), positions among the pairs; no instance is in two of them.
    """
    candidates = np.flatnonzero(overlaps.iou >= IOU_THRESHOLDS[0])
    truth, predicted = overlaps.truth_index[candidates], overlaps.predicted_index[candidates]
    rivals = (np.bincount(truth, minlength=1)[truth] > 1) | (
        np.bincount(predicted, minlength=1)[predicted] > 1
    )
    if not rivals.any():
        return candidates
    contested = candidates[rivals]
    rows, row = np.unique(truth[rivals], return_inverse=True)
    columns, column = np.unique(predicted[rivals], return_inverse=True)
    gain, pair = np.zeros((len(rows), len(columns))), np.full((len(rows), len(columns)), -1)
    # a match more is worth more than any sum of IoU
    gain[row, column] = 1 + overlaps.iou[contested] / (2 * min(gain.shape))
    pair[row, column] = contested
    chosen = pair[linear_sum_assignment(gain, maximize=True)]
    return np.sort(np.concatenate([candidates[~rivals], chosen[chosen >= 0]]))


@dataclass(frozen=True)
class InstanceScores:
    """Counts of matched instances of one or more images; addable.

    Attributes:
        truth: Number of true instances.
        predicted: Number of predicted instances.
        true_positive: Number of matches at each of the ten `IOU_THRESHOLDS`.
        matched_iou: Sum of the IoU of the matches at 0.5, each in [0.5, 1].
        covered_iou: Sum, over the true instances that one prediction covers by more than half,
            of its IoU, each in [0, 1].
    """

    truth: int = 0
    predicted: int = 0
    true_positive: tuple[int, ...] = (0,) * len(IOU_THRESHOLDS)
    matched_iou: float = 0.0
    covered_iou: float = 0.0

    def __add__(self, other: "InstanceScores") -> "InstanceScores":
        return InstanceScores(
            self.truth + other.truth,
            self.predicted + other.predicted,
            tuple(a + b for a, b in zip(self.true_positive, other.true_positive, strict=True)),
            self.matched_iou + other.matched_iou,
            self.covered_iou + other.covered_iou,
        )

    def accuracies(self) -> list[float]:
        """TP / (TP + FP + FN) at each of `IOU_THRESHOLDS`, in [0, 1]."""
        total = self.truth + self.predicted
        return [hits / (total - hits) if total else 1.0 for hits in self.true_positive]

    @property
    def segmentation_accuracy(self) -> float:
        """Mean of `accuracies` (SA; "average precision" in Cellpose), in [0, 1]."""
        return float(np.mean(self.accuracies()))

    @property
    def panoptic_quality(self) -> float:
        """Sum of matched IoU / (TP + FP/2 + FN/2) at 0.5, in [0, 1].

        Kirillov et al. 2019, eq. 1.
        """
        total = self.truth + self.predicted
        return self.matched_iou / (total / 2) if total else 1.0

    @property
    def seg(self) -> float:
        """SEG of the Cell Tracking Challenge, in [0, 1].

        The mean IoU over true instances, 0 where not covered.
        """
        if self.truth:
            return self.covered_iou / self.truth
        return 0.0 if self.predicted else 1.0

    def scores(self) -> dict[str, float]:
        """All scores, each in [0, 1], by their names in `metrics.json`."""
        hits, total = self.true_positive[0], self.truth + self.predicted
        empty = 1.0 if not total else 0.0
        return {
            "segmentation_accuracy": self.segmentation_accuracy,
            "segmentation_accuracy_50": self.accuracies()[0],
            "panoptic_quality": self.panoptic_quality,
            "seg": self.seg,
            "instance_f1_50": 2 * hits / total if total else 1.0,
            "instance_precision_50": hits / self.predicted if self.predicted else empty,
            "instance_recall_50": hits / self.truth if self.truth else empty,
        }


def score_instances(overlaps: Overlaps) -> InstanceScores:
    """Match the instances of one image and count.

    Args:
        overlaps: From `label_overlaps` or `outline_overlaps`.

    Returns:
        Counts and scores.
    """
    matched = overlaps.iou[best_matches(overlaps)]
    covers = 2 * overlaps.shared > overlaps.truth_areas[overlaps.truth_index]
    return InstanceScores(
        len(overlaps.truth_numbers),
        len(overlaps.predicted_numbers),
        tuple(int(np.count_nonzero(matched >= level)) for level in IOU_THRESHOLDS),
        float(matched.sum()),
        float(overlaps.iou[covers].sum()),
    )


def segmentation_accuracy(
    truth: np.ndarray | Sequence[bytes], predicted: np.ndarray
) -> dict[str, float]:
    """Scores of one image, SA and SA50 among them, by their names in `metrics.json`.

    Args:
        truth: Integer labels (H, W), or COCO run-length `counts`, which may overlap.
        predicted: Integer labels (H, W).

    Returns:
        What `InstanceScores.scores` gives, each in [0, 1].

    Raises:
        InputError: A label map is none, the two differ in size, or a code is damaged.
    """
    overlaps = (
        label_overlaps(truth, predicted)
        if isinstance(truth, np.ndarray)
        else outline_overlaps(truth, predicted)
    )
    return score_instances(overlaps).scores()
