"""Average precision and recall of instances, as the LIVECell benchmark computes them with COCO.

    scores   floating (m,)      one for each predicted instance; higher is surer
    matched  bool (A, T, D)     A area ranges, T IoU thresholds, D detections by falling score

Parameters of Edlund et al. 2021 (code/coco_evaluation.py of their repository): mask IoU
.50:.05:.95, areas small <= 324 <= medium <= 961 <= large (both ends belong to both, as in COCO), at
most 100, 500 and 2000 detections an image, one category, AP at 2000 detections. Areas are those
of the masks; LIVECell's files state those of the polygons, which puts 21 of the 2,679 instances of
a sample into another range and touches the scores by area only.

The results are those of `pycocotools.cocoeval.COCOeval`, whose loops over all pairs, detections,
thresholds and areas take minutes at 3,000 instances an image; here only pairs that share pixels
are looked at, and curves are made by whole arrays.

A network that classifies pixels has no score of an instance of its own: here it is the mean
foreground probability inside the instance (`instance_scores`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unet_keras.evaluation.overlaps import Overlaps

AREA_RANGES = {"all": (0.0, 1e10), "small": (0.0, 324.0), "medium": (324.0, 961.0),
               "large": (961.0, 1e10)}  # fmt: skip
MAXIMUM_DETECTIONS = (100, 500, 2000)
# as COCOeval makes them: the last bits matter where an IoU is a round fraction
_IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
_RECALLS = np.linspace(0.0, 1.0, 101)
_PLACES = 4096


@dataclass(frozen=True, eq=False)
class Detections:
    """What COCO keeps of one image.

    Attributes:
        scores: float64 (D,), falling.
        matched: bool (A, T, D).
        ignored: bool (A, T, D), detections that count neither as right nor as wrong.
        truth_ignored: bool (A, G), true instances outside the area range.
    """

    scores: np.ndarray
    matched: np.ndarray
    ignored: np.ndarray
    truth_ignored: np.ndarray


def instance_scores(probability: np.ndarray, overlaps: Overlaps, labels: np.ndarray) -> np.ndarray:
    """The score of each predicted instance: the mean foreground probability inside.

    Args:
        probability: floating (H, W) in [0, 1].
        overlaps: Of this image; it has the numbers in use.
        labels: Predicted instances, integer (H, W).

    Returns:
        float64 (m,) in the order of `overlaps.predicted_numbers`.
    """
    numbers, places = overlaps.predicted_numbers, labels.ravel().astype(np.int64, copy=False)
    if numbers[-1:].sum() > labels.size:  # too large for a table: their order in their place
        places = np.where(places > 0, np.searchsorted(numbers, places) + 1, 0)
        numbers = np.arange(1, len(numbers) + 1)
    sums = np.bincount(places, probability.ravel(), len(numbers) and numbers[-1] + 1)
    return sums[numbers] / overlaps.predicted_areas


def detect(overlaps: Overlaps, scores: np.ndarray) -> Detections:
    """Match the detections of one image by falling score, as COCOeval.evaluateImg.

    Args:
        overlaps: Of one image.
        scores: floating (m,), in the order of `overlaps.predicted_numbers`.

    Returns:
        The matches at A = 4 ranges of areas in pixels and T = 10 IoU thresholds; D <= 2000.
    """
    order = np.argsort(-scores, kind="mergesort")[: MAXIMUM_DETECTIONS[-1]]
    rank = np.full(len(scores), -1)
    rank[order] = np.arange(len(order))
    limits = np.array(list(AREA_RANGES.values()))
    truth_ignored = _outside(overlaps.truth_areas, limits)
    pairs = np.flatnonzero(
        (overlaps.iou >= _IOU_THRESHOLDS[0]) & (rank[overlaps.predicted_index] >= 0)
    )
    detection, truth = rank[overlaps.predicted_index[pairs]], overlaps.truth_index[pairs]
    matched, ignored = _match(
        detection, truth, overlaps.iou[pairs], truth_ignored, detections=len(order)
    )
    outside = _outside(overlaps.predicted_areas[order], limits)[:, np.newaxis]
    return Detections(scores[order], matched, ignored | (~matched & outside), truth_ignored)


def _outside(areas: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """Which areas lie outside which range, bool (A, n)."""
    return (areas < limits[:, :1]) | (areas > limits[:, 1:])


def _match(
    detection: np.ndarray,
    truth: np.ndarray,
    iou: np.ndarray,
    truth_ignored: np.ndarray,
    *,
    detections: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Which detections match, and which of those match an ignored truth; bool (A, T, D) each."""
    ranges, truths = truth_ignored.shape
    shape = (ranges, len(_IOU_THRESHOLDS), detections)
    matched, ignored = np.zeros(shape, bool), np.zeros(shape, bool)
    taken = np.zeros((ranges, len(_IOU_THRESHOLDS), truths), bool)
    alone = (np.bincount(detection, minlength=1)[detection] == 1) & (
        np.bincount(truth, minlength=1)[truth] == 1
    )
    matched[..., detection[alone]] = iou[alone] >= _IOU_THRESHOLDS[:, np.newaxis]
    ignored[..., detection[alone]] = truth_ignored[:, np.newaxis, truth[alone]]
    for number in np.unique(detection[~alone]):
        # COCO takes the last of the largest IoU, and an ignored truth only where no other is left
        mine = np.flatnonzero(detection == number)
        mine = mine[np.lexsort((truth[mine], iou[mine]))[::-1]]
        free = ~taken[..., truth[mine]] & (iou[mine] >= _IOU_THRESHOLDS[:, np.newaxis])
        counted = free & ~truth_ignored[:, np.newaxis, truth[mine]]
        choice = np.where(counted.any(-1), counted.argmax(-1), free.argmax(-1))
        area, level = np.nonzero(free.any(-1))
        chosen = truth[mine][choice[area, level]]
        matched[area, level, number] = taken[area, level, chosen] = True
        ignored[area, level, number] = truth_ignored[area, chosen]
    return matched, ignored & matched


