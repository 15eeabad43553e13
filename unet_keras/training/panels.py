"""What TensorBoard shows as pictures: the same validation images every few epochs, and samples.

    images  (B, H, W, C)      raw grey values
    y       (B, H', W', 2+T)  packed: class index, T maps, weight; centered in the image
    logits  (B, H', W', K+T)  what the network says

All pictures are drawn on the CPU from what training has anyway: a batch, and a few images' logits.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from tensorboard.plugins.pr_curve.summary import pb as curve_summary

from unet_keras import drawing
from unet_keras.training.board import Board
from unet_keras.training.optimizers import averaged_weights
from unet_keras.training.phases import Stretch
from unet_keras.training.speed import Speed
from unet_keras.training.state import RunState

# Thresholds 0, 0.01, ..., 1.
THRESHOLDS = 101
LONGEST_PIXELS = 1600

Logs = dict[str, float] | None


class Panels(keras.callbacks.Callback):
    """Shows pictures every few epochs and after the last; comes after the state was moved on.

    `samples`: a batch that training saw in the epoch, a transformed one where there are both kinds.
    `panel` and `precision_recall`: the same validation images each time, with the network's answer.

    Args:
        board: The run's TensorBoard.
        state: Where the run is.
        stretches: The run's phases.
        speed: Has the samples.
        batch: One validation batch, x (B, H, W, C) and packed y (B, H', W', 2+T), or None.
        every: Epochs between two panels.
        classes: How many of the logits' channels are class logits.
    """

    def __init__(
        self,
        board: Board,
        state: RunState,
        stretches: Sequence[Stretch],
        speed: Speed,
        batch: tuple[Any, Any] | None,
        *,
        every: int,
        classes: int,
    ) -> None:
        super().__init__()
        self.board = board
        self.state = state
        self.stretches = stretches
        self.speed = speed
        self.batch = None if batch is None else tuple(np.asarray(part) for part in batch)
        self.every = every
        self.classes = classes

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Draw where it is time."""
        done, finished = self.state.epoch, self.state.phase == len(self.stretches)
        if done % self.every and not finished:
            return
        if self.speed.kept_batch is not None:
            self.board.picture("train", "samples", training_panel(*self.speed.kept_batch), done)
        if self.batch is not None:
            images, y = self.batch
            probability = self._predict(images)
            self.board.picture(
                "validation", "panel", validation_panel(images, y, probability), done
            )
            self.board.summary("validation", precision_recall(y, probability), done)
        self.board.flush()

    def _predict(self, images: np.ndarray) -> np.ndarray:
        """One after the other: whole images together may need more memory than training does."""
        with averaged_weights(self.model):
            logits = [self.model(image[np.newaxis], training=False) for image in images]
        found = np.concatenate([keras.ops.convert_to_numpy(part) for part in logits])
        return foreground_probability(found[..., : self.classes])


def foreground_probability(logits: np.ndarray) -> np.ndarray:
    """Return the probability of foreground, float32 (B, H, W) in [0, 1].

    Args:
        logits: Of the classes, float32 (B, H, W, K).
    """
    if logits.shape[-1] == 1:
        return keras.ops.convert_to_numpy(keras.ops.sigmoid(logits))[..., 0]
    return 1.0 - keras.ops.convert_to_numpy(keras.ops.softmax(logits))[..., 0]


def validation_panel(images: np.ndarray, y: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """A row an image: image, truth, weights, probability, and right and wrong pixels.

    Args:
        images: (B, H, W, C).
        y: Packed, (B, H', W', 2+T).
        probability: Of the foreground, float32 (B, H', W').

    Returns:
        uint8 (height, width, 3).
    """
    greatest = max(float(y[..., -1].max()), 1e-6)
    rows = []
    for image, packed, predicted in zip(images, y, probability, strict=True):
        seen = _center(image, packed.shape[:2])
        truth = packed[..., 0] > 0
        errors = drawing.error_map(seen, truth, predicted > 0.5)
        rows.append([*_sample(seen, packed, greatest), drawing.probability_map(predicted), errors])
    titles = ["image", "truth", f"weights to {greatest:.1f}", "probability", "errors"]
    return drawing.shrink(drawing.panel(rows, titles), LONGEST_PIXELS)


def training_panel(images: np.ndarray, y: np.ndarray) -> np.ndarray:
    """A row a sample: image, truth and weights, as training sees them.

    Args:
        images: (B, H, W, C); at most 4 are shown.
        y: Packed, (B, H', W', 2+T).

    Returns:
        uint8 (height, width, 3).
    """
    images, y = images[:4], y[:4]
    greatest = max(float(y[..., -1].max()), 1e-6)
    rows = [
        _sample(_center(image, packed.shape[:2]), packed, greatest)
        for image, packed in zip(images, y, strict=True)
    ]
    titles = ["image", "truth", f"weights to {greatest:.1f}"]
    return drawing.shrink(drawing.panel(rows, titles), LONGEST_PIXELS)


def precision_recall(y: np.ndarray, probability: np.ndarray) -> bytes:
    """Return precision and recall at each threshold, over all pixels with a weight.

    Args:
        y: Packed, (B, H, W, 2+T).
        probability: Of the foreground, float32 (B, H, W).

    Returns:
        A serialized `Summary` of TensorBoard's tab PR CURVES.
    """
    counted = y[..., -1] != 0
    made = curve_summary(
        "precision_recall",
        labels=(y[..., 0] > 0)[counted],
        predictions=np.clip(probability, 0, 1)[counted],
        num_thresholds=THRESHOLDS,
    )
    return made.SerializeToString()


def _sample(image: np.ndarray, packed: np.ndarray, greatest: float) -> list[np.ndarray]:
    classes = packed[..., 0].astype(np.uint8)
    truth = drawing.colorize_labels(classes) if classes.max() > 1 else classes > 0
    return [drawing.to_rgb(image), truth, drawing.probability_map(packed[..., -1] / greatest)]


def _center(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Cut an image to what the network's answer covers."""
    top, left = ((whole - part) // 2 for whole, part in zip(image.shape[:2], size, strict=True))
    return image[top : top + size[0], left : left + size[1]]
