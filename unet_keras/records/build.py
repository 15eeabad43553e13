"""From an annotated image to its record: labels, foreground, maps.

labels      uint16 or uint32 (H, W)  as painted, what evaluation compares with
foreground  as labels                without the pixels where instances touch; what is learned
maps        float32 (H, W) in [0, 1] made from the foreground
"""

import hashlib
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np

from unet_keras.errors import InputError
from unet_keras.records.schema import Record
from unet_keras.sources.base import Sample
from unet_keras.sources.label_outlines import trace_labels
from unet_keras.targets.borders import border_map
from unet_keras.targets.distance import distance_map
from unet_keras.targets.labels import OVERLAP_RULES, paint_labels, separate_touching

MAP_NAMES = ("border", "distance")


@dataclass(frozen=True)
class TargetSettings:
    """What is made of each image.

    Attributes:
        maps: Names of the maps to store, of `MAP_NAMES`.
        sigma_pixels: Width of the border weights, above 0.
        separate: Whether pixels that touch another instance become background.
        overlap: Which instance owns a pixel that several cover, of `OVERLAP_RULES`.

    Raises:
        InputError: A name is unknown or repeated, or the width is not above 0.
    """

    maps: tuple[str, ...] = ("border",)
    sigma_pixels: float = 5.0
    separate: bool = True
    overlap: str = "smallest"

    def __post_init__(self) -> None:
        unknown = [name for name in self.maps if name not in MAP_NAMES]
        if unknown or len(set(self.maps)) < len(self.maps):
            raise InputError(
                f"records.maps={list(self.maps)} may name each of {', '.join(MAP_NAMES)} once."
            )
        if self.overlap not in OVERLAP_RULES:
            raise InputError(
                f"targets.overlap={self.overlap!r} must be one of {', '.join(OVERLAP_RULES)}."
            )
        if not self.sigma_pixels > 0:
            raise InputError(f"targets.sigma_pixels={self.sigma_pixels} must be above 0.")


def build_record(
    sample: Sample,
    settings: TargetSettings,
    *,
    stage: Callable[[str], AbstractContextManager[object]] = lambda name: nullcontext(),
) -> tuple[Record, np.ndarray]:
    """Make a record of a sample.

    Args:
        sample: An annotated image.
        settings: What to make of it.
        stage: Called with `labels`, `border`, `distance` around each, to measure where time goes.

    Returns:
        The record; and the foreground, uint16 or uint32 (H, W), its labels without the pixels where
        instances touch, or its labels themselves where they are not separated.

    Raises:
        InputError: The image has values that are no finite numbers, or an outline is damaged.
    """
    if sample.image.dtype.kind == "f" and not np.isfinite(sample.image).all():
        # One would make the mean of all training images, and so every logit, no number.
        raise InputError(
            f"Image {sample.image_id} ({sample.file_name}) has pixels that are NaN or infinite; "
            "replace them by grey values, or leave the image out."
        )
    with stage("labels"):
        labels = paint_labels(sample.outlines, sample.size, overlap=settings.overlap)
        foreground = separate_touching(labels) if settings.separate else labels
    maps = {}
    for name in settings.maps:
        with stage(name):
            if name == "border":
                maps[name] = border_map(foreground, sigma_pixels=settings.sigma_pixels)
            else:
                maps[name] = distance_map(foreground)
    record = Record(
        image=sample.image,
        labels=labels,
        maps=maps,
        classes=sample.classes,
        outlines=sample.outlines,
        image_id=sample.image_id,
        file_name=sample.file_name,
        group=sample.group,
        split=sample.split,
        source_digest=sample_digest(sample),
    )
    return record, foreground


def warm_up(settings: TargetSettings) -> None:
    """Compile what `build_record` needs, or load it where it was compiled before.

    Processes that start afterwards load it too.
    """
    outlines, numbers = trace_labels(np.array([[1, 1, 0], [0, 0, 0], [0, 2, 2]]))
    sample = Sample(
        image_id="",
        file_name="",
        split="train",
        group="",
        image=np.zeros((3, 3), np.uint8),
        outlines=tuple(outlines),
        classes=np.ones(len(numbers), np.uint8),
    )
    build_record(sample, settings)


def sample_digest(sample: Sample) -> str:
    """SHA-256 of the image, its shape and dtype, and its instances as read, hexadecimal."""
    digest = hashlib.sha256(f"{sample.image.dtype} {sample.image.shape}".encode())
    digest.update(np.ascontiguousarray(sample.image).data)
    digest.update(sample.classes.tobytes())
    for outline in sample.outlines:
        digest.update(outline + b"\n")
    return digest.hexdigest()
