"""From one image after another to the numbers of `metrics.json`.

    image         (H, W) or (H, W, C)    as in the record
    truth_labels  integer (H, W)         0 background, 1..n instances
    outlines      n COCO run-length counts of size (H, W), which may overlap
    probability   floating (H, W)        of foreground, in [0, 1]
    predicted     integer (H, W)         0 background, 1..m instances

`Evaluation` keeps numbers of every image and pictures of a few: memory grows by some 80 bytes a
predicted instance, 160 kilobytes an image at most. Pixel scores of a group are those of all its
pixels together; instance scores are means over its images; AP ranks all its instances together.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from unet_keras.errors import InputError
from unet_keras.evaluation.classes import ClassCounts
from unet_keras.evaluation.detection import average_precision, resampled_precision
from unet_keras.evaluation.examples import ExampleKeeper, draw_example
from unet_keras.evaluation.fates import Fates
from unet_keras.evaluation.instances import IOU_THRESHOLDS, InstanceScores
from unet_keras.evaluation.intervals import determination, interval, resamples, score_intervals
from unet_keras.evaluation.measure import Case, Measured, measure
from unet_keras.evaluation.membranes import summarize_membranes
from unet_keras.evaluation.pixels import PixelCounts, ProbabilityHistogram

METRICS_VERSION = 1
AVERAGED = (
    "segmentation_accuracy",
    "segmentation_accuracy_50",
    "panoptic_quality",
    "seg",
    "instance_f1_50",
    "instance_precision_50",
    "instance_recall_50",
    "boundary_f1",
    "dice_of_instances",
    "segmentation_accuracy_label_map",
)
MEMBRANES = ("v_rand", "v_info", "rand_error", "warping_error", "warping_error_all")
CEILINGS = ("ceiling_label_map", "ceiling_foreground")
# a resample of AP sorts nothing but still passes over every instance ten times
PRECISION_RESAMPLES = 200


class Evaluation:
    """Scores of predictions, added image by image.

    Attributes:
        threshold: Probability from which on (inclusive) a pixel is foreground.
        histogram: Probabilities of all pixels so far.
        examples: Pictures of the best and the worst images so far.
        membranes: Whether segments between membranes are scored.
        classes: Pixels of each class, where a network tells several apart; None elsewhere.
    """

    def __init__(
        self,
        *,
        threshold: float = 0.5,
        examples: int = 3,
        membranes: bool = False,
        class_names: Sequence[str] = (),
    ) -> None:
        """Start without images.

        Args:
            threshold: Tuned on the validation split only.
            examples: How many of the best and how many of the worst images are drawn.
            membranes: Whether segments between membranes are scored too, as ISBI 2012 does it.
            class_names: Of the classes that a network tells apart, the background first.
        """
        self.threshold = threshold
        self.membranes = membranes
        self.histogram = ProbabilityHistogram()
        self.examples = ExampleKeeper(examples)
        self.classes = ClassCounts(class_names) if class_names else None
        self._measured: list[Measured] = []

    def __len__(self) -> int:
        return len(self._measured)

    def add(
        self,
        file_name: str,
        group: str,
        image: np.ndarray,
        truth_labels: np.ndarray,
        outlines: Sequence[bytes] | None,
        probability: np.ndarray,
        predicted_labels: np.ndarray,
        *,
        foreground: np.ndarray | None = None,
        ignore: np.ndarray | None = None,
        learned: np.ndarray | None = None,
    ) -> dict[str, Any]:
        """Score one image.

        Args:
            file_name: Named in the tables and in errors.
            group: Cell type.
            image: (H, W) or (H, W, C), for the pictures.
            truth_labels: Integer (H, W), the label map of the record, nothing separated.
            outlines: The original outlines; None where the label map is the only truth.
            probability: floating (H, W) or (H, W, 1) in [0, 1]; of foreground.
            predicted_labels: Integer (H, W).
            foreground: bool (H, W), what the network was to learn, where that is not
                `truth_labels > 0` (touching instances separated); pixel scores compare with it.
            ignore: bool (H, W), pixels that the pixel scores leave out.
            learned: Integer (H, W), the instances that a network without errors would have led to,
                where that are not the components of the foreground.

        Returns:
            The image's row of `metrics.json`.

        Raises:
            InputError: An array is of another size or holds no probabilities; names the file.
        """
        truth = truth_labels > 0 if foreground is None else foreground
        try:
            case = Case(
                image, truth_labels, outlines, probability, predicted_labels, truth, ignore,
                learned,
            ).checked()  # fmt: skip
            measured, overlaps = measure(
                case, file_name, group, threshold=self.threshold, membranes=self.membranes
            )
            self.histogram.add(case.foreground, case.probability, ignore=ignore)
        except InputError as error:
            raise InputError(f"{file_name}: {error}") from None
        self._measured.append(measured)
        row = measured.row()
        self.examples.offer(
            file_name,
            (row["segmentation_accuracy"], row["dice"]),
            lambda: draw_example(case, overlaps, threshold=self.threshold),
        )
        return row

    def results(self) -> dict[str, Any]:
        """Everything for `metrics.json`: only strings, finite numbers, None, lists, dictionaries.

        Returns:
            `version`, `threshold`, `overall` and `groups` (scores by name), `intervals` (95%, by
            bootstrap over images), `images` (a row each), `membranes` (None if not asked for),
            `classes` (None if they are not told apart), and the curves `iou_thresholds`,
            `thresholds` and `calibration`.

        Raises:
            InputError: No image was added.
        """
        if not self._measured:
            raise InputError("No image was evaluated; expected at least one in the split.")
        groups = sorted({image.group for image in self._measured})
        overall = summarize(self._measured)
        overall["calibration_error"] = self.histogram.calibration_error()
        overall["best_threshold"], overall["best_dice"] = self.histogram.best_threshold()
        results = {
            "version": METRICS_VERSION,
            "threshold": float(self.threshold),
            "overall": overall,
            "groups": {
                group: summarize([image for image in self._measured if image.group == group])
                for group in groups
            },
            "intervals": _intervals(self._measured),
            "images": [image.row() for image in self._measured],
            "membranes": _membranes(self._measured),
            "classes": self.classes.scores() if self.classes is not None else None,
            "iou_thresholds": _accuracy_curve(self._measured),
            "thresholds": _threshold_curve(self.histogram),
            "calibration": self.histogram.calibration(),
        }
        return _finite(results)


def summarize(images: Sequence[Measured]) -> dict[str, Any]:
    """The scores of some images together.

    Args:
        images: At least one.

    Returns:
        What stands under `overall` and `groups` in `metrics.json`: counts, scores in [0, 1],
        `count_r2` in (-inf, 1], and `count_error`, the mean absolute error of the images' counts;
        None where a score does not exist.
    """
    rows = [image.row() for image in images]
    true = [image.instances.truth for image in images]
    predicted = [image.instances.predicted for image in images]
    pooled = sum((image.instances for image in images), InstanceScores())
    return {
        "images": len(images),
        "truth_instances": sum(true),
        "predicted_instances": sum(predicted),
        **sum((image.fates for image in images), Fates()).named(),
        **sum((image.pixels for image in images), PixelCounts()).scores(),
        "dice_mean_of_images": float(np.mean([row["dice"] for row in rows])),
        **{name: _mean([row[name] for row in rows]) for name in AVERAGED + CEILINGS},
        "segmentation_accuracy_pooled": pooled.segmentation_accuracy,
        **average_precision([image.detections for image in images]),
        "count_r2": determination(true, predicted),
        "count_error": float(np.mean(np.abs(np.subtract(true, predicted)))),
    }


def _mean(values: Sequence[float | None]) -> float | None:
    """Mean of the images that have the score."""
    present = [value for value in values if value is not None]
    return float(np.mean(present)) if present else None


def _membranes(images: Sequence[Measured]) -> dict[str, Any] | None:
    """Scores of the segments between membranes, if all images have them."""
    thresholds = list(images[0].membranes)
    if not thresholds:
        return None
    scores = [list(image.membranes.values()) for image in images]
    return summarize_membranes(scores, thresholds, threshold=images[0].threshold)


def _intervals(images: Sequence[Measured]) -> dict[str, list[float]]:
    """95% intervals of the overall scores; none below two images."""
    if len(images) < 2:
        return {}
    counts = [
        (image.pixels.true_positive, image.pixels.false_positive, image.pixels.false_negative)
        for image in images
    ]
    rows = [image.row() for image in images]
    names = (*AVERAGED, *MEMBRANES) if images[0].membranes else AVERAGED
    averaged = {name: [row[name] for row in rows] for name in names}
    result = score_intervals(np.array(counts), averaged)
    times = np.concatenate(list(resamples(len(images), PRECISION_RESAMPLES)))
    precision = resampled_precision([image.detections for image in images], times)
    if len(precision):
        result["ap"] = interval(precision.mean(axis=1))
        result["ap50"], result["ap75"] = interval(precision[:, 0]), interval(precision[:, 5])
    return result


def _accuracy_curve(images: Sequence[Measured]) -> list[dict[str, float]]:
    """TP / (TP + FP + FN) by IoU threshold, mean over images; its mean is the SA."""
    accuracies = np.mean([image.instances.accuracies() for image in images], axis=0)
    return [
        {"iou": level, "accuracy": float(accuracy)}
        for level, accuracy in zip(IOU_THRESHOLDS, accuracies, strict=True)
    ]


def _threshold_curve(histogram: ProbabilityHistogram) -> list[dict[str, float]]:
    """Dice, precision and recall of all pixels at thresholds 0.01, 0.02, ... 0.99."""
    curve = []
    for step in range(10, 1000, 10):
        counts = histogram.counts_at(step)
        scores = {name: getattr(counts, name) for name in ("dice", "precision", "recall")}
        curve.append({"threshold": step / 1000, **scores})
    return curve


def _finite(value: Any) -> Any:
    """The same without NaN and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
