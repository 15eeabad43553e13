"""TensorBoard's files of a run: what is drawn under which name, and where.

    RUN/tensorboard/             the config as text, hyperparameters, profiles
    RUN/tensorboard/train        curves and pictures of the training data
    RUN/tensorboard/validation   curves and pictures of the validation data

Training and validation have the same names, so that they share a chart. Steps are epochs, counted
from 1; what belongs to the whole run has step 0.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorboard.plugins.hparams import api as hparams

_GROUPS = {"loss": "loss/total", "dice": "score/dice", "iou": "score/iou"}


class Board:
    """Writes a run's TensorBoard.

    Args:
        folder: TensorBoard's folder of the run.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._writers: dict[str, tf.summary.SummaryWriter] = {}

    def scalar(self, side: str, tag: str, value: float, epoch: int) -> None:
        """Add a point to a curve of a side: `train`, `validation` or, for the run, empty."""
        with self._writer(side).as_default():
            tf.summary.scalar(tag, float(value), epoch)

    def picture(self, side: str, tag: str, picture: np.ndarray, epoch: int) -> None:
        """Show a picture, uint8 (H, W, 3)."""
        with self._writer(side).as_default():
            tf.summary.image(tag, picture[np.newaxis], epoch)

    def text(self, tag: str, markdown: str) -> None:
        """Show a text about the whole run."""
        with self._writer("").as_default():
            tf.summary.text(tag, markdown, 0)

    def summary(self, side: str, serialized: bytes, epoch: int) -> None:
        """Add what one of TensorBoard's plugins made, a serialized `Summary`."""
        with self._writer(side).as_default():
            tf.summary.experimental.write_raw_pb(serialized, epoch)

    def hyperparameters(
        self, values: Mapping[str, Any], scores: Mapping[str, Mapping[str, str]]
    ) -> None:
        """Show a run in the HParams tab, where runs are compared.

        TensorBoard finds the scores where it watches a folder above this one, such as the run's.

        Args:
            values: Hyperparameters by name, nested or not.
            scores: By folder of curves below this one, such as `validation`: the name shown for
                each curve whose last point is a score of the run.
        """
        leaves = leaves_of(values)
        described = hparams.hparams_config_pb(
            hparams=[hparams.HParam(name) for name in leaves],
            metrics=[
                hparams.Metric(tag, group=side, display_name=name)
                for side, curves in scores.items()
                for tag, name in curves.items()
            ],
        )
        for made in (described, hparams.hparams_pb(leaves)):
            self.summary("", made.SerializeToString(), 0)

    def flush(self) -> None:
        """Bring everything to the disk."""
        for writer in self._writers.values():
            writer.flush()

    def _writer(self, side: str) -> tf.summary.SummaryWriter:
        if side not in self._writers:
            self._writers[side] = tf.summary.create_file_writer(str(self.folder / side))
        return self._writers[side]


def tag_of(figure: str) -> str:
    """Return the name of a figure's curve, `loss/...` or `score/...`; training's and validation's.

    Args:
        figure: Its name in the history, without `val_`.
    """
    return _GROUPS.get(figure, f"loss/{figure}")


def leaves_of(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested values as plain ones, `loss.dice` for `{"loss": {"dice": ...}}`.

    Numbers, truth values and texts stay; anything else becomes a text.
    """
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, list | tuple):
            nested = any(isinstance(element, Mapping) for element in value)
            value = dict(enumerate(value)) if nested else list(value)
        if isinstance(value, Mapping):
            found |= leaves_of(value, f"{name}.")
        else:
            found[name] = value if isinstance(value, bool | int | float | str) else str(value)
    return found
