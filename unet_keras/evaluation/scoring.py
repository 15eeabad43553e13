"""Scoring a run: its network on whole images of its records, at their own resolution."""

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from unet_keras.config import Config
from unet_keras.errors import InputError
from unet_keras.evaluation.classes import class_map
from unet_keras.evaluation.summary import Evaluation
from unet_keras.inference.averaging import Prediction, over_flips, over_models
from unet_keras.inference.ensembles import common_dtype, demand_one_target
from unet_keras.inference.instances import InstanceRules, foreground_of
from unet_keras.inference.loading import open_predictor
from unet_keras.inference.outlines import as_cells, perfect_cells
from unet_keras.inference.tiling import predict_tiled
from unet_keras.pipeline.kinds import class_names, parts_touching
from unet_keras.records.manifest import Manifest, demand_intact, read_manifest
from unet_keras.records.schema import parse_record
from unet_keras.settings import Evaluate
from unet_keras.targets.labels import separate_touching


def score_split(
    config: Config, predictor: Prediction, progress: Callable[[int], Any] | None = None
) -> Evaluation:
    """Predict and score every image of the config's `evaluate.split`.

    Args:
        config: Names the records, the split and how probabilities become instances.
        predictor: From an image (H, W, C) to probabilities float32 (H, W, K).
        progress: Called with 1 after each image.

    Returns:
        The evaluation, with every image added.

    Raises:
        InputError: No records, or none in the split.
    """
    path, settings = Path(config.records.path), config.evaluate
    manifest = manifest_with(path, settings.split)
    kind, maps = config.targets.kind, len(config.loss.maps)
    parted = parts_touching(manifest, kind)
    rules = rules_of(settings, separate=parted)
    perfect = partial(
        perfect_cells,
        kind=kind,
        maps=maps,
        separate=manifest.separate,
        outline_width=config.targets.outline_pixels,
    )
    evaluation = Evaluation(
        threshold=settings.threshold,
        membranes=settings.membranes,
        class_names=class_names(manifest, kind) if tells_classes(config, manifest) else (),
    )
    for record in read_records(path, manifest, settings.split):
        probabilities = predictor(record["image"])
        probability = foreground_of(probabilities)
        predicted = rules.label(probability)
        truth = record["labels"]
        # What the network was to learn: pixels between touching instances are background.
        foreground = (separate_touching(truth) if parted else truth) > 0
        evaluation.add(
            record["file_name"],
            record["group"],
            record["image"],
            truth,
            record["outlines"],
            probability,
            predicted,
            foreground=foreground,
            learned=rules.label(perfect(truth)[..., 0]),
        )
        if evaluation.classes is not None:
            told = class_map(truth, record["classes"], foreground)
            evaluation.classes.add(told, probabilities)
        if progress is not None:
            progress(1)
    return evaluation


def tells_classes(config: Config, manifest: Manifest) -> bool:
    """Tell whether a network's probabilities are those of several classes of instances.

    Outlines and distances are made into a map of cells, in which classes are one.
    """
    return manifest.num_classes > 1 and config.targets.kind == "cells" and not config.loss.maps


def manifest_with(path: Path, split: str) -> Manifest:
    """Return the manifest of records that have images in a split.

    Raises:
        InputError: There are no records, or none in the split.
    """
    manifest = read_manifest(path)
    if not manifest.splits[split].images:
        having = [name for name, part in manifest.splits.items() if part.images]
        raise InputError(
            f"{path} has no images in split {split!r}: give evaluate.split={' or '.join(having)}"
        )
    return manifest


def rules_of(settings: Evaluate, *, separate: bool = True) -> InstanceRules:
    """Return how probabilities become instances; they grow back where touching ones were parted."""
    return InstanceRules(
        threshold=settings.threshold,
        minimum_area=settings.minimum_area,
        method=settings.method,
        seed_prominence=settings.seed_prominence,
        seed_smoothing=settings.seed_smoothing,
        grow_pixels=settings.grow_pixels if separate else 0,
    )


def predictor_of(model: keras.Model, config: Config, image_dtype: str | None = None) -> Prediction:
    """Return the function that predicts an image (H, W, C) as the config's `evaluate` says.

    Args:
        model: The run's network.
        config: Of the run; `evaluate` names further ones and says whether flips are averaged.
        image_dtype: Of the images; None where it is not known.

    Raises:
        InputError: A further network is none, or one of other targets or grey values.
    """
    settings, kind = config.evaluate, config.targets.kind
    maps = len(config.loss.maps)
    tile = settings.tile or None

    def predict(image: np.ndarray) -> np.ndarray:
        return as_cells(predict_tiled(model, image, tile=tile, fixed=True), kind, maps)

    others = [open_predictor(Path(run), tile=tile) for run in settings.ensemble]
    demand_one_target(others, kind)
    common_dtype(others, np.dtype(image_dtype) if image_dtype else None)
    averaged = over_models([predict, *others])
    return over_flips(averaged) if settings.tta else averaged


def read_records(path: Path, manifest: Manifest, split: str) -> Iterator[dict[str, Any]]:
    """Yield the images of a split with labels, classes, outlines and names.

    Names are those of the files, where several images have one, such as the pages of a stack, the
    images' ids.

    Yields:
        `image` uint8, uint16 or float32 (H, W, C), `labels` int32 (H, W), `classes` int32 (n,),
        `outlines`, n run-length codes of size (H, W), and the strings `file_name` and `group`.

    Raises:
        InputError: A shard is damaged or missing, in the words of `make_records --verify`.
    """
    seen: set[str] = set()
    for serialized in _read_intact(path, manifest, split):
        parsed = parse_record(
            serialized, maps=(), channels=manifest.channels, image_dtype=manifest.image_dtype
        )
        file_name, image_id = (parsed[key].numpy().decode() for key in ("file_name", "image_id"))
        page = re.escape(PurePosixPath(file_name).stem) + r"-\d+"
        if file_name in seen or re.fullmatch(page, PurePosixPath(image_id).name):
            file_name = image_id
        seen.add(file_name)
        yield {
            "image": parsed["image"].numpy(),
            "labels": parsed["labels"].numpy(),
            "classes": parsed["classes"].numpy(),
            "outlines": tuple(parsed["outlines"].numpy()),
            "file_name": file_name,
            "group": parsed["group"].numpy().decode(),
        }


def _read_intact(path: Path, manifest: Manifest, split: str) -> Iterator[tf.Tensor]:
    demand_intact(path)  # one cut between two records would read as one with fewer images
    files = [str(path / shard.file) for shard in manifest.splits[split].shards]
    try:
        yield from tf.data.TFRecordDataset(files)
    except (tf.errors.DataLossError, tf.errors.NotFoundError):
        demand_intact(path, thorough=True)
        raise
