"""Segmenting many pictures into a folder of results.

prediction  from an image (H, W, C) to probabilities float32 (H, W, K)
files       those of `inference.writing`, as chosen
"""

import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from unet_keras.errors import InputError
from unet_keras.inference import writing
from unet_keras.inference.averaging import Prediction
from unet_keras.inference.cells import (
    COUNT_COLUMNS,
    Ranges,
    Row,
    cell_columns,
    cell_rows,
    classes_of,
    count_row,
    mean_scores,
    measure_cells,
)
from unet_keras.inference.earlier import earlier_rows
from unet_keras.inference.growth import write_growth
from unet_keras.inference.instances import InstanceRules, foreground_of
from unet_keras.inference.journal import Finished, Journal
from unet_keras.inference.large import is_large
from unet_keras.inference.pictures import Picture, fit_image
from unet_keras.inference.results import (
    Notes,
    demand_kept,
    demand_same_settings,
    has_files,
    is_replacing,
    keep_settings,
    keep_sources,
    settle_settings,
)
from unet_keras.inference.stages import in_stages
from unet_keras.inference.writing import CocoWriter, TableWriter
from unet_keras.sources.base import counted
from unet_keras.sources.grouping import group_of

logger = logging.getLogger(__name__)

DEFAULT_OUTPUTS = ("probability", "mask", "labels", "overlay", "csv")


@dataclass(frozen=True)
class Segmenter:
    """What predicts, and what is known of it.

    Attributes:
        predict: From an image (H, W, C) to probabilities float32 (H, W, K), at the image's own
            scale.
        channels: C.
        image_dtype: Of the training images; others are refused where it cannot hold their values.
            None takes any.
        rules: How probabilities become instances, at the image's scale.
        classes: Names of class 1, 2, ...
        scale: The images' pixel size over the training's.
        pixel_size: Side of a pixel of the images in micrometres; None where it is not known.
        ranges: Of the training images, to tell what lies outside; None where they are not known.
        training_images: How many there were.
        group_pattern: Regular expression on a file's name; its first group is the cell type.
    """

    predict: Prediction
    channels: int
    image_dtype: np.dtype | None = None
    rules: InstanceRules = field(default_factory=InstanceRules)
    classes: tuple[str, ...] = ("cell",)
    scale: float = 1.0
    pixel_size: float | None = None
    ranges: Ranges | None = None
    training_images: int = 0
    group_pattern: str = r"^([^_]+)_"


def segment_pictures(
    pictures: Sequence[Picture],
    model: Segmenter,
    output: Path,
    *,
    write: Collection[str] = DEFAULT_OUTPUTS,
    made_with: Mapping[str, Any] | None = None,
    by_parts: Callable[[Picture, str], Finished] | None = None,
    progress: Callable[[int], object] = lambda pictures: None,
) -> int:
    """Segment pictures; one that fails is reported, and what is there of it stays.

    Args:
        pictures: What to segment.
        model: What with.
        output: Folder of the results; made where it is absent.
        write: Which of `writing.OUTPUTS`.
        made_with: What decides the results, JSON values, noted in `settings.json`; where it was
            the same in a call that was stopped, what that has done is not done again. None notes
            nothing and begins anew.
        by_parts: Segments a picture of a group that is too large to be held in memory, and writes
            its own files; None takes every picture whole.
        progress: Called with 1 after each picture.

    Returns:
        How many failed; where all did, nothing is changed.

    Raises:
        InputError: Something in the folder would be lost or contradict the new results, or another
            process predicts into it.
    """
    output.mkdir(parents=True, exist_ok=True)
    write = frozenset(write)
    journal = None
    with ExitStack() as stack:
        if made_with is not None:
            made_with = {**made_with, "write": sorted(write)}
            journal = stack.enter_context(Journal(output, made_with))
            # Not sooner: until then, another process may have written to the folder.
            demand_kept(output, pictures, write)
            demand_same_settings(output, made_with, pictures)
            journal.begin()
            if journal:
                logger.info("%s goes on behind the %d that are done", output, len(journal))
        notes = Notes(output)
        if made_with is not None:
            keep_settings(output, made_with)
        keep_sources(output, pictures)
        job = _Job(model, output, write, by_parts, journal)
        counts, failed = _segment_all(pictures, job, progress)
        if len(failed) == len(pictures):
            notes.put_back()
            return len(failed)
        if made_with is not None and not any(has_files(output, picture) for picture in failed):
            settle_settings(output)
    if "csv" in write:
        for path in write_growth(output, counts):
            logger.info("growth over time: %s", path)
    _warn_of_strangers(counts, "csv" in write)
    return len(failed)


class _NothingDoneError(Exception):
    """No picture could be segmented: tables stay as they are."""


def _segment_all(
    pictures: Sequence[Picture], job: "_Job", progress: Callable[[int], object]
) -> tuple[list[Row], list[Picture]]:
    """Write all files; return the rows of `counts.csv` with `pixels`, and what failed."""
    counts: list[Row] = []
    failed: list[Picture] = []
    with suppress(_NothingDoneError), ExitStack() as stack:
        add = _open_tables(stack, job)

        def keep(picture: Picture, finished: Finished, kinds: Collection[str]) -> None:
            add(picture, finished, kinds)
            if "outside_training" in finished.count:  # none where a table of counts was not written
                counts.append({**finished.count, "pixels": finished.size[0] * finished.size[1]})

        for picture, outcome in in_stages(pictures, job.read, job.compute, job.finish):
            progress(1)
            if isinstance(outcome, InputError):
                failed.append(picture)
                told = has_files(job.output, picture)
                stays = "; the files that an earlier run has written of it stay" * told
                logger.error("skipped: %s%s", _named(picture, str(outcome)), stays)
            else:
                keep(picture, outcome, job.write)
        if len(failed) == len(pictures):
            raise _NothingDoneError
        earlier = list(earlier_rows(job.output, failed, job.write)) if failed else []
        if earlier and is_replacing(job.output):
            logger.warning(
                "left out of the tables: %s, made with other settings, such as those of %s",
                counted(len(earlier), "image"), earlier[0][0].title,
            )  # fmt: skip
            return counts, failed
        for picture, finished, kinds in earlier:
            keep(picture, finished, kinds)
    return counts, failed