def average_precision(images: Sequence[Detections]) -> dict[str, float | None]:
    """AP and AR of all images together, as COCOeval.accumulate and LIVECell's summary.

    Args:
        images: One each, in any order that is kept (equal scores are ranked by it).

    Returns:
        By their names in `metrics.json`, in [0, 1]: `ap`, `ap50`, `ap75`, `ap_small`, `ap_medium`,
        `ap_large` (at most 2000 detections), `ar_100`, `ar_500`, `ar_2000`, `ar_small`,
        `ar_medium`, `ar_large`, and `afnr`, the average share of true instances not found, which
        is 1 - `ar_2000`. None where there is no true instance (COCO says -1).
    """
    precision = _ranked(images, 0).precision()
    result = {
        "ap": _mean(precision),
        "ap50": None if precision is None else float(precision[0]),
        "ap75": None if precision is None else float(precision[5]),
    }
    for area, name in enumerate(AREA_RANGES):
        if area:
            result[f"ap_{name}"] = _mean(_ranked(images, area).precision())
            result[f"ar_{name}"] = _recall(images, area, MAXIMUM_DETECTIONS[-1])
    for maximum in MAXIMUM_DETECTIONS:
        result[f"ar_{maximum}"] = _recall(images, 0, maximum)
    found = result["ar_2000"]
    result["afnr"] = None if found is None else 1.0 - found
    return result


def resampled_precision(images: Sequence[Detections], times: np.ndarray) -> np.ndarray:
    """AP at each IoU threshold (all areas, 2000 detections) of images drawn with replacement.

    Beyond 4096 detections those of neighboring rank are taken together, which changes AP in the
    fourth decimal and makes all resamples one matrix product.

    Args:
        images: One each.
        times: int (r, n), how often each image is drawn in each of r resamples.

    Returns:
        float64 (r', 10), without the resamples that have no true instance.
    """
    ranked = _ranked(images, 0)
    totals = times @ ranked.truths
    times, totals = times[totals > 0].astype(np.float64), totals[totals > 0]
    detections = len(ranked.owner)
    places = max(1, min(detections, _PLACES))
    cell = ranked.owner * places + np.arange(detections) * places // max(1, detections)

    def drawn(flags: np.ndarray) -> np.ndarray:
        table = np.bincount(cell, flags, len(images) * places).reshape(len(images), places)
        return np.cumsum(times @ table, axis=1)

    columns = [
        [_mean_precision(*curve) for curve in zip(drawn(right), drawn(wrong), totals, strict=True)]
        for right, wrong in zip(ranked.right, ranked.wrong, strict=True)
    ]
    return np.array(columns).T


@dataclass(frozen=True, eq=False)
class _Ranked:
    """Detections of many images by falling score, in one area range.

    Attributes:
        right: bool (T, D), matched to a counted instance.
        wrong: bool (T, D), neither matched nor ignored.
        owner: int64 (D,), the image of each detection.
        truths: int64 (n,), counted true instances of each image.
    """

    right: np.ndarray
    wrong: np.ndarray
    owner: np.ndarray
    truths: np.ndarray

    def precision(self) -> np.ndarray | None:
        """Mean precision at 101 recalls, float64 (T,); None without any true instance."""
        total = int(self.truths.sum())
        if not total:
            return None
        # one threshold at a time: all ten of three million detections would take half a gigabyte
        curves = zip(self.right, self.wrong, strict=True)
        return np.array(
            [_mean_precision(np.cumsum(hits), np.cumsum(misses), total) for hits, misses in curves]
        )


def _mean_precision(hits: np.ndarray, misses: np.ndarray, total: int) -> float:
    """Mean over 101 recalls of the best precision from there on; cumulative counts by rank."""
    curve = hits / (hits + misses + np.spacing(1))
    highest = np.maximum.accumulate(curve[::-1])[::-1]
    at = np.searchsorted(hits / total, _RECALLS)
    return float(highest[at[at < len(hits)]].sum() / len(_RECALLS))


def _ranked(images: Sequence[Detections], area: int) -> _Ranked:
    if not images:
        none = np.zeros((len(_IOU_THRESHOLDS), 0), bool)
        return _Ranked(none, none, np.zeros(0, np.int64), np.zeros(0, np.int64))
    order = np.argsort(-np.concatenate([image.scores for image in images]), kind="mergesort")
    owner = np.repeat(np.arange(len(images)), [len(image.scores) for image in images])[order]
    matched = np.concatenate([image.matched[area] for image in images], axis=1)[:, order]
    ignored = np.concatenate([image.ignored[area] for image in images], axis=1)[:, order]
    truths = np.array([np.count_nonzero(~image.truth_ignored[area]) for image in images])
    return _Ranked(matched & ~ignored, ~matched & ~ignored, owner, truths)


def _recall(images: Sequence[Detections], area: int, maximum: int) -> float | None:
    """Share of the true instances found by the first detections of each image, mean over IoU."""
    truths = sum(np.count_nonzero(~image.truth_ignored[area]) for image in images)
    found = sum(
        np.count_nonzero((image.matched[area] & ~image.ignored[area])[:, :maximum], axis=1)
        for image in images
    )
    return float(np.mean(found / truths)) if truths else None


def _mean(values: np.ndarray | None) -> float | None:
    return None if values is None else float(values.mean())
