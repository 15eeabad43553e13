"""Instances of an image larger than memory, block by block, with one number each.

    FOLDER/labels.raw   uint32 (H, W)  0 background, 1..n
    FOLDER/cells.csv    a line a cell
    FOLDER/blocks.json  how many blocks are done, how many cells, how long the table

Each block is labeled with a margin around it, and keeps the instances whose first pixel lies in
it. An instance that ends within the margin looks the same from every block that sees it whole, so
it is found once and in one piece, and the result is that of `label_instances` on the whole image.
What reaches beyond the margin of the block with its first pixel is nobody's at first; when all
blocks are done, it is cut at the blocks' edges, and all of these pieces are counted.
"""

import csv
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import numpy as np
from scipy import ndimage

from unet_keras.inference.cells import cell_columns, cell_rows, measure_cells
from unet_keras.inference.instances import InstanceRules, Part
from unet_keras.inference.strips import PROBABILITY, read_raw
from unet_keras.inference.tiff import TiffRegions
from unet_keras.whole_files import whole_file

LABELS = "labels.raw"
CELLS = "cells.csv"
JOURNAL = "blocks.json"

BLOCK = 2048
MARGIN = 256

Size = tuple[int, int]


@dataclass(frozen=True)
class CellCounts:
    """What was found.

    Attributes:
        cells: How many instances.
        cut: How many of them are parts of what reached the edge of what its block saw.
    """

    cells: int
    cut: int


@dataclass(frozen=True)
class Block:
    """A part of the image; in pixels from its upper left corner.

    Attributes:
        top: First row of its own; so with the others, which are one behind the last.
        bottom: Rows end.
        left: First column.
        right: Columns end.
        view: Rows and columns with the margin around.
    """

    top: int
    bottom: int
    left: int
    right: int
    view: Part


@dataclass
class _Journal:
    """What is done: steps are all blocks, then those that have pieces left."""

    steps: int = 0
    cells: int = 0
    cut: int = 0
    table_bytes: int = 0
    left: list[int] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> "_Journal":
        return cls(**json.loads(path.read_text(encoding="utf-8"))) if path.exists() else cls()

    def write(self, path: Path) -> None:
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(vars(self)), encoding="utf-8")
        partial.replace(path)


