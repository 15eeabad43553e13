"""COCO segmentations -> one run-length code of the whole image an instance.

polygons      list of [x0, y0, x1, y1, ...]  pixels, from the image's top left corner
run lengths   {"counts": [...] or str, "size": [H, W]}  column by column
outline       bytes, compressed counts of size (H, W), as pycocotools writes them
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from unet_keras.errors import InputError
from unet_keras.sources.coco_index import MINIMUM_COORDINATES

RunLengths = dict[str, Any]


def read_annotations(
    path: Path, starts: np.ndarray, lengths: np.ndarray, image_ids: Sequence[int | str]
) -> list[dict[str, Any]]:
    """Read annotations again from where the index found them.

    Args:
        path: The JSON file.
        starts: int64 (n,), the first byte of each.
        lengths: int32 (n,), its length in bytes.
        image_ids: The ids their image has.

    Raises:
        InputError: Something else stands there now: the file was replaced; or it is no UTF-8.
    """
    annotations = []
    try:
        with path.open("rb") as file:
            for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
                file.seek(start)
                annotation = json.loads(file.read(length).decode())  # else it guesses the encoding
                if annotation["image_id"] not in image_ids:
                    raise ValueError(annotation["image_id"])
                annotations.append(annotation)
    except OSError as error:
        raise InputError(f"{path} cannot be read anymore: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is no text in UTF-8 at byte {start + error.start}, in an annotation; save it "
            "so."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} was changed while it was being converted; start the conversion again."
        ) from error
    return annotations


def trace_outlines(
    segmentations: Sequence[Any], size: tuple[int, int], *, names: Sequence[str]
) -> tuple[list[bytes], list[int]]:
    """Rasterize segmentations through pycocotools, several polygons of one instance united.

    Args:
        segmentations: Polygons (lists of x0, y0, x1, y1, ... in pixels), compressed or
            uncompressed run lengths of n instances.
        size: Height and width of the image in pixels.
        names: What to call each instance in an error.

    Returns:
        The outlines of those that cover a pixel at least, and their positions among the n.

    Raises:
        InputError: Coordinates are no numbers or far outside, or run lengths are of another size.
    """
    polygons: list[np.ndarray] = []
    owners: list[int] = []
    codes: list[RunLengths | None] = [None] * len(segmentations)
    for k, segmentation in enumerate(segmentations):
        if isinstance(segmentation, dict):
            codes[k] = _run_lengths(segmentation, size, names[k])
            continue
        mine = [p for p in segmentation if len(p) >= MINIMUM_COORDINATES]
        polygons += [_coordinates(polygon, size, names[k]) for polygon in mine]
        owners += [k] * len(mine)
    traced = coco_mask.frPyObjects(polygons, *size) if polygons else []
    parts: dict[int, list[RunLengths]] = {}
    for owner, code in zip(owners, traced, strict=True):
        parts.setdefault(owner, []).append(code)
    for owner, several in parts.items():
        codes[owner] = several[0] if len(several) == 1 else coco_mask.merge(several)
    # One at a time: pycocotools 2.0.11 fails on more than 255 at once beside NumPy 2.
    whole = {k: code for k, code in enumerate(codes) if code and coco_mask.area(code) > 0}
    return [code["counts"] for code in whole.values()], list(whole)


def _coordinates(polygon: Any, size: tuple[int, int], name: str) -> np.ndarray:
    try:
        points = np.array(polygon, np.float64)
    except (TypeError, ValueError):
        points = np.array([np.nan])
    # Rasterizing takes time and memory by a polygon's extent: what is an image's size away from
    # the image (or infinite, or no number) is a mistake that must not come that far.
    reach = 2 * max(size)
    if points.ndim != 1 or len(points) % 2 or not (np.abs(points) <= reach).all():
        raise InputError(
            f"A polygon of {name} has coordinates that are not pairs of numbers in or near the "
            f"image of {size[1]} x {size[0]} pixels (width x height); correct or remove it."
        )
    return points


def _run_lengths(segmentation: RunLengths, size: tuple[int, int], name: str) -> RunLengths:
    stated = segmentation.get("size", list(size))
    if stated != list(size):
        raise InputError(
            f"The run lengths of {name} are of size {stated}, but its image is "
            f"{list(size)} (height, width); correct or remove it."
        )
    counts = segmentation["counts"]
    try:
        if isinstance(counts, str):
            compressed = counts.encode("ascii")
            code = {"size": list(size), "counts": compressed}
            covered = _decoded_pixels(compressed)
        else:
            if not all(float(count).is_integer() for count in counts):
                raise ValueError(counts)  # pycocotools would cut the fractions off
            covered = sum(counts)
            code = coco_mask.frPyObjects({"size": list(size), "counts": counts}, *size)
    except (TypeError, ValueError, OverflowError):
        covered = -1
    if covered != size[0] * size[1]:
        raise InputError(
            f"The run lengths of {name} are no whole numbers that add up to the "
            f"{size[0] * size[1]} pixels of its image; correct or remove it."
        )
    return code


def _decoded_pixels(counts: bytes) -> int:
    """Add up compressed run lengths; -1 where they are damaged.

    pycocotools trusts them and would write past the end of its buffer. Each run is a number in
    groups of 5 bits from the low end, offset by 48; from the fourth on, its difference to the
    run before the last.
    """
    runs: list[int] = []
    value = shift = 0
    for byte in counts:
        group = byte - 48
        value |= (group & 31) << shift
        shift += 5
        if not group & 32:
            value -= (1 << shift) if group & 16 else 0
            runs.append(value + runs[-2] if len(runs) > 2 else value)
            value = shift = 0
    return sum(runs) if runs and min(runs) >= 0 and shift == 0 else -1
