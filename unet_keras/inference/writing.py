"""Files that predictions are written to, each whole or not at all.

NAME_probability.tif  float32 (H, W); of several classes (K, H, W)
NAME_mask.png         uint8 (H, W)  0 and 255
NAME_labels.tif       uint16 (H, W), uint32 above 65,535 cells
NAME_overlay.png      outlines over the image
NAME_rois.zip         outlines for ImageJ
predictions.json      all images in COCO's format, a run-length code a cell
cells.csv counts.csv  a line a cell, a line an image
"""

import csv
import hashlib
import json
import os
import shutil
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np
import tifffile
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from roifile import ROI_OPTIONS, ROI_TYPE, ImagejRoi
from skimage.measure import find_contours, regionprops

from unet_keras import drawing
from unet_keras.sources.label_outlines import trace_labels
from unet_keras.whole_files import whole_file

SOFTWARE = "unet_keras"  # said in files that people may correct
OUTPUTS = ("probability", "mask", "labels", "overlay", "rois", "coco", "csv")


def replace_folder(complete: Path, directory: Path) -> None:
    """Put a complete folder in its place, and what was there out of the way only then."""
    previous = directory.with_name(f".{directory.name}.{os.getpid()}.previous")
    if directory.exists():
        directory.rename(previous)
    try:
        complete.rename(directory)
    except OSError:
        if previous.exists():
            previous.rename(directory)
        raise
    shutil.rmtree(previous, ignore_errors=True)


def write_probability(path: Path, probabilities: np.ndarray) -> None:
    """Write float32 (H, W, K) as a TIFF of (H, W) or (K, H, W)."""
    single = probabilities.shape[-1] == 1
    planes = probabilities[..., 0] if single else np.moveaxis(probabilities, -1, 0)
    with whole_file(path) as partial:
        tifffile.imwrite(
            partial, np.ascontiguousarray(planes), compression="zlib", photometric="minisblack",
            metadata={"axes": "YX" if single else "CYX"}, compressionargs={"level": 1},
        )  # fmt: skip


def write_labels(path: Path, labels: np.ndarray) -> None:
    """Write a label map, uint16 or uint32 (H, W), as a TIFF of its type."""
    with whole_file(path) as partial:
        tifffile.imwrite(
            partial, labels, software=SOFTWARE, compression="zlib", compressionargs={"level": 4}
        )


def write_mask(path: Path, labels: np.ndarray) -> None:
    """Write where a label map, integer (H, W), is not 0, as a PNG of uint8 0 and 255."""
    said = PngInfo()
    said.add_text("Software", SOFTWARE)
    drawing.write_png(path, np.where(labels > 0, np.uint8(255), np.uint8(0)), said=said)


def write_overlay(path: Path, labels: np.ndarray, image: np.ndarray) -> None:
    """Write the outlines of a label map, integer (H, W), over its image, as a PNG of RGB.

    Args:
        path: The file.
        labels: Integer (H, W), 0 background.
        image: (H, W) or (H, W, C), any real dtype.
    """
    drawing.write_png(path, drawing.overlay(image, labels))


def write_rois(path: Path, labels: np.ndarray) -> None:
    """Write the outline of each cell as an ImageJ polygon, named by its number.

    Points lie between pixels, so that exactly the cell's pixels have their centers inside. Holes
    are not cut out; a cell in several pieces gives an outline for each: `12`, `12-2`. The zip's
    comment says what was written, by which outlines that were corrected since are told.

    Args:
        path: The file.
        labels: Integer (H, W), 0 background.
    """
    with whole_file(path) as partial, zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as file:
        for name, points in _outlines(labels):
            roi = ImagejRoi.frompoints(points)
            roi.roitype = ROI_TYPE.POLYGON
            roi.options |= ROI_OPTIONS.SUB_PIXEL_RESOLUTION
            roi.name = name
            entry = zipfile.ZipInfo(f"{name}.roi")  # of no time: equal outlines, equal files
            file.writestr(entry, roi.tobytes(), zipfile.ZIP_DEFLATED)
        file.comment = _seal(file)


