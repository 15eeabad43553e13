"""What each key of the config changes: how to see it, and two values that must differ."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests import observers as see
from unet_keras.config import Config
from unet_keras.records import conversion
from unet_keras.sources.synthetic import write_livecell_layout

OTHER = ["source.kind=coco", "source.images=other/images", "source.annotations=other/annotations"]
PAIRS = ["source.kind=folders", "source.images=pairs/images", "source.annotations=pairs/masks"]
LABELED = [*PAIRS, "source.mask_kind=labels"]
BY_GROUP = [*LABELED, "source.fractions=[0.5, 0.5, 0]"]  # of two groups
COCO = ["source.kind=coco", "source.images=data/images", "source.annotations=data/annotations"]
FETCHED = [*COCO, "source.download=true"]
OPTIMIZER = {
    "kind": ("adam", "sgd"),
    "momentum": ("0.5", "0.9"),
    "betas": ("[0.9, 0.999]", "[0.8, 0.99]"),
    "amsgrad": ("false", "true"),
    "weight_decay": ("0", "0.1"),
    "clip_norm": ("0", "1"),
    "average": ("0", "0.5"),
}
# key: how its effect is seen, one value, another value, what both need besides
EFFECTS: dict[str, tuple[Callable[[Config], Any], str, str, list[str]]] = {
    "seed": (see.pixels, "0", "1", []),
    "source.kind": (see.pixels, "coco", "synthetic", OTHER[1:]),
    "source.images": (see.pixels, "data/images", "other/images", [*COCO]),
    "source.annotations": (see.instances, "data/annotations", "other/annotations", [*COCO]),
    "source.download": (see.downloads, "true", "false", COCO),
    "source.url": (see.downloads, "https://a", "https://b", FETCHED),
    "source.sha256": (see.downloads, "{}", f"{{images.zip: {'a' * 64}}}", FETCHED),
    "source.pixel_size": (lambda config: conversion.convert(config).pixel_size, "0.5", "1.2", []),
    "source.license": (see.description, "''", "'CC BY-NC 4.0'", []),
    "source.group_pattern": (see.source, "'^([^_]+)_'", "'(Phase)'", COCO),
    "source.on_leak": (see.source, "warn", "drop", COCO),
    "source.mask_kind": (see.instances, "binary", "labels", PAIRS),
    "source.class_values": (see.classes, "[1, 2]", "[2, 1]", [*PAIRS, "source.mask_kind=classes"]),
    "source.lists": (see.source, "lists/a", "lists/b", LABELED),
    "source.fractions": (see.source, "[0.5, 0.25, 0.25]", "[0.25, 0.25, 0.5]", LABELED),
    "source.channels": (see.pixels, "0", "3", []),
    "source.split_in_order": (see.source, "true", "false", LABELED),
    "source.split_by_group": (see.source, "true", "false", BY_GROUP),
    "source.counts": (see.source, "[3, 1, 1]", "[4, 1, 1]", []),
    "source.cells": (see.pixels, "typical", "varied", []),
    "source.size": (see.pixels, "[96, 112]", "[112, 96]", []),
    "targets.kind": (see.batches, "boundary", "cells_and_borders", ["evaluate.method=watershed"]),
    "targets.outline_pixels": (
        see.batches,
        "1",
        "2",
        ["targets.kind=cells_and_borders", "evaluate.method=watershed"],
    ),
    "targets.sigma_pixels": (see.records, "5", "3", []),
    "targets.separate_touching": (see.records, "true", "false", []),
    "targets.overlap": (see.records, "smallest", "largest", []),
    "records.path": (see.records, "records/a", "records/b", []),
    "records.workers": (see.workers, "1", "2", []),
    "records.maps": (see.records, "[border]", "[border, distance]", []),
    "records.shard_images": (see.records, "1", "2", []),
    "pipeline.crop": (see.batches, "[64, 64]", "[48, 64]", []),
    "pipeline.batch_size": (see.batches, "1", "2", []),
    "pipeline.cache": (see.cached, "true", "false", []),
    "model.base_filters": (see.network, "4", "5", []),
    "model.depth": (see.network, "1", "2", []),
    "model.stride": (see.network, "1", "2", []),
    "model.padding": (see.network, "same", "valid", ["model.normalization=none"]),
    "model.normalization": (see.network, "batch", "none", []),
    "model.output": (see.network, "sigmoid", "softmax", []),
    "model.dropout": (see.network, "0", "0.5", []),
    "loss.cross_entropy": (see.loss, "1", "2", []),
    "loss.dice": (see.loss, "1", "2", []),
    "loss.distance": (see.loss, "0", "1", ["records.maps=[border, distance]"]),
    "loss.border_weight": (see.loss, "0", "10", []),
    "loss.class_weights": (see.loss, "[3, 1]", "balanced", []),
    "loss.normalize": (see.loss, "weights", "pixels", []),
    "train.run_dir": (see.training, "runs/a", "runs/b", []),
    "train.start_from": (see.training, "''", "start.keras", []),
    "train.steps_per_epoch": (see.training, "1", "2", []),
    **{
        f"train.optimizer.{key}": (
            see.optimizer,
            *values,
            ["train.optimizer.kind=sgd"] if key == "momentum" else [],
        )
        for key, values in OPTIMIZER.items()
    },
    "train.precision": (see.policy, "float32", "mixed_bfloat16", []),
    "train.phases": (see.phases, "[{epochs: 1}]", "[{epochs: 2, augment: none}]", []),
    "train.monitor": (see.best_epoch, "val_loss", "val_dice", []),
    "train.checkpoint_epochs": (see.training, "0", "1", ["train.phases=[{epochs: 3}]"]),
    "train.panel_epochs": (see.panels, "0", "3", []),
    "train.distribute": (see.spread, "none", "mirrored", []),
    "train.profile_steps": (see.profiled, "0", "2", []),
    "train.deterministic": (see.determinism, "true", "false", []),
    "evaluate.split": (see.scores, "val", "test", []),
    "evaluate.threshold": (see.scores, "0.5", "0.6", []),
    "evaluate.minimum_area": (see.scores, "0", "200", []),
    "evaluate.method": (see.scores, "components", "watershed", ["evaluate.threshold=0.3"]),
    "evaluate.seed_prominence": (see.scores, "0.02", "0.9", ["evaluate.method=watershed"]),
    "evaluate.seed_smoothing": (see.scores, "0", "5", ["evaluate.method=watershed"]),
    "evaluate.grow_pixels": (see.scores, "0", "3", []),
    "evaluate.tta": (see.averaged, "false", "true", []),
    "evaluate.ensemble": (see.averaged, "[]", "[runs/b]", []),
    "evaluate.tile": (see.tile, "0", "64", []),
    "evaluate.membranes": (see.scores, "false", "true", []),
    "augment.jit_compile": (see.compiled, "true", "false", []),
    "augment.device": (see.places, "auto", "cpu:1", []),
}
SMOOTH = ["augment.kind=smooth"]
AUGMENT = {
    "mode": ("replace", "none"),
    "kind": ("grid", "smooth"),
    "grid": ("[3, 3]", "[4, 5]"),
    "deviation_pixels": ("10", "4"),
    "alpha": ("100", "300", SMOOTH),
    "sigma": ("8", "12", SMOOTH),
    "rotation_degrees": ("180", "0"),
    "shift_pixels": ("0", "5"),
    "zoom": ("[1, 1]", "[0.8, 1.2]"),
    "flip": ("true", "false"),
    "brightness": ("0", "0.3"),
    "contrast": ("0", "0.3"),
    "gamma": ("[1, 1]", "[0.7, 1.5]"),
    "noise": ("0", "0.3"),
    "blur_pixels": ("0", "2"),
    "image_order": ("1", "3"),
}
EFFECTS |= {
    f"augment.{key}": (see.batches, first, second, *(needs or [[]]))
    for key, (first, second, *needs) in AUGMENT.items()
}


def make_sources(folder: Path) -> None:
    """Write two LIVECell-like folders, the first with a leak, and one of images and masks."""
    for name, seed in (("data", 0), ("other", 1)):
        counts = {"train": 3, "val": 1, "test": 1}
        write_livecell_layout(folder / name, counts, seed=seed, size=(96, 112))
    train, val = (folder / f"data/annotations/livecell_coco_{s}.json" for s in ("train", "val"))
    merged, leaked = json.loads(train.read_text()), json.loads(val.read_text())
    merged["images"] += leaked["images"]
    merged["annotations"] += leaked["annotations"]
    train.write_text(json.dumps(merged))
    for name, listed in (("a", "A_0\nB_1\n"), ("b", "A_2.png\n")):
        (folder / "lists" / name).mkdir(parents=True)
        (folder / "lists" / name / "train.txt").write_text(listed)
    for part in ("images", "masks"):
        (folder / "pairs" / part).mkdir(parents=True)
    for number in range(8):
        name = f"{'AB'[number % 2]}_{number}.png"
        mask = np.zeros((40, 50), np.uint8)
        mask[5:20, 5:30], mask[22:30, 5:30], mask[5:20, 31:40] = 1, 2, 2
        Image.fromarray(mask * 100).save(folder / "pairs/images" / name)
        Image.fromarray(mask).save(folder / "pairs/masks" / name)
