"""Trains on one device and on two, in a process of its own: python mirrored.py RECORDS FOLDER.

Prints the losses of each run as JSON.
"""

import csv
import json
import sys
from pathlib import Path
from typing import Any

import tensorflow as tf

from tests.training.runs import simple_data, small_config
from unet_keras.errors import InputError
from unet_keras.training import data, fit


def main(records: Path, folder: Path) -> None:
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
    data.load_dataset = two_to_validate
    found = {}
    for normalization in ("batch", "none"):
        for distribute in ("none", "mirrored"):
            name = f"{normalization} {distribute}"
            found[name] = losses(records, folder / name, normalization, distribute)
    try:
        losses(records, folder / "uneven", "none", "mirrored", "pipeline.batch_size=3")
    except InputError as error:
        found["uneven"] = str(error)
    json.dump(found, sys.stdout)


def two_to_validate(path: Path, split: str, **given: Any) -> tf.data.Dataset:
    """As many as the manifest says."""
    batches = simple_data(path, split, **given)
    if split == "train":
        return batches
    return batches.unbatch().take(2).batch(given["batch_size"])


def losses(
    records: Path, run: Path, normalization: str, distribute: str, *overrides: str
) -> dict[str, list[float]]:
    """Train five steps, each an epoch, and return the history's losses."""
    config = small_config(
        records, run, f"model.normalization={normalization}", f"train.distribute={distribute}",
        "pipeline.batch_size=4", "model.dropout=0", "train.steps_per_epoch=1",
        "train.panel_epochs=5", "train.phases=[{epochs: 5, augment: none}]", *overrides,
    )  # fmt: skip
    with (fit.train(config) / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    return {name: [float(row[name]) for row in rows] for name in ("loss", "val_loss", "val_dice")}


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