def is_corrected(path: Path) -> bool:
    """Tell whether outlines, a mask or a label map are not as they were written here.

    Programs that save an image anew do not keep that this one is named as its writer.
    """
    try:
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as file:
                return file.comment != _seal(file)
        if path.suffix == ".png":
            with Image.open(path) as picture:
                return picture.info.get("Software") != SOFTWARE
        with tifffile.TiffFile(path) as stack:
            return stack.pages.first.software != SOFTWARE
    except (OSError, ValueError, zipfile.BadZipFile, tifffile.TiffFileError):
        return True


def _seal(file: zipfile.ZipFile) -> bytes:
    sums = ",".join(f"{entry.filename} {entry.CRC}" for entry in file.infolist())
    return b"unet_keras " + hashlib.sha256(sums.encode()).hexdigest().encode()


def _outlines(labels: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    """Name and points (p, 2) as x, y of each cell's outer outlines, from the image's corner."""
    digits = len(str(int(labels.max(initial=0))))
    for region in regionprops(labels):
        top, left = region.bbox[:2]
        lines = find_contours(np.pad(region.image_filled, 1).astype(np.float32), 0.5)
        for piece, line in enumerate(lines, 1):
            # Padding shifts by one, and pixel centers lie half a pixel from ImageJ's corner.
            points = line[:-1, ::-1] + (left - 0.5, top - 0.5)
            name = f"{region.label:0{digits}d}" + (f"-{piece}" if piece > 1 else "")
            yield name, points.astype(np.float32)


class CocoWriter:
    """Writes cells of many images as one COCO file, image by image, so that none are kept.

    Args:
        path: The file.
        classes: Names of class 1, 2, ...
    """

    def __init__(self, path: Path, classes: Sequence[str]) -> None:
        self._path = path
        self._classes = classes
        self._context = whole_file(path)
        self._images: list[dict[str, Any]] = []
        self._count = 0

    def __enter__(self) -> Self:
        self._file: IO[str] = self._context.__enter__().open("w", encoding="utf-8")
        self._file.write('{"annotations": [')
        return self

    def add(
        self, file_name: str, size: tuple[int, int], cells: Sequence[Mapping[str, Any]]
    ) -> None:
        """Add an image of (height, width) and its cells, from `coco_cells`."""
        height, width = size
        number = len(self._images) + 1
        self._images.append(
            {"id": number, "file_name": file_name, "height": height, "width": width}
        )
        for cell in cells:
            self._file.write("," if self._count else "")
            self._count += 1
            self._file.write(json.dumps({"id": self._count, "image_id": number, **cell}))

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is None:
            categories = [{"id": k, "name": name} for k, name in enumerate(self._classes, 1)]
            rest = {"images": self._images, "categories": categories}
            self._file.write("], " + json.dumps(rest)[1:] + "\n")
        self._file.close()
        self._context.__exit__(kind, error, traceback)


def coco_cells(
    labels: np.ndarray, classes: np.ndarray | None, scores: np.ndarray
) -> list[dict[str, Any]]:
    """Return the cells of a label map as COCO annotations, without ids.

    Args:
        labels: Integer (H, W), numbered 1..n.
        classes: Of each cell, (n,), 1..K; None where there is one.
        scores: Mean probability of each, (n,) in [0, 1].

    Returns:
        `area` and `bbox` (x, y, width, height) in pixels, `score` to four decimals.
    """
    codes, numbers = trace_labels(labels)
    boxes = {region.label: region.bbox for region in regionprops(labels)}
    areas = np.bincount(labels.ravel())
    cells = []
    for code, number in zip(codes, numbers.tolist(), strict=True):
        top, left, bottom, right = boxes[number]
        cells.append(
            {
                "category_id": 1 if classes is None else int(classes[number - 1]),
                "segmentation": {"size": list(labels.shape), "counts": code.decode()},
                "area": int(areas[number]),
                "bbox": [left, top, right - left, bottom - top],
                "iscrowd": 0,
                "score": round(float(scores[number - 1]), 4),
            }
        )
    return cells


class TableWriter:
    """Writes a CSV file row by row; it takes its place when closed without an error."""

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self._context = whole_file(path)
        self._columns = columns

    def __enter__(self) -> Self:
        self._file = self._context.__enter__().open("w", newline="", encoding="utf-8")
        self._writer = csv.DictWriter(self._file, self._columns)
        self._writer.writeheader()
        return self

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add rows; their keys are the columns."""
        self._writer.writerows(rows)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()
        self._context.__exit__(kind, error, traceback)
