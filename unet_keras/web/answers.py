"""From a prediction to what is sent: JSON, PNG and TIFF.

    json         count, confluency, and of each instance id, area, bbox, centroid, score, outline
    mask         PNG   uint8 (H, W)          0 background, 255 cell
    labels       TIFF  uint16/32 (H, W)      0 background, 1..n instances
    probability  TIFF  float32 (H, W)        of foreground
    overlay      PNG   uint8 (H, W, 3)       outlines in colors over the image
    all          JSON  `result` as json, `files` and `pictures` in base64

Coordinates are pixels, x before y, from the image's upper left corner: the first pixel's center is
(0.5, 0.5), as in COCO and ImageJ. `cells.csv` counts from that center, as scikit-image does: its
`centroid_x` and `centroid_y` are half a pixel less.
"""

import base64
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import tifffile
from PIL import Image
from scipy import ndimage
from skimage.measure import approximate_polygon, find_contours

from unet_keras import drawing
from unet_keras.inference.cells import classes_of
from unet_keras.inference.instances import METHODS, InstanceRules, foreground_of
from unet_keras.sources.label_outlines import trace_labels
from unet_keras.web.limits import Refusal

Output = Literal["json", "mask", "labels", "probability", "overlay", "all"]
Outlines = Literal["rle", "polygons", "none"]
PNG, TIFF, JSON = "image/png", "image/tiff", "application/json"
# Pictures for looking at need no more than a screen.
LONGEST_PICTURE_PIXELS = 2048


@dataclass(frozen=True)
class Question:
    """What is wanted of an image.

    Attributes:
        output: What is sent.
        outlines: How instances are outlined in JSON: compressed COCO run-length codes, polygons
            (without holes), or not at all.
        rules: How probabilities become instances.
    """

    output: Output = "json"
    outlines: Outlines = "rle"
    rules: InstanceRules = field(default_factory=InstanceRules)

    def asked(self, query: Mapping[str, str]) -> "Question":
        """Return this question with what a query string replaces.

        Raises:
            Refusal: 400, an unknown name or a value that is none.
        """
        unknown = set(query) - {"output", "outlines", "threshold", "minimum_area", "method"}
        if unknown:
            raise Refusal(
                400,
                f"there is no parameter {sorted(unknown)[0]!r}; there are output, outlines, "
                "threshold, minimum_area and method",
            )
        choices = {"output": get_args(Output), "outlines": get_args(Outlines), "method": METHODS}
        values: dict[str, Any] = {}
        for name, known in choices.items():
            if name in query:
                if query[name] not in known:
                    raise Refusal(400, f"{name}={query[name]!r} must be one of {', '.join(known)}")
                values[name] = query[name]
        method = {"method": values.pop("method")} if "method" in values else {}
        kinds: dict[str, type] = {"threshold": float, "minimum_area": int}
        try:
            numbers = {name: kind(query[name]) for name, kind in kinds.items() if name in query}
        except ValueError:
            given = ", ".join(f"{name}={query[name]!r}" for name in kinds if name in query)
            raise Refusal(
                400, f"{given}: threshold must be a number and minimum_area a whole number"
            ) from None
        rules = replace(self.rules, **method, **numbers)
        # Turned so that NaN fails it.
        if not 0 < rules.threshold < 1 or rules.minimum_area < 0:
            raise Refusal(
                400,
                f"threshold={rules.threshold} must be between 0 and 1, "
                f"minimum_area={rules.minimum_area} at least 0",
            )
        return replace(self, **values, rules=rules)


@dataclass(frozen=True, eq=False)
class Answer:
    """What was found in an image.

    Attributes:
        name: Of the image; may be empty.
        image: (H, W, C).
        probabilities: Float32 (H, W, K).
        labels: uint16 or uint32 (H, W).
        question: What was asked.
        classes: Names of background and classes.
    """

    name: str
    image: np.ndarray
    probabilities: np.ndarray
    labels: np.ndarray
    question: Question
    classes: tuple[str, ...]

    @classmethod
    def of(
        cls,
        name: str,
        image: np.ndarray,
        probabilities: np.ndarray,
        question: Question,
        classes: tuple[str, ...] = (),
    ) -> "Answer":
        """Find the instances in an image's probabilities.

        Args:
            name: Of the image; may be empty.
            image: (H, W, C).
            probabilities: Float32 (H, W, K).
            question: Says how.
            classes: Names of background and classes.

        Raises:
            InputError: The probabilities are none.
        """
        labels = question.rules.label(foreground_of(probabilities))
        return cls(name, image, probabilities, labels, question, classes)

    @property
    def probability(self) -> np.ndarray:
        """Float32 (H, W) in [0, 1], of foreground."""
        return foreground_of(self.probabilities)


def render(answer: Answer) -> tuple[bytes, str]:
    """Return the answer about one image: content and media type."""
    output = answer.question.output
    if output == "json":
        return json.dumps(describe(answer)).encode(), JSON
    if output == "all":
        return json.dumps(_everything(answer)).encode(), JSON
    return _file(answer, output)


