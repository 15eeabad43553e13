"""The batches a run sees: endless transformed crops, and the same centers of validation images."""

import logging
import math
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from unet_keras.config import Config
from unet_keras.drawing import write_png
from unet_keras.model.geometry import valid_margin
from unet_keras.pipeline.dataset import load_dataset
from unet_keras.records.manifest import read_manifest
from unet_keras.records.placing import in_use
from unet_keras.training.guard import explained
from unet_keras.training.phases import Stretch
from unet_keras.training.planning import check_source, class_weights, plan
from unet_keras.training.preview import preview_picture

logger = logging.getLogger(__name__)

# Side of what validation looks at; larger centers would need more memory than training does.
LARGEST_VALIDATION_PIXELS = 1024


def training_data(
    config: Config, stretch: Stretch, *, start_step: int, phase_step: int = 0, margin: int
) -> tf.data.Dataset:
    """Return the endless batches of a phase, from a step of it on.

    Args:
        config: The experiment.
        stretch: The phase.
        start_step: The step, counted over the run.
        phase_step: The same step, counted within the phase.
        margin: Pixels that the network loses on each side.

    Returns:
        x float32 (B, H, W, C) and packed y float32 (B, H', W', 2+T), as `load_dataset` gives them.
    """
    position = stretch.data_position(start_step, phase_step)
    if stretch.augment == "append":
        # Of the data set that has each batch twice, the plain one first.
        position = 2 * position + phase_step % 2
    return load_dataset(
        config.records.path,
        "train",
        augment=replace(config.augment, mode=stretch.augment),
        seed=config.seed,
        start_step=position,
        **_dataset_arguments(config, stretch, margin),
    )


def validation_data(
    config: Config, stretch: Stretch, *, margin: int, devices: int = 1
) -> tf.data.Dataset:
    """Return the center of each validation image, unchanged, weighted as the phase does.

    Networks that take any size see as much of the images as all have, up to
    `LARGEST_VALIDATION_PIXELS`: few images' centers of a training crop's size chose bad models.
    Several devices get equal parts of each batch, as TensorFlow's convolutions fail without any
    image; up to `devices` - 1 images are left out for that.
    """
    manifest = read_manifest(config.records.path)
    arguments = _dataset_arguments(config, stretch, margin)
    if margin == 0:
        sides = manifest.smallest_size
        height, width = (min(side, LARGEST_VALIDATION_PIXELS) for side in sides)
        trained = config.pipeline.batch_size * math.prod(config.pipeline.crop)
        arguments["crop"] = height, width
        arguments["batch_size"] = max(1, trained // (height * width))
    if devices == 1:
        return load_dataset(config.records.path, "val", **arguments)
    size = max(arguments.pop("batch_size") // devices, 1) * devices
    images = manifest.splits["val"].images // devices * devices
    left_out = manifest.splits["val"].images - images
    if left_out:
        logger.info("validation leaves out %d images: %d devices get as many", left_out, devices)
    batches = load_dataset(config.records.path, "val", batch_size=1, **arguments)
    return (
        batches.take(images)
        .unbatch()
        .batch(size)
        .prefetch(tf.data.AUTOTUNE)
        .apply(tf.data.experimental.assert_cardinality(-(-images // size)))
    )


def warn_of_cache(config: Config) -> None:
    """Say so where decoded records would fill more than half of this machine's memory."""
    manifest = read_manifest(config.records.path)
    areas = (math.prod(manifest.smallest_size), math.prod(manifest.largest_size))
    images = sum(manifest.splits[split].images for split in ("train", "val"))
    # Beside the image, labels and maps of two bytes each, or less.
    bytes_a_pixel = manifest.channels * np.dtype(manifest.image_dtype).itemsize + 4
    needed = images * sum(areas) / 2 * bytes_a_pixel
    memory = _memory_bytes()
    if config.pipeline.cache and memory and needed > memory / 2:
        logger.warning(
            "decoded records would take about %.0f GB of this machine's %.0f: "
            "pipeline.cache=false reads them from disk in each epoch",
            needed / 1e9, memory / 1e9,
        )  # fmt: skip


def _memory_bytes() -> int:
    """This machine's memory; 0 where it does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0


def draw_preview(config: Config, count: int) -> Path:
    """Draw the first images of the first phase that transforms any; see `preview`.

    Args:
        config: The experiment; its records must exist.
        count: Samples, at least 1.

    Returns:
        The picture, beside the run folder, which is not touched.

    Raises:
        InputError: As `preview_picture`; or the records are damaged, or of other folders than the
            config names.
    """
    # How long the phases are does not matter here, nor whether warm-ups fit into them.
    run, stretches = Path(config.train.run_dir), plan(config, sys.maxsize)
    check_source(read_manifest(config.records.path), config)
    shown = next((s for s in stretches if s.augment != "none"), stretches[0])
    with in_use(Path(config.records.path)), explained(run, Path(config.records.path)):
        picture = preview_picture(
            config.records.path,
            count,
            augmentation=replace(config.augment, mode=shown.augment),
            crop=config.pipeline.crop,
            seed=config.seed,
            border_weight=shown.border_weight,
            class_weights=class_weights(config, read_manifest(config.records.path)),
            kind=config.targets.kind,
            outline_pixels=config.targets.outline_pixels,
            margin=valid_margin(config.model.depth) if config.model.padding == "valid" else 0,
        )
    path = run.with_name(f"{run.name}-preview.png")
    write_png(path, picture)
    return path


def _dataset_arguments(config: Config, stretch: Stretch, margin: int) -> dict[str, Any]:
    return {
        "crop": config.pipeline.crop,
        "batch_size": config.pipeline.batch_size,
        "border_weight": stretch.border_weight,
        "kind": config.targets.kind,
        "outline_pixels": config.targets.outline_pixels,
        "class_weights": class_weights(config, read_manifest(config.records.path)),
        "margin": margin,
        "regression_maps": config.loss.maps,
        "cache": config.pipeline.cache,
    }
