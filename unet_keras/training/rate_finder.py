"""The learning rate range test of Smith (2017), sec. 3.3: one short run tells the rate to take.

The rate rises from step to step by the same factor while the network learns. The loss first stands
still, then falls, then grows without bounds. Rule: smooth the losses by a running mean, stop where
it is four times its smallest value, and suggest a tenth of the rate at which it was smallest: there
the loss still falls about as fast as anywhere, and the steps are far from those that fail.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from unet_keras import drawing
from unet_keras.errors import InputError

# What the running mean keeps at a step, how far the loss may grow, and the share suggested.
KEPT = 0.9
TOLERATED = 4.0
SHARE = 0.1


@dataclass(frozen=True)
class RateCurve:
    """What a range test found; one number a step.

    Attributes:
        rates: Learning rates, rising, float64 (N,).
        losses: Loss of the batch before the step, float64 (N,).
        smoothed: Running mean of the losses, float64 (N,).
        suggestion: The rate to train with.
    """

    rates: np.ndarray
    losses: np.ndarray
    smoothed: np.ndarray
    suggestion: float


def find_rate(
    model: keras.Model,
    data: tf.data.Dataset,
    *,
    steps: int = 100,
    lowest: float = 1e-6,
    highest: float = 1.0,
) -> RateCurve:
    """Train a model with rising rates; it is of no use afterwards.

    Args:
        model: Compiled.
        data: Endless batches, x (B, H, W, C) and packed y (B, H', W', 2+T).
        steps: At most so many; fewer where the loss grows before.
        lowest: Rate of the first step, above 0.
        highest: Rate of the last step, above `lowest`.

    Returns:
        A number for each step that was taken, and the suggestion.

    Raises:
        InputError: The loss of the very first batch is no number.
    """
    test = _RangeTest(np.geomspace(lowest, highest, steps))
    model.fit(data, steps_per_epoch=steps, epochs=1, verbose=0, callbacks=[test], shuffle=False)
    return curve_of(test.rates[: len(test.losses)], test.losses)


class _RangeTest(keras.callbacks.Callback):
    """Raises the rate from step to step until the loss grows."""

    def __init__(self, rates: np.ndarray) -> None:
        super().__init__()
        self.rates = rates
        self.losses: list[float] = []
        self._sum = 0.0

    def on_train_batch_begin(self, batch: int, logs: dict[str, float] | None = None) -> None:
        self.model.optimizer.learning_rate = float(self.rates[batch])

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        # Keras tells the mean over the epoch so far.
        total = (logs or {})["loss"] * (batch + 1)
        loss, self._sum = total - self._sum, total
        if not math.isfinite(loss):
            self.model.stop_training = True
            return
        self.losses.append(loss)
        mean = _smoothed(self.losses)
        self.model.stop_training = bool(mean[-1] > TOLERATED * mean.min())


def curve_of(rates: np.ndarray, losses: Sequence[float] | np.ndarray) -> RateCurve:
    """Return the curve of a test, with the suggestion that the head of this file describes.

    Args:
        rates: Rising, float64 (N,).
        losses: One a rate, (N,).

    Raises:
        InputError: There is no loss: the very first was no number.
    """
    if len(losses) == 0:
        raise InputError(
            "the loss of the very first batch is no number, before any rate had an effect: "
            "look at the images, or try train.precision=float32"
        )
    smoothed = _smoothed(losses)
    best = float(rates[int(np.argmin(smoothed))])
    return RateCurve(np.asarray(rates), np.asarray(losses), smoothed, SHARE * best)


def draw_curve(curve: RateCurve, path: Path) -> None:
    """Draw losses over rates, with the suggestion, as a PNG file of 770 x 440 pixels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), dpi=110, layout="constrained")
    canvas, axes = FigureCanvasAgg(figure), figure.add_subplot()
    axes.plot(curve.rates, curve.losses, color="0.75", label="loss of each batch")
    axes.plot(curve.rates, curve.smoothed, color="C0", label="running mean")
    axes.axvline(curve.suggestion, color="C1", label=f"suggestion: {curve.suggestion:.1e}")
    axes.set(xscale="log", xlabel="learning rate", ylabel="loss")
    low = min(curve.smoothed.min(), np.min(curve.losses))
    axes.set_ylim(low - 0.05 * abs(low), 1.05 * float(curve.smoothed.max()))
    axes.legend()
    canvas.draw()
    drawing.write_png(path, np.asarray(canvas.buffer_rgba())[..., :3].copy())


def _smoothed(losses: Sequence[float] | np.ndarray) -> np.ndarray:
    """Exponential running mean, without the pull of its start towards 0 (Kingma and Ba 2015)."""
    mean, found = 0.0, []
    for number, loss in enumerate(losses, start=1):
        mean = KEPT * mean + (1 - KEPT) * float(loss)
        found.append(mean / (1 - KEPT**number))
    return np.array(found)
