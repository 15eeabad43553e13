"""Made instances that overlap and touch, with a truth and a prediction, and COCO's evaluation."""

import contextlib
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pycocotools.mask as coco_mask

from unet_keras.targets.labels import paint_labels, separate_touching

SHAPE = (520, 704)  # height and width of LIVECell's images
AREA_RANGES = [[0, 1e10], [0, 324], [324, 961], [961, 1e10]]
MAXIMUM_DETECTIONS = [100, 500, 2000]


@dataclass(frozen=True)
class MadeImage:
    """One image.

    Attributes:
        image: uint8 (H, W).
        outlines: True instances as COCO run-length counts, which overlap.
        labels: Integer (H, W), the true label map.
        predicted: Integer (H, W), predicted instances.
        probability: float32 (H, W) of foreground.
    """

    image: np.ndarray
    outlines: tuple[bytes, ...]
    labels: np.ndarray
    predicted: np.ndarray
    probability: np.ndarray


def made_image(count: int, seed: int, shape: tuple[int, int] = SHAPE) -> MadeImage:
    """Ellipses on a jittered grid; the prediction moves, swells, loses and invents some."""
    random = np.random.default_rng([count, seed])
    height, width = shape
    spacing = math.sqrt(height * width / max(count, 1))
    rows, columns = max(round(height / spacing), 1), max(math.ceil(width / spacing), 1)
    places = random.permutation(rows * columns)[:count]
    centers = np.stack([places // columns, places % columns], 1) + 0.5
    centers = centers * [height / rows, width / columns]
    centers += random.uniform(-0.3, 0.3, centers.shape) * spacing
    radii = random.uniform(0.38, 0.62, centers.shape) * spacing
    truth = ellipses(centers, radii, shape)
    kept = random.random(len(centers)) > 0.08
    moved = centers[kept] + random.normal(0, 0.06 * spacing, (kept.sum(), 2))
    swollen = radii[kept] * random.uniform(0.85, 1.12, (kept.sum(), 1))
    false = random.uniform(0, shape, (count // 30, 2))
    swollen = np.concatenate([swollen, np.full((len(false), 2), 0.4 * spacing)])
    predicted = paint_labels(ellipses(np.concatenate([moved, false]), swollen, shape), shape)
    # sureness by instance, in steps, so that some scores are equal
    sureness = np.append(0.0, random.integers(12, 20, int(predicted.max()) + 1) / 20)
    probability = np.where(separate_touching(predicted) > 0, sureness[predicted], 0.1)
    noise = random.normal(0, 0.02, shape)
    return MadeImage(
        random.integers(80, 170, shape, np.uint8),
        truth,
        paint_labels(truth, shape),
        predicted,
        np.clip(probability + noise, 0, 1).astype(np.float32),
    )


def ellipses(centers: np.ndarray, radii: np.ndarray, shape: tuple[int, int]) -> tuple[bytes, ...]:
    """COCO run-length counts of ellipses, as polygons of 24 corners."""
    if not len(centers):
        return ()
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    y = centers[:, :1] + radii[:, :1] * np.sin(angle)
    x = centers[:, 1:] + radii[:, 1:] * np.cos(angle)
    corners = np.stack([np.clip(x, 0, shape[1]), np.clip(y, 0, shape[0])], -1)
    codes = coco_mask.frPyObjects(corners.reshape(len(centers), -1).tolist(), *shape)
    return tuple(code["counts"] for code in codes if coco_mask.area(code))


def encode(labels: np.ndarray) -> list[bytes]:
    """COCO run-length counts of each instance of a label map, in ascending order."""
    numbers = np.unique(labels[labels > 0])
    masks = (np.asfortranarray(labels == number, np.uint8) for number in numbers)
    return [coco_mask.encode(mask)["counts"] for mask in masks]


def coco_tables(
    images: Sequence[tuple[tuple[int, int], Sequence[bytes], Sequence[bytes], np.ndarray]],
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What COCO reads: the truth and the results of (shape, true counts, predicted, scores)."""
    truth: dict[str, Any] = {"info": {}, "categories": [{"id": 1, "name": "cell"}]}
    truth["images"], truth["annotations"] = [], []
    results = []
    for number, (shape, outlines, predicted, scores) in enumerate(images, 1):
        truth["images"].append({"id": number, "height": shape[0], "width": shape[1]})
        for counts in outlines:
            code = {"size": list(shape), "counts": counts}
            truth["annotations"].append(
                {
                    "id": len(truth["annotations"]) + 1,
                    "image_id": number,
                    "category_id": 1,
                    "segmentation": code,
                    "area": float(coco_mask.area(code)),
                    "bbox": coco_mask.toBbox(code).tolist(),
                    "iscrowd": 0,
                }
            )
        for counts, score in zip(predicted, scores, strict=True):
            code = {"size": list(shape), "counts": counts}
            results.append(
                {"image_id": number, "category_id": 1, "segmentation": code, "score": float(score)}
            )
    return truth, results


def coco_scores(evaluator: Any) -> dict[str, float | None]:
    """Run a COCOeval as the LIVECell benchmark sets it up; scores by our names."""
    evaluator.params.areaRng = AREA_RANGES
    evaluator.params.areaRngLbl = ["all", "small", "medium", "large"]
    evaluator.params.maxDets = MAXIMUM_DETECTIONS
    with contextlib.redirect_stdout(io.StringIO()):
        evaluator.evaluate()
        evaluator.accumulate()
    precision, recall = evaluator.eval["precision"], evaluator.eval["recall"]

    def mean(values: np.ndarray) -> float | None:
        return float(values[values > -1].mean()) if (values > -1).any() else None

    scores = {
        "ap": mean(precision[:, :, 0, 0, 2]),
        "ap50": mean(precision[0, :, 0, 0, 2]),
        "ap75": mean(precision[5, :, 0, 0, 2]),
    }
    for index, area in enumerate(("small", "medium", "large"), 1):
        scores[f"ap_{area}"] = mean(precision[:, :, 0, index, 2])
        scores[f"ar_{area}"] = mean(recall[:, 0, index, 2])
    for index, maximum in enumerate(MAXIMUM_DETECTIONS):
        scores[f"ar_{maximum}"] = mean(recall[:, 0, 0, index])
    return scores