def label_blocks(
    image: TiffRegions,
    folder: Path,
    rules: InstanceRules,
    *,
    title: str,
    group: str,
    pixel_size: float | None = None,
    block: int = BLOCK,
    margin: int = MARGIN,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> CellCounts:
    """Write label map and cells of the probability that `predict_strips` has written.

    Args:
        image: For the cells' grey values.
        folder: That of `predict_strips`; blocks that are complete are not labeled again.
        rules: How probabilities become instances.
        title: What the table calls the image.
        group: Its cell type.
        pixel_size: Side of a pixel in micrometres; adds `area_um2` to the table.
        block: Side of a block in pixels.
        margin: What a block sees around it, in pixels.
        progress: Called with the steps that are done and all steps, after each.

    Returns:
        How many instances there are, and how many of them are cut.
    """
    shape = image.shape[:2]
    blocks = plan_blocks(shape, block, margin)
    journal = _Journal.read(folder / JOURNAL)
    if not (folder / LABELS).exists():
        _make_labels(folder / LABELS, shape)
    with (folder / CELLS).open("a", newline="", encoding="utf-8") as file:
        file.truncate(journal.table_bytes)
        table = csv.DictWriter(file, cell_columns(pixel_size))
        if not journal.table_bytes:
            table.writeheader()
        total = len(blocks) + len(journal.left)
        progress(journal.steps, total)
        while journal.steps < total:
            first = journal.steps < len(blocks)
            index = journal.steps if first else journal.left[journal.steps - len(blocks)]
            part = blocks[index]
            around, within = widened(part.view, rules.smoothing_reach, shape)
            probability = read_raw(folder / PROBABILITY, shape, np.float32, *around)
            found = rules.label(probability, within)
            is_cut = np.isin(found, _cut(found, part, shape, block, margin))
            if first:
                own = keep_own(np.where(is_cut, 0, found), part)
                left, cut = bool(_in_core(found, part, is_cut).any()), 0
            else:
                there = read_raw(folder / LABELS, shape, np.uint32, *part.view)
                own, left = _pieces(found, part, is_cut & _is_free(there, journal.cells)), False
                cut = int(own.max())
            cells = measure_cells(own, image[part.view])
            found_here = len(cells["label"])
            cells["label"] += journal.cells
            cells["centroid_y"] += part.view[0].start
            cells["centroid_x"] += part.view[1].start
            table.writerows(cell_rows(cells, image=title, group=group, pixel_size=pixel_size))
            _add(folder / LABELS, shape, part, own, journal.cells)
            file.flush()
            journal = _Journal(
                steps=journal.steps + 1,
                cells=journal.cells + found_here,
                cut=journal.cut + cut,
                table_bytes=os.fstat(file.fileno()).st_size,
                left=[*journal.left, index] if left else journal.left,
            )
            journal.write(folder / JOURNAL)
            total = len(blocks) + len(journal.left)
            progress(journal.steps, total)
    return CellCounts(journal.cells, journal.cut)


def plan_blocks(shape: Size, block: int, margin: int) -> list[Block]:
    """Cut an image into blocks, row by row.

    Args:
        shape: (H, W).
        block: Side of a block in pixels; less at the image's end.
        margin: What a block sees around it, in pixels, inside the image.
    """
    blocks = []
    for top, left in product(*(range(0, side, block) for side in shape)):
        bottom, right = min(top + block, shape[0]), min(left + block, shape[1])
        view = (
            slice(max(top - margin, 0), min(bottom + margin, shape[0])),
            slice(max(left - margin, 0), min(right + margin, shape[1])),
        )
        blocks.append(Block(top, bottom, left, right, view))
    return blocks


def widened(view: Part, pixels: int, shape: Size) -> tuple[Part, Part]:
    """Return a view with so many pixels more around, inside the image, and where in it it lies."""
    starts = [max(side.start - pixels, 0) for side in view]
    stops = [min(side.stop + pixels, length) for side, length in zip(view, shape, strict=True)]
    rows, columns = map(slice, starts, stops)
    inner_rows, inner_columns = (
        slice(side.start - start, side.stop - start)
        for side, start in zip(view, starts, strict=True)
    )
    return (rows, columns), (inner_rows, inner_columns)


def keep_own(labels: np.ndarray, block: Block) -> np.ndarray:
    """Keep the instances whose first pixel, row by row, lies in the block.

    Args:
        labels: Integer (h, w), of the block's view, numbered 1..n in the order of their first
            pixel.
        block: The block.

    Returns:
        uint32 (h, w), those kept numbered 1..m in the same order.
    """
    numbers, first = np.unique(labels, return_index=True)
    rows, columns = np.divmod(first, labels.shape[1])
    rows, columns = rows + block.view[0].start, columns + block.view[1].start
    own = (numbers > 0) & (block.top <= rows) & (rows < block.bottom)
    own &= (block.left <= columns) & (columns < block.right)
    renumbered = np.zeros(int(labels.max(initial=0)) + 1, np.uint32)
    renumbered[numbers[own]] = np.arange(1, own.sum() + 1)
    return renumbered[labels]


def _cut(labels: np.ndarray, part: Block, shape: Size, block: int, margin: int) -> list[int]:
    """The numbers of instances that are cut, by a rule on which all blocks agree.

    That is what touches the view's edge here, or would do so in the block that has its first pixel:
    another one may see it whole, but must not take it for found.
    """
    cut = set(_at_seams(labels, part, shape).tolist())
    numbers, first = np.unique(labels, return_index=True)
    boxes = ndimage.find_objects(labels)
    origin = [side.start for side in part.view]
    for number, place in zip(numbers.tolist(), first, strict=True):
        if number == 0 or number in cut:
            continue
        starts = np.add(np.divmod(place, labels.shape[1]), origin) // block * block
        for side, start, offset, length in zip(
            boxes[number - 1], starts, origin, shape, strict=True
        ):
            low, high = start - margin, start + block + margin
            before, behind = side.start + offset <= low, side.stop + offset >= high
            if (low > 0 and before) or (high < length and behind):
                cut.add(number)
    return sorted(cut)


def _at_seams(labels: np.ndarray, block: Block, shape: Size) -> np.ndarray:
    """The numbers of instances that touch the view's edge inside the image."""
    seams = [
        line
        for line, inside in (
            (labels[0], block.view[0].start > 0),
            (labels[-1], block.view[0].stop < shape[0]),
            (labels[:, 0], block.view[1].start > 0),
            (labels[:, -1], block.view[1].stop < shape[1]),
        )
        if inside
    ]
    numbers = np.unique(np.concatenate(seams)) if seams else np.zeros(0, labels.dtype)
    return numbers[numbers > 0]


def _in_core(labels: np.ndarray, block: Block, where: np.ndarray) -> np.ndarray:
    """The labels of a view inside the block itself and where a mask says, else 0."""
    y, x = block.view[0].start, block.view[1].start
    core = np.zeros(labels.shape, bool)
    core[block.top - y : block.bottom - y, block.left - x : block.right - x] = True
    return np.where(core & where, labels, 0)


def _pieces(labels: np.ndarray, block: Block, where: np.ndarray) -> np.ndarray:
    """What lies inside the block itself and where a mask says, numbered 1..m: uint32 (h, w)."""
    pieces = _in_core(labels, block, where)
    return np.unique(pieces, return_inverse=True)[1].reshape(pieces.shape).astype(np.uint32)


def _is_free(there: np.ndarray, given: int) -> np.ndarray:
    """Where a label map has no instance: what a killed run wrote has numbers not given out yet."""
    return (there == 0) | (there > given)


def _make_labels(path: Path, shape: Size) -> None:
    """Make a label map of zeros that has its place on the disk.

    Raises:
        OSError: The disk is full, which would kill the process where it is written to as memory.
    """
    with whole_file(path) as partial, partial.open("wb") as file:
        row_bytes = shape[1] * np.dtype(np.uint32).itemsize
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, shape[0] * row_bytes)
            return
        for _ in range(shape[0]):
            file.write(bytes(row_bytes))


def _add(path: Path, shape: Size, block: Block, own: np.ndarray, before: int) -> None:
    """Write a block's instances into the label map, behind those of earlier blocks."""
    mapped = np.memmap(path, np.uint32, "r+", shape=shape)
    there = mapped[block.view]
    mapped[block.view] = np.where(
        _is_free(there, before), np.where(own > 0, own + before, 0), there
    )
    mapped.flush()
