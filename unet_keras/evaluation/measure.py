"""The numbers of one image.

    image             (H, W) or (H, W, C)
    truth_labels      integer (H, W)   0 background, 1..n instances, nothing separated
    outlines          n COCO run-length counts of size (H, W), which may overlap
    probability       floating (H, W)  of foreground, in [0, 1]
    predicted_labels  integer (H, W)
    foreground        bool (H, W)      what the network was to learn

Instances are compared with the original outlines: the label map has lost the pixels that they
share, the foreground those between touching ones. How much that costs is measured too, by scoring
the truth itself as if it were a prediction (`ceiling_label_map`, `ceiling_foreground`).
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from unet_keras.errors import InputError
from unet_keras.evaluation.boundaries import BoundaryCounts, count_boundaries
from unet_keras.evaluation.detection import Detections, detect, instance_scores
from unet_keras.evaluation.fates import Fates, count_fates
from unet_keras.evaluation.instances import InstanceScores, score_instances
from unet_keras.evaluation.membranes import MembraneScores, score_membranes, thresholds_with
from unet_keras.evaluation.overlaps import Overlaps, label_overlaps, outline_overlaps
from unet_keras.evaluation.pixels import PixelCounts, count_pixels
from unet_keras.inference.instances import label_instances


@dataclass(frozen=True, eq=False)
class Case:
    """One image with its truth and its prediction.

    Attributes:
        image: (H, W) or (H, W, C), for the pictures.
        truth_labels: Integer (H, W).
        outlines: The original outlines; None where the label map is the only truth.
        probability: floating (H, W) or (H, W, 1).
        predicted_labels: Integer (H, W).
        foreground: bool (H, W), what pixel scores compare with.
        ignore: bool (H, W), what they leave out, or None.
        learned: Integer (H, W), the instances that a network without errors would have led to;
            None for those of the foreground.
    """

    image: np.ndarray
    truth_labels: np.ndarray
    outlines: Sequence[bytes] | None
    probability: np.ndarray
    predicted_labels: np.ndarray
    foreground: np.ndarray
    ignore: np.ndarray | None
    learned: np.ndarray | None = None

    def checked(self) -> "Case":
        """The same with a probability map of (H, W).

        Raises:
            InputError: An array is not of the image's size.
        """
        probability = self.probability
        if probability.ndim == 3 and probability.shape[-1] == 1:
            probability = probability[..., 0]
        arrays = {
            "truth": self.truth_labels,
            "foreground": self.foreground,
            "probability map": probability,
            "predicted label map": self.predicted_labels,
        }
        height, width = self.image.shape[:2]
        for name, array in arrays.items():
            if array.shape != (height, width):
                raise InputError(
                    f"the {name} has {' x '.join(map(str, array.shape))} pixels, the image "
                    f"{height} x {width}; predict at the image's own size, foreground only."
                )
        return replace(self, probability=probability)


@dataclass(frozen=True, eq=False)
class Measured:
    """What is kept of an image: no pictures.

    Attributes:
        file_name: Of the image.
        group: Cell type.
        pixels: Thresholded probability against the foreground.
        union: All predicted instances against all true ones, as pixels.
        instances: Against the outlines, or the label map where there are none.
        fates: What became of the true instances.
        label_map: Against the label map.
        boundaries: Of the label maps.
        ceilings: The truth scored as a prediction, by name; empty without outlines.
        detections: For AP and AR.
        threshold: Probability from which on a pixel is foreground.
        membranes: Scores of the segments between membranes by threshold; empty if not asked for.
        truth_digest: Of the outlines, or of the label map where there are none, hexadecimal.
    """

    file_name: str
    group: str
    pixels: PixelCounts
    union: PixelCounts
    instances: InstanceScores
    fates: Fates
    label_map: InstanceScores
    boundaries: BoundaryCounts
    ceilings: dict[str, float]
    detections: Detections
    threshold: float
    membranes: Mapping[float, MembraneScores]
    truth_digest: str

    def row(self) -> dict[str, Any]:
        """What stands under `images` in `metrics.json`: texts, counts, scores in [0, 1] or None."""
        segments = asdict(self.membranes[self.threshold]) if self.membranes else {}
        segments.pop("pixel_error", None)  # the one of `pixels`, which knows ignored pixels
        return {
            "file_name": self.file_name,
            "group": self.group,
            "truth_digest": self.truth_digest,
            "truth_instances": self.instances.truth,
            "predicted_instances": self.instances.predicted,
            **self.fates.named(),
            **self.pixels.scores(),
            "dice_of_instances": self.union.dice,
            **self.instances.scores(),
            "boundary_f1": self.boundaries.f1,
            "segmentation_accuracy_label_map": self.label_map.segmentation_accuracy,
            "ceiling_label_map": self.ceilings.get("label_map"),
            "ceiling_foreground": self.ceilings.get("foreground"),
            **segments,
        }


def measure(
    case: Case, file_name: str, group: str, *, threshold: float, membranes: bool = False
) -> tuple[Measured, Overlaps]:
    """Score one image.

    Args:
        case: Checked.
        file_name: Of the image.
        group: Cell type.
        threshold: Probability from which on a pixel is foreground.
        membranes: Whether segments between membranes are scored.

    Returns:
        The numbers, and the overlaps that tell which instance matches which.

    Raises:
        InputError: The probabilities are none, or an outline is damaged or of another size.
    """
    truth, predicted = case.truth_labels, case.predicted_labels
    on_labels = overlaps = label_overlaps(truth, predicted)
    if case.outlines is not None:
        overlaps = outline_overlaps(case.outlines, predicted)
    scores = instance_scores(case.probability, overlaps, predicted)
    measured = Measured(
        file_name=file_name,
        group=group,
        pixels=count_pixels(
            case.foreground, case.probability, threshold=threshold, ignore=case.ignore
        ),
        union=count_pixels(truth > 0, predicted > 0, ignore=case.ignore),
        instances=score_instances(overlaps),
        fates=count_fates(overlaps),
        label_map=score_instances(on_labels),
        boundaries=count_boundaries(truth, predicted),
        ceilings=_ceilings(case),
        detections=detect(overlaps, scores),
        threshold=float(threshold),
        membranes={
            level: score_membranes(truth, case.foreground, case.probability, threshold=level)
            for level in (thresholds_with(threshold) if membranes else ())
        },
        truth_digest=_truth_digest(case),
    )
    return measured, overlaps


def _truth_digest(case: Case) -> str:
    """What tells whether two evaluations of files of one name had the same truth."""
    digest = hashlib.blake2b(repr(case.truth_labels.shape).encode(), digest_size=8)
    if case.outlines is None:
        digest.update(np.ascontiguousarray(case.truth_labels, np.int64).data)
    for outline in case.outlines or ():
        digest.update(outline + b" ")
    return digest.hexdigest()


def _ceilings(case: Case) -> dict[str, float]:
    """Segmentation accuracy of what the truth became on its way, against the outlines."""
    if case.outlines is None:
        return {}
    learned = label_instances(case.foreground) if case.learned is None else case.learned
    perfect = {"label_map": case.truth_labels, "foreground": learned}
    return {
        name: score_instances(outline_overlaps(case.outlines, labels)).segmentation_accuracy
        for name, labels in perfect.items()
    }