def describe(answer: Answer) -> dict[str, Any]:
    """Return size in pixels, count, confluency in [0, 1] and instances of an image, for JSON."""
    height, width = answer.labels.shape
    instances = describe_instances(answer)
    named = {"name": answer.name} if answer.name else {}
    return {
        **named,
        "height": height,
        "width": width,
        "count": len(instances),
        "confluency": round(float((answer.labels > 0).mean()), 6),
        "threshold": answer.question.rules.threshold,
        "minimum_area": answer.question.rules.minimum_area,
        "instances": instances,
    }


def describe_instances(answer: Answer) -> list[dict[str, Any]]:
    """Return id, area, bbox (x, y, width, height), centroid (x, y), score and outline of each.

    Lengths and places are in pixels, from the image's upper left corner. The score is the mean
    probability of foreground, in [0, 1]. Of several classes, `class` is the one whose
    probabilities in the instance have the largest sum.
    """
    labels = answer.labels
    numbers = np.arange(1, int(labels.max(initial=0)) + 1)
    areas = np.bincount(labels.ravel(), minlength=len(numbers) + 1)[1:]
    centers = ndimage.center_of_mass(labels > 0, labels, numbers) if len(numbers) else []
    scores = np.atleast_1d(ndimage.mean(answer.probability, labels, numbers))
    classes = _classes(answer)
    codes = trace_labels(labels)[0] if answer.question.outlines == "rle" else []
    instances = []
    for index, (rows, columns) in enumerate(ndimage.find_objects(labels)):
        instance: dict[str, Any] = {
            "id": index + 1,
            "area": int(areas[index]),
            "bbox": [
                columns.start,
                rows.start,
                columns.stop - columns.start,
                rows.stop - rows.start,
            ],
            "centroid": [round(centers[index][1] + 0.5, 2), round(centers[index][0] + 0.5, 2)],
            "score": round(float(scores[index]), 4),
        }
        if classes:
            instance["class"] = classes[index]
        if answer.question.outlines == "rle":
            instance["segmentation"] = {"size": list(labels.shape), "counts": codes[index].decode()}
        elif answer.question.outlines == "polygons":
            mask = labels[rows, columns] == index + 1
            instance["segmentation"] = polygons(mask, left=columns.start, top=rows.start)
        instances.append(instance)
    return instances


def polygons(mask: np.ndarray, *, left: int = 0, top: int = 0) -> list[list[float]]:
    """Outline a mask.

    Lines run halfway between the centers of pixels inside and outside, so filling them by the
    pixels' centers gives the mask back, but for its holes.

    Args:
        mask: Bool (H, W).
        left: Where it lies in the image, in pixels.
        top: Likewise.

    Returns:
        The outer outlines in pixels, each x0, y0, x1, y1, ...; several only where pieces meet at
        corners.
    """
    outlines = []
    for contour in find_contours(np.pad(mask, 1).astype(np.float32), 0.5):
        y, x = contour.T
        # Counter-clockwise around what is low: holes turn the other way.
        if (x[:-1] * y[1:] - x[1:] * y[:-1]).sum() > 0:
            corners = approximate_polygon(contour, 1e-3)[:-1] + np.array([top - 0.5, left - 0.5])
            outlines.append(corners[:, ::-1].ravel().tolist())
    return outlines


def _classes(answer: Answer) -> list[str]:
    """Return the class of each instance; none where there is only one."""
    count = answer.probabilities.shape[-1]
    if count == 1:
        return []
    names = answer.classes if len(answer.classes) == count else [str(k) for k in range(count)]
    return [names[k] for k in classes_of(answer.labels, answer.probabilities)]


def _file(answer: Answer, output: str) -> tuple[bytes, str]:
    """Return one of the files."""
    if output == "mask":
        return _png(((answer.labels > 0) * 255).astype(np.uint8)), PNG
    if output == "overlay":
        return _png(drawing.overlay(answer.image, answer.labels)), PNG
    array = answer.labels if output == "labels" else answer.probability
    stream = io.BytesIO()
    tifffile.imwrite(stream, array, compression="zlib")
    return stream.getvalue(), TIFF


def _everything(answer: Answer) -> dict[str, Any]:
    """Return JSON, files to keep and pictures to look at, in one."""
    stem = Path(answer.name).stem or "image"
    kept = {"mask": "mask.png", "labels": "labels.tif", "probability": "probability.tif"}
    overlay = drawing.overlay(answer.image, answer.labels)
    pictures = {
        "image": drawing.to_rgb(answer.image),
        "probability": drawing.probability_map(answer.probability),
        "mask": ((answer.labels > 0) * 255).astype(np.uint8),
        "instances": overlay,
    }
    files = {f"{stem}_{end}": _file(answer, output)[0] for output, end in kept.items()}
    files[f"{stem}_overlay.png"] = _png(overlay)
    shown = {
        name: _png(drawing.shrink(picture, LONGEST_PICTURE_PIXELS))
        for name, picture in pictures.items()
    }
    return {"result": describe(answer), "files": _base64(files), "pictures": _base64(shown)}


def _base64(contents: dict[str, bytes]) -> dict[str, str]:
    return {name: base64.b64encode(content).decode() for name, content in contents.items()}


def _png(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, "png", compress_level=3)
    return stream.getvalue()
