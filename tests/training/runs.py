"""Tiny runs: a few thousand weights, two batches an epoch, and every kind of state in it."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorboard.compat.proto.event_pb2 import Event

from unet_keras import config as configuration
from unet_keras.config import Config
from unet_keras.records.framing import read_frames
from unet_keras.settings.augment import Augmentation
from unet_keras.training.resume import newest_state

# Batch normalization, dropout, two phases and all kinds of augmentation between them.
SMALL = (
    "pipeline.crop=[32, 32]",
    "pipeline.batch_size=2",
    "model.base_filters=4",
    "model.depth=1",
    "model.dropout=0.3",
    "augment.jit_compile=false",
    "train.steps_per_epoch=2",
    "train.panel_epochs=0",
    "train.phases=[{epochs: 1, augment: none}, {epochs: 2, augment: append, learning_rate: 1e-2}]",
)


def small_config(records: Path, run: Path, *overrides: str) -> Config:
    """Return the config of a tiny run on the shared records."""
    paths = (f"records.path={records}", f"train.run_dir={run}")
    return configuration.load(overrides=[*SMALL, *paths, *overrides])


def simple_data(
    path: Path | str,
    split: str,
    *,
    crop: tuple[int, int],
    batch_size: int,
    augment: Augmentation | None = None,
    seed: int = 0,
    start_step: int = 0,
    **_: object,
) -> tf.data.Dataset:
    """Stand in for `load_dataset`, which takes seconds to build; bright squares are foreground."""

    mode = "none" if augment is None else augment.mode

    def batch(step: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        number = step // 2 if mode == "append" else step
        moved = step % 2 if mode == "append" else tf.cast(mode == "replace", tf.int64)
        key = tf.stack([number, seed + 100 * moved])
        image = tf.random.stateless_uniform([batch_size, *crop, 1], key, 0, 255)
        image = tf.repeat(tf.repeat(image[:, ::8, ::8], 8, axis=1), 8, axis=2)
        truth = tf.cast(image > 128, tf.float32)
        return image, tf.concat([truth, tf.ones_like(truth)], axis=-1)

    numbers = tf.data.Dataset.range(start_step, start_step + 3)
    if split == "train":
        numbers = tf.data.Dataset.range(start_step, tf.int64.max)
    return numbers.map(batch)


def outcome(run: Path) -> dict[str, bytes]:
    """Return all that a run ends with: weights, optimizer, seeds, state, the best network."""
    import keras

    state = newest_state(run)
    assert state is not None
    folder = run / "checkpoints" / f"epoch-{state.epoch:04d}"
    found = {"state": json.dumps(asdict(state)).encode()}
    found["history"] = (run / "history.csv").read_bytes()
    for name, path in (("last", folder / "model.keras"), ("best", run / "model.keras")):
        weights = keras.saving.load_model(path).get_weights()
        found |= {f"{name} {n}": weight.tobytes() for n, weight in enumerate(weights)}
    with np.load(folder / "training.npz") as stored:
        found |= {f"training {name}": stored[name].tobytes() for name in stored.files}
    return found


def differing(first: dict[str, bytes], second: dict[str, bytes]) -> list[str]:
    """Return the names of what is not the same, bit by bit."""
    return [name for name in first | second if first.get(name) != second.get(name)]


def points(folder: Path) -> dict[str, list[tuple[int, bytes]]]:
    """Return each tag's points in TensorBoard's files of a folder, in order: (step, value)."""
    found: dict[str, list[tuple[int, bytes]]] = {}
    for file in sorted(folder.glob("events.out.tfevents.*"), key=lambda f: f.stat().st_mtime_ns):
        for data in read_frames(file):
            event = Event.FromString(data)
            for value in event.summary.value:
                content = value.tensor.SerializeToString(deterministic=True)
                found.setdefault(value.tag, []).append((event.step, content))
    return found
