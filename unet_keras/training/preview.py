"""A picture of what training would see: transformed images, their deformation, labels, weights."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from unet_keras import drawing
from unet_keras.pipeline import geometry
from unet_keras.pipeline.augment import (
    NO_AUGMENTATION,
    Augmentation,
    augment_batch,
    coordinates_from,
    cut_windows,
    sample_parameters,
    window_size,
)
from unet_keras.pipeline.dataset import load_dataset
from unet_keras.pipeline.kinds import Kind
from unet_keras.pipeline.reading import read_endlessly
from unet_keras.records.manifest import read_manifest

GRID_LINES = 12  # across the shorter side of a crop


@dataclass(frozen=True, eq=False)
class PreviewCrop:
    """One crop of the training data.

    Attributes:
        image: float32 (H, W, C), as the network gets it.
        labels: int32 (H, W), instances, 0 background.
        weight: float32 (H, W), of each pixel in the loss.
        coordinates: float32 (H, W, 2), row and column in the unchanged crop that each pixel
            comes from.
    """

    image: np.ndarray
    labels: np.ndarray
    weight: np.ndarray
    coordinates: np.ndarray


def preview_picture(
    records: Path | str,
    count: int,
    *,
    augmentation: Augmentation,
    crop: tuple[int, int],
    seed: int,
    border_weight: float,
    class_weights: Sequence[float] = (),
    kind: Kind = "cells",
    outline_pixels: int = 1,
    margin: int = 0,
) -> np.ndarray:
    """Draw the first samples that training with these values sees, one a row.

    Args:
        records: Their folder.
        count: Samples, at least 1.
        augmentation: What happens to them.
        crop: Height and width in pixels.
        seed: Of the run.
        border_weight: w0 of the weights.
        class_weights: w_c of background, class 1, ...; empty for 1 everywhere.
        kind: What the classes are that have these weights.
        outline_pixels: How wide the borders of `cells_and_borders` are.
        margin: Pixels that the network loses on each side; they are drawn with weight 0.

    Returns:
        uint8 (H, W, 3): image, the same with a grid on it that was straight and square, labels,
        weights.

    Raises:
        InputError: As `load_dataset` does.
    """
    highest = max(class_weights, default=1.0) + border_weight
    drawn = read_crops(
        records, count, augmentation=augmentation, crop=crop, seed=seed,
        border_weight=border_weight, class_weights=class_weights, kind=kind,
        outline_pixels=outline_pixels, margin=margin,
    )  # fmt: skip
    rows = [_row(each, highest) for each in drawn]
    return drawing.panel(rows, ("image", "deformation", "labels", f"weights 0 to {highest:g}"))


def read_crops(
    records: Path | str,
    count: int,
    *,
    augmentation: Augmentation,
    crop: tuple[int, int],
    seed: int,
    border_weight: float,
    class_weights: Sequence[float] = (),
    kind: Kind = "cells",
    outline_pixels: int = 1,
    margin: int = 0,
) -> Iterator[PreviewCrop]:
    """Yield what `load_dataset` yields, and what it does not hand on: labels and deformation.

    Args and Raises are those of `preview_picture`.
    """
    manifest = read_manifest(records)
    moving = NO_AUGMENTATION if augmentation.mode == "none" else augmentation
    batches = load_dataset(
        records, "train", crop=crop, batch_size=1, augment=augmentation, seed=seed,
        border_weight=border_weight, class_weights=class_weights, kind=kind,
        outline_pixels=outline_pixels, margin=margin, cache=False,
    )  # fmt: skip
    if augmentation.mode == "append":
        batches = batches.skip(1).shard(2, 0)  # the transformed ones
    originals = read_endlessly(
        Path(records), manifest=manifest, split="train", maps=(), cache=False, seed=seed
    )
    same_size = manifest.smallest_size == manifest.largest_size
    window = window_size(moving, crop, manifest.smallest_size if same_size else None)
    for (image, packed), (number, original) in zip(
        batches.take(count), originals.take(count), strict=True
    ):
        size = tf.shape(original["image"])[:2]
        drawn = sample_parameters(
            moving, seed, number, size, crop, window=window, channels=manifest.channels,
            margin=margin,
        )  # fmt: skip
        cut = cut_windows(drawn, window, original["image"], original["labels"])
        labels: Any = augment_batch(cut[0], None, cut[1], drawn, augmentation=moving, crop=crop)[2]
        coordinates = geometry.identity_coordinates(crop)
        if moving.is_geometric:
            inside = drawn["crop_top_left"] - drawn["window_top_left"]
            coordinates = coordinates_from(drawn, augmentation=moving, crop=crop)
            coordinates -= tf.cast(inside, tf.float32)
        yield PreviewCrop(
            image=image[0].numpy(),
            labels=labels[..., 0].numpy().astype(np.int32),
            weight=np.pad(packed[0, ..., -1].numpy(), margin),
            coordinates=coordinates.numpy(),
        )


def _row(crop: PreviewCrop, highest: float) -> list[np.ndarray]:
    spacing = max(min(crop.labels.shape) // GRID_LINES, 4)
    return [
        drawing.to_rgb(crop.image),
        drawing.warped_grid(crop.coordinates, spacing_pixels=spacing, image=crop.image),
        drawing.colorize_labels(crop.labels),
        drawing.probability_map(crop.weight / highest),
    ]