def _warn_of_strangers(counts: Sequence[Row], written: bool) -> None:
    """Say how many images are unlike the training's: their overlays may look right all the same."""
    flags = [row["outside_training"] for row in counts]
    outside = [flag for flag in flags if flag not in ("", "unknown")]
    if outside:
        logger.warning(
            "%d of %d images lie outside what the network was trained on (%s): see "
            "outside_training in counts.csv%s%s",
            len(outside), len(flags), ", ".join(sorted(set(";".join(outside).split(";")))),
            "" if written else " (--write csv)",
            "; --normalize matches grey values" if "grey_" in "".join(outside) else "",
        )  # fmt: skip


def _named(picture: Picture, text: str) -> str:
    """Say what a text is about: the file, and of a stack the page."""
    if picture.page is not None:
        return f"{picture.title}: {text}"
    return text if picture.path.name in text else f"{picture.path}: {text}"


@dataclass(frozen=True)
class _Job:
    """The three stages a picture goes through."""

    model: Segmenter
    output: Path
    write: frozenset[str]
    by_parts: Callable[[Picture, str], Finished] | None
    journal: Journal | None

    def read(self, picture: Picture) -> np.ndarray | Finished | None:
        if self.journal and (finished := self.journal.find(picture)):
            return finished
        # What is large is read where it is predicted, a part at a time.
        if self.by_parts is not None and is_large(picture.path, picture.page):
            return None
        model, name, image = self.model, str(picture.path), picture.read()
        if model.channels == 1 and image.ndim == 3 and image.shape[-1] not in (1, 3):
            raise InputError(
                f"{name} has {image.shape[-1]} channels, but the network takes 1: --channel 0 "
                "takes the first of them"
            )
        return fit_image(image, channels=model.channels, dtype=model.image_dtype, name=name)

    def compute(self, picture: Picture, image: np.ndarray | Finished | None) -> Any:
        if isinstance(image, Finished):
            return image
        if image is None and self.by_parts is not None:
            return self.by_parts(picture, self._group(picture))
        assert image is not None
        return image, self.model.predict(image)

    def finish(self, picture: Picture, computed: Any) -> Finished:
        if isinstance(computed, Finished):
            return computed
        image, probabilities = computed
        model, write = self.model, self.write
        foreground = foreground_of(probabilities)
        labels = model.rules.label(foreground)
        classes = classes_of(labels, probabilities) if len(model.classes) > 1 else None
        place = str(self.output / picture.name)
        if "probability" in write:
            writing.write_probability(Path(f"{place}_probability.tif"), probabilities)
        if "mask" in write:
            writing.write_mask(Path(f"{place}_mask.png"), labels)
        if "labels" in write:
            writing.write_labels(Path(f"{place}_labels.tif"), labels)
        if "overlay" in write:
            writing.write_overlay(Path(f"{place}_overlay.png"), labels, image)
        if "rois" in write:
            writing.write_rois(Path(f"{place}_rois.zip"), labels)
        named = {"image": picture.title, "group": self._group(picture)}
        cells, coco = [], []
        if "csv" in write:
            cells = cell_rows(
                measure_cells(labels, image),
                classes=classes,
                pixel_size=model.pixel_size,
                **named,
            )
        if "coco" in write:
            coco = writing.coco_cells(labels, classes, mean_scores(labels, foreground))
        count = count_row(
            areas=np.bincount(labels.ravel())[1:],
            pixels=labels.size,
            grey_mean=float(image.mean()),
            grey_deviation=float(image.std()),
            scale=model.scale,
            ranges=model.ranges,
            training_images=model.training_images,
            **named,
        )
        return Finished(labels.shape, count, cells, coco)

    def _group(self, picture: Picture) -> str:
        return group_of(picture.path.name, self.model.group_pattern)


def _open_tables(
    stack: ExitStack, job: _Job
) -> Callable[[Picture, Finished, Collection[str]], None]:
    """Open the files that hold all pictures; return what adds one to them."""
    model, output = job.model, job.output
    coco = cells = counts = None
    if "coco" in job.write:
        coco = stack.enter_context(CocoWriter(output / "predictions.json", model.classes))
    if "csv" in job.write:
        columns = cell_columns(model.pixel_size, classes=len(model.classes) > 1)
        cells = stack.enter_context(TableWriter(output / "cells.csv", columns))
        counts = stack.enter_context(TableWriter(output / "counts.csv", COUNT_COLUMNS))

    def add(picture: Picture, finished: Finished, kinds: Collection[str]) -> None:
        if coco is not None and "coco" in kinds:
            coco.add(picture.title, finished.size, finished.coco)
        if cells is not None and counts is not None and "csv" in kinds:
            cells.add(finished.cells)
            counts.add([finished.count])
        if job.journal is not None:
            job.journal.add(picture, finished)

    return add
