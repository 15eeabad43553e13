"""From annotated microscope images to a trained, evaluated and served U-Net.

The names below are the public API. Nothing heavy is imported until one of them is used, so that
`border_map` works without TensorFlow and `--help` answers at once. Saved models load with
`keras.saving.load_model` where Keras was imported before this package, or anything here that needs
Keras was used; and with `load_model` in any order.
"""

import importlib
import sys
from typing import Any

_HOMES = {
    "border_map": "unet_keras.targets.borders",
    "distance_map": "unet_keras.targets.distance",
    "paint_labels": "unet_keras.targets.labels",
    "separate_touching": "unet_keras.targets.labels",
    "grouped_folds": "unet_keras.sources.grouping",
    "folder_references": "unet_keras.sources.folders",
    "write_records": "unet_keras.records.writer",
    "load_model": "unet_keras.model.saved",
    "load_dataset": "unet_keras.pipeline.dataset",
    "Augmentation": "unet_keras.settings.augment",
    "sample_field": "unet_keras.pipeline.augment",
    "warp": "unet_keras.pipeline.geometry",
    "build_unet": "unet_keras.model.unet",
    "WeightedCrossEntropy": "unet_keras.model.losses",
    "SoftDice": "unet_keras.model.losses",
    "WeightedSum": "unet_keras.model.losses",
    "Dice": "unet_keras.model.metrics",
    "IoU": "unet_keras.model.metrics",
    "predict_tiled": "unet_keras.inference.tiling",
    "label_instances": "unet_keras.inference.instances",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'unet_keras' has no attribute {name!r}; it has {__all__}")
    found = getattr(importlib.import_module(_HOMES[name]), name)
    _register()
    return found


def __dir__() -> list[str]:
    return __all__


def _register() -> None:
    """Let Keras find the classes that saved models name, if it is there to find them."""
    if "keras" in sys.modules:
        importlib.import_module("unet_keras.model")


_register()
