"""Outlines that were drawn or corrected in ImageJ or Fiji: a ROI each, or a zip of them.

    points    float (p, 2)                   x, y in pixels from the image's upper left corner
    outlines  n compressed COCO run-length codes of size (H, W), one an instance; they may overlap

A pixel belongs to an outline where its center lies inside, so what `predict --write rois` wrote
comes back as it was. Several paths of one ROI count by even and odd, as ImageJ draws holes.
"""

import re
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask
from roifile import ROI_TYPE, ImagejRoi
from skimage.draw import polygon

from unet_keras.errors import InputError
from unet_keras.sources.label_outlines import trace_mask

SUFFIXES = (".zip", ".roi")

RunLengthCode = dict[str, Any]

_AREAS = (
    ROI_TYPE.POLYGON, ROI_TYPE.RECT, ROI_TYPE.OVAL, ROI_TYPE.FREEHAND, ROI_TYPE.TRACED
)  # fmt: skip
# What damaged files make roifile raise.
_DAMAGE = (
    OSError, ValueError, KeyError, IndexError, TypeError, struct.error, zipfile.BadZipFile
)  # fmt: skip
# As `predict` names pieces. ImageJ names by the middle, 0012-0045, and copies 0012-0045-1.
_PIECE = re.compile(r"(\d+)-([2-9]|[1-9]\d\d?)")
# Freehand lines may leave the image by a little; more, and they belong to another one.
_BEYOND = 2


def read_outlines(path: Path, size: tuple[int, int]) -> list[bytes]:
    """Read the outlines of an image's instances.

    Args:
        path: A `.roi` file, or a `.zip` of them as ImageJ's ROI Manager saves it.
        size: Height and width of the image in pixels.

    Returns:
        The `counts` of a run-length code an instance. Those without a pixel are left out; a piece
        that `predict` named `12-2` belongs to `12`.

    Raises:
        InputError: The file is damaged, or holds lines or points, or outlines far outside.
    """
    try:
        found = ImagejRoi.fromfile(path)
        rois = found if isinstance(found, list) else [found]
    except _DAMAGE as error:
        raise InputError(f"{path} cannot be read as outlines of ImageJ: {error}") from None
    codes: dict[str, RunLengthCode] = {}
    for number, roi in enumerate(rois):
        name = str(roi.name or f"number {number}")
        if roi.roitype not in _AREAS:
            raise InputError(
                f"{path}: {name} is a {roi.roitype.name.lower()}, which encloses no cell; delete "
                "it in the ROI Manager and save again"
            )
        corner, mask = _filled([*roi.coordinates(multi=True)], size, f"{path}: {name}")
        if not mask.any():
            continue
        code = {"size": list(size), "counts": trace_mask(mask, corner, size)}
        piece = _PIECE.fullmatch(name)
        if piece and piece[1] in codes:
            codes[piece[1]] = coco_mask.merge([codes[piece[1]], code])
        else:  # names need not differ in ImageJ
            codes[name if name not in codes else f"{name}, number {number}"] = code
    return [code["counts"] for code in codes.values()]


def _filled(
    paths: list[np.ndarray], size: tuple[int, int], name: str
) -> tuple[tuple[int, int], np.ndarray]:
    """The pixels whose centers are inside an odd number of paths: row and column of a box, mask."""
    points = np.concatenate([np.asarray(path, np.float64) for path in paths] or [np.empty((0, 2))])
    right, bottom = points.max(axis=0, initial=0)
    if right > size[1] + _BEYOND or bottom > size[0] + _BEYOND:
        raise InputError(
            f"{name} reaches to x = {right:g}, y = {bottom:g}, beyond its image of {size[1]} x "
            f"{size[0]} pixels (width x height); it may belong to another image"
        )
    # In a box: a mask of the whole image for each of its cells takes a second for a hundred.
    left, top = np.clip(np.floor(points.min(axis=0, initial=np.inf)), 0, size[::-1]).astype(int)
    box = tuple(np.clip(np.ceil([bottom, right]).astype(int) - (top, left), 0, None).tolist())
    inside = np.zeros(box, bool)
    for path in paths:
        x, y = np.asarray(path, np.float64).T
        # Centers of pixels lie half a pixel from the corner that ImageJ counts from.
        inside[polygon(y - 0.5 - top, x - 0.5 - left, box)] ^= True
    inside = inside[: size[0] - top, : size[1] - left]
    return (int(top), int(left)), inside
