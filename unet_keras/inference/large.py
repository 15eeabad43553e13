"""Segmenting an image larger than memory: strips of probability, then blocks of instances.

    .NAME.unfinished/         what is done so far; the same command goes on from there
    NAME_probability.ome.tif  float32 (H, W)  of foreground; tiled, compressed BigTIFF, as are all
    NAME_mask.ome.tif         uint8 (H, W)    0 and 255
    NAME_labels.ome.tif       uint16 or uint32 (H, W)
    NAME_overlay.png          of the image made smaller

ImageJ outlines and COCO are not written: neither is made for images of this size.
"""

import csv
import logging
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from math import sqrt
from pathlib import Path
from typing import Any

import keras
import numpy as np

from unet_keras import drawing
from unet_keras.errors import InputError
from unet_keras.inference.blocks import BLOCK, CELLS, LABELS, MARGIN, CellCounts, label_blocks
from unet_keras.inference.cells import Ranges, Row, count_row
from unet_keras.inference.grey_values import MatchedRegions, TrainedOn, measure
from unet_keras.inference.instances import InstanceRules
from unet_keras.inference.strips import PROBABILITY, claim, predict_strips, read_raw
from unet_keras.inference.tiff import TiffRegions, write_tiled
from unet_keras.inference.writing import SOFTWARE
from unet_keras.pipeline.kinds import Kind
from unet_keras.records.statistics import GreyValues
from unet_keras.whole_files import whole_file

logger = logging.getLogger(__name__)

# An image of more pixels is not held in memory: at 100 bytes a pixel, labeling it takes 3 GB.
LARGEST_PIXELS = 2**25
TILE = 512
OVERLAY_PIXELS = 2048
NOT_WRITTEN = ("rois", "coco")

Read = Callable[[slice, slice], np.ndarray]
Progress = Callable[[str, int, int], object]


@dataclass(frozen=True)
class LargeImage:
    """What to segment, and how.

    Attributes:
        image: Its pixels, with the channels that the network takes.
        name: What its results are called by.
        title: What tables call it.
        group: Its cell type.
        model: A network of `build_unet`.
        rules: How probabilities become instances.
        kind: What the network learned; not `boundary`.
        identity: What tells this model and its rules from others; JSON values.
        tile: Side of the tiles in pixels.
        halo: What a same-padded network sees around a tile, in pixels; None for all that it can
            see.
        pixel_size: Side of a pixel in micrometres; None where it is not known.
        normalized_to: What grey values are matched to for the network; None leaves them.
    """

    image: TiffRegions
    name: str
    title: str
    group: str
    model: keras.Model
    rules: InstanceRules
    kind: Kind
    identity: dict[str, Any]
    tile: int = TILE
    halo: int | None = None
    pixel_size: float | None = None
    normalized_to: TrainedOn | None = None

    @cached_property
    def grey(self) -> GreyValues:
        """The image's grey values; it is read once from end to end for them."""
        return measure(self.image)

    @property
    def shown(self) -> TiffRegions | MatchedRegions:
        """The image as the network is shown it."""
        if self.normalized_to is None:
            return self.image
        return MatchedRegions(self.image, self.grey, self.normalized_to)


def is_large(path: Path, page: int | None) -> bool:
    """Whether a file holds an image that is read in parts: a TIFF of more than 2^25 pixels."""
    if path.suffix.lower() not in (".tif", ".tiff"):
        return False
    try:
        with TiffRegions(path, page or 0) as image:
            return image.pixels > LARGEST_PIXELS
    except InputError:
        return False


