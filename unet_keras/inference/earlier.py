"""What tables of an earlier run say of pictures that could not be segmented again.

Their other files stay, so their rows have to.
"""

import csv
import json
import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tifffile
from PIL import Image

from unet_keras.inference.cells import Row
from unet_keras.inference.journal import Finished
from unet_keras.inference.pictures import Picture
from unet_keras.inference.results import ENDINGS, TABLES

logger = logging.getLogger(__name__)

_NUMBERS = ("cells", "confluency")


def earlier_rows(
    output: Path, pictures: Sequence[Picture], write: Collection[str]
) -> Iterator[tuple[Picture, Finished, set[str]]]:
    """Yield what the tables in a folder hold of pictures, as far as these are written again.

    Args:
        output: Folder of the results; its tables are those of the earlier run still.
        pictures: Those in question.
        write: Which of `writing.OUTPUTS`.

    Yields:
        Pictures of which there is something, and in which tables: `csv`, `coco`. Of damaged tables
        nothing, and a warning.
    """
    try:
        yield from _found(output, pictures, write)
    except (KeyError, TypeError, ValueError, csv.Error):
        logger.warning(
            "rows of %s in the tables of %s cannot be read, and are left out",
            ", ".join(picture.title for picture in pictures[:3]), output,
        )  # fmt: skip


def _found(
    output: Path, pictures: Sequence[Picture], write: Collection[str]
) -> Iterator[tuple[Picture, Finished, set[str]]]:
    titles = {picture.title for picture in pictures}
    cells = _rows(output / "cells.csv", titles) if "csv" in write else {}
    counts = _rows(output / TABLES["csv"], titles) if "csv" in write else {}
    sizes, coco = _coco(output / TABLES["coco"], titles) if "coco" in write else ({}, {})
    for picture in pictures:
        title = picture.title
        rows = counts.get(title, [])
        kinds = {kind for kind, there in (("csv", bool(rows)), ("coco", title in coco)) if there}
        if not kinds:
            continue
        count: Row = dict(rows[0]) if rows else dict.fromkeys(_NUMBERS, 0)
        count |= {"cells": int(count["cells"]), "confluency": float(count["confluency"])}
        held = cells.get(title, [])
        size = sizes.get(title) or _size(output, picture.name)
        if size is None:  # no file tells; growth over time weighs by the pixels, as rows do
            covered = sum(float(cell["area"]) for cell in held)
            size = (max(round(covered / (count["confluency"] or 1)), 1), 1)
        # Like one that was predicted in parts, it is nothing for the journal.
        yield picture, Finished(size, count, held, coco.get(title, []), in_parts=True), kinds


def _rows(path: Path, titles: Collection[str]) -> dict[str, list[Row]]:
    """The rows of images by their titles; none where there is no such table."""
    found: dict[str, list[Row]] = {}
    if path.is_file():
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if row["image"] in titles:
                    found.setdefault(row["image"], []).append(row)
    return found


def _coco(
    path: Path, titles: Collection[str]
) -> tuple[dict[str, tuple[int, int]], dict[str, list[Mapping[str, Any]]]]:
    """Sizes and cells of images by their titles, as `CocoWriter` takes them."""
    if not path.is_file():
        return {}, {}
    held = json.loads(path.read_text(encoding="utf-8"))
    images = {one["id"]: one for one in held["images"] if one["file_name"] in titles}
    cells: dict[str, list[Mapping[str, Any]]] = {one["file_name"]: [] for one in images.values()}
    for cell in held["annotations"]:
        if cell["image_id"] in images:
            kept = {key: value for key, value in cell.items() if key not in ("id", "image_id")}
            cells[images[cell["image_id"]]["file_name"]].append(kept)
    return {one["file_name"]: (one["height"], one["width"]) for one in images.values()}, cells


def _size(output: Path, name: str) -> tuple[int, int] | None:
    """Height and width of a picture, from one of its files."""
    for ending in (one for kind in ("mask", "labels", "probability") for one in ENDINGS[kind]):
        path = output / (name + ending)
        if path.suffix == ".png" and path.is_file():
            with Image.open(path) as image:
                return image.height, image.width
        if path.is_file():
            with tifffile.TiffFile(path) as file:
                return file.pages.first.imagelength, file.pages.first.imagewidth
    return None