def segment_large(
    large: LargeImage,
    output: Path,
    write: Collection[str],
    *,
    block: int = BLOCK,
    margin: int = MARGIN,
    progress: Progress = lambda stage, done, total: None,
) -> tuple[CellCounts, Path]:
    """Segment an image and write its files; what an earlier run has done is not done again.

    Args:
        large: What and how.
        output: Folder of the results.
        write: Which of `writing.OUTPUTS`.
        block: Side of the blocks in which instances are found, in pixels.
        margin: What a block sees around it, in pixels.
        progress: Called with the stage, what is done of it and its whole, again and again.

    Returns:
        How many instances there are, and the folder of what is unfinished: with the table of the
        cells, to be removed by the caller when all is written.
    """
    image = large.image
    folder = output / f".{large.name}.unfinished"
    stat = image.path.stat()
    file = [str(image.path.resolve()), stat.st_size, stat.st_mtime_ns]
    settings = [
        vars(large.rules),
        large.kind,
        large.tile,
        large.halo,
        block,
        margin,
        large.pixel_size,
        large.normalized_to is not None,
    ]
    if claim(folder, {**large.identity, "file": file, "settings": settings}):
        logger.info("%s: going on where it was stopped", large.title)
    predict_strips(
        large.model, large.shown, folder, tile=large.tile, halo=large.halo, kind=large.kind,
        progress=lambda done, total: progress("predicting", done, total),
    )  # fmt: skip
    found = label_blocks(
        image, folder, large.rules, title=large.title, group=large.group,
        pixel_size=large.pixel_size, block=block, margin=margin,
        progress=lambda done, total: progress("labeling", done, total),
    )  # fmt: skip
    if found.cut:
        logger.warning(
            "%s: %d of %d instances are parts of what reaches further than %d pixels beyond its "
            "block, and is cut there",
            large.title, found.cut, found.cells, margin,
        )  # fmt: skip
    _write_maps(large, folder, output, write, found.cells, progress)
    return found, folder


def summarize(
    large: LargeImage,
    folder: Path,
    *,
    scale: float = 1.0,
    ranges: Ranges | None = None,
    training_images: int = 0,
) -> Row:
    """Return the row of `counts.csv`, from the table of the cells and the image's pixels.

    Args:
        large: What was segmented.
        folder: From `segment_large`.
        scale: As for `cells.count_row`; so with the others.
        ranges: Of the training images.
        training_images: How many there were.
    """
    areas = np.array([float(row["area"]) for row in read_cells(folder)])
    grey = large.grey
    height, width = large.image.shape[:2]
    return count_row(
        image=large.title, group=large.group, areas=areas, pixels=height * width,
        grey_mean=grey.mean, grey_deviation=sqrt(grey.squares / grey.count),
        scale=scale, ranges=ranges, training_images=training_images,
    )  # fmt: skip


def read_cells(folder: Path) -> Iterator[Row]:
    """Yield the rows of the cells' table, all of texts, from the folder `segment_large` returns."""
    with (folder / CELLS).open(newline="", encoding="utf-8") as file:
        yield from csv.DictReader(file)


def _write_maps(
    large: LargeImage,
    folder: Path,
    output: Path,
    write: Collection[str],
    cells: int,
    progress: Progress,
) -> None:
    """Write the images that are asked for, as tiled OME-TIFF, and the overlay."""
    shape = large.image.shape[:2]
    missing = [name for name in NOT_WRITTEN if name in write]
    if missing:
        logger.warning("%s: too large for %s, not written", large.title, " and ".join(missing))

    def probability(rows: slice, columns: slice) -> np.ndarray:
        return read_raw(folder / PROBABILITY, shape, np.float32, rows, columns)

    def labels(rows: slice, columns: slice) -> np.ndarray:
        return read_raw(folder / LABELS, shape, np.uint32, rows, columns)

    def mask(rows: slice, columns: slice) -> np.ndarray:
        return np.where(labels(rows, columns) > 0, np.uint8(255), np.uint8(0))

    number = np.uint16 if cells <= np.iinfo(np.uint16).max else np.uint32
    for name, read, dtype in (
        ("probability", probability, np.float32),
        ("mask", mask, np.uint8),
        ("labels", labels, number),
    ):
        if name in write:
            progress(f"writing {name}", 0, 1)
            with whole_file(output / f"{large.name}_{name}.ome.tif") as partial:
                write_tiled(
                    partial, shape, dtype, read, pixel_size=large.pixel_size, software=SOFTWARE
                )
    if "overlay" in write:
        _write_overlay(output / f"{large.name}_overlay.png", large.image, labels)


def _write_overlay(path: Path, image: TiffRegions, labels: Read) -> None:
    """Write the outlines over the image, both at every so many-th pixel."""
    height, width = image.shape[:2]
    step = -(-max(height, width) // OVERLAY_PIXELS)
    band = step * max(TILE // step, 1)
    everything = slice(0, width)
    bands = [slice(top, min(top + band, height)) for top in range(0, height, band)]
    # Copied, because a view would keep its whole band in memory.
    small = np.concatenate([image[rows, everything][::step, ::step].copy() for rows in bands])
    numbers = np.concatenate([labels(rows, everything)[::step, ::step].copy() for rows in bands])
    drawing.write_png(path, drawing.overlay(small, numbers))
