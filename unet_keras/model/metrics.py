"""Metrics that unpack y: exact counts of pixels, over all pixels since the last reset.

    y       (B, H, W, 2+T), (B, H, W) or (B, H, W, 1)   as in `losses`
    logits  (B, H, W, K+T)                              before sigmoid or softmax

A pixel is predicted foreground where its logit is above 0, a probability of one half (one class),
or where the greatest logit is a foreground class's (several), or where the foreground classes'
probabilities add up to more than one half (several that are joined). The size of w does not count,
but pixels with w = 0 are left out. All pixels of all images go into one quotient, which therefore
does not depend on the batch size or the number of devices.
"""

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from unet_keras.model.losses import PixelLoss
from unet_keras.model.target import unpack_target, with_weight


class _Overlap(keras.metrics.Metric):
    """Counts of pixels in prediction and truth, in prediction, and in truth.

    Integers of 64 bits: float32 cannot count beyond 16.7 million, 46 images of LIVECell's size.

    Args:
        class_index: The class that counts, 1..K-1; without it, every foreground class, each
            pixel with its own.
        joined: Whether all foreground classes count as one, such as the inside of cells and their
            outlines.
        name: For logs.
        dtype: Of the result.
    """

    def __init__(
        self,
        class_index: int | None = None,
        *,
        joined: bool = False,
        name: str,
        dtype: str = "float32",
    ) -> None:
        super().__init__(name=name, dtype=dtype)
        if class_index is not None and (class_index < 1 or joined):
            raise ValueError(
                f"class_index={class_index} must be at least 1, a foreground class, or None, and "
                f"None with joined=True (it is {joined})."
            )
        self.class_index = class_index
        self.joined = joined
        self.both = self._counter("both")
        self.predicted = self._counter("predicted")
        self.true = self._counter("true")

    def _counter(self, name: str) -> keras.Variable:
        return self.add_variable((), initializer="zeros", dtype="int64", name=name)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any | None = None) -> None:
        """Count a batch; a `sample_weight`, (B, H, W) or (B,), masks pixels where it is 0."""
        if sample_weight is not None:
            y_true = with_weight(y_true, sample_weight)
        target = unpack_target(ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred))
        classes = max(target.class_logits.shape[-1], 2)
        if self.class_index is not None and self.class_index >= classes:
            raise ValueError(
                f"class_index={self.class_index} must be below {classes}, the number of classes "
                "that the network tells apart."
            )
        truth, prediction = target.index, self._classify(target.class_logits)
        if self.joined:
            truth = ops.minimum(truth, 1)
        counts = target.weight != 0
        in_prediction = self._foreground(prediction) & counts
        in_truth = self._foreground(truth) & counts
        self.both.assign_add(_number(in_prediction & in_truth & (prediction == truth)))
        self.predicted.assign_add(_number(in_prediction))
        self.true.assign_add(_number(in_truth))

    def _classify(self, logits: tf.Tensor) -> tf.Tensor:
        """Return the class of each pixel, int32 (B, H, W), from logits (B, H, W, K)."""
        if logits.shape[-1] == 1:
            return ops.cast(logits[..., 0] > 0, "int32")
        if self.joined:  # their probabilities add up
            return ops.cast(ops.softmax(logits)[..., 0] < 0.5, "int32")
        return ops.cast(ops.argmax(logits, axis=-1), "int32")

    def _foreground(self, index: tf.Tensor) -> tf.Tensor:
        return index > 0 if self.class_index is None else index == self.class_index

    def get_config(self) -> dict[str, Any]:
        """Return what the constructor takes."""
        return {
            **super().get_config(),
            "class_index": self.class_index,
            "joined": self.joined,
        }


@keras.saving.register_keras_serializable(package="unet_keras")
class Dice(_Overlap):
    """Dice coefficient, 2 |P ∩ T| / (|P| + |T|), in [0, 1]; 1 where both are empty.

    Takes y (B, H, W, 2+T), (B, H, W) or (B, H, W, 1) and logits (B, H, W, K+T), as the head of this
    file says; ValueError for others. Dice 1945; Sørensen 1948.

    Args:
        class_index: The class that counts; without it every foreground class, each with its own.
        joined: Whether all foreground classes count as one.
        name: For logs.
        dtype: Of the result.
    """

    def __init__(
        self,
        class_index: int | None = None,
        *,
        joined: bool = False,
        name: str = "dice",
        dtype: str = "float32",
    ) -> None:
        super().__init__(class_index, joined=joined, name=name, dtype=dtype)

    def result(self) -> tf.Tensor:
        """Return the coefficient of all pixels so far, in [0, 1]."""
        return _quotient(2 * self.both, self.predicted + self.true, self.dtype)


@keras.saving.register_keras_serializable(package="unet_keras")
class IoU(_Overlap):
    """Intersection over union, |P ∩ T| / |P ∪ T|, in [0, 1]; 1 where both are empty.

    Takes y (B, H, W, 2+T), (B, H, W) or (B, H, W, 1) and logits (B, H, W, K+T), as the head of this
    file says; ValueError for others. Jaccard 1912.

    Args:
        class_index: The class that counts; without it every foreground class, each with its own.
        joined: Whether all foreground classes count as one.
        name: For logs.
        dtype: Of the result.
    """

    def __init__(
        self,
        class_index: int | None = None,
        *,
        joined: bool = False,
        name: str = "iou",
        dtype: str = "float32",
    ) -> None:
        super().__init__(class_index, joined=joined, name=name, dtype=dtype)

    def result(self) -> tf.Tensor:
        """Return the quotient of all pixels so far, in [0, 1]."""
        return _quotient(self.both, self.predicted + self.true - self.both, self.dtype)


@keras.saving.register_keras_serializable(package="unet_keras")
class LossPart(keras.metrics.Mean):
    """One part of a `WeightedSum`, for the logs: its mean over the images, without its factor.

    Args:
        loss: A loss of `unet_keras.model.losses`.
        name: For logs; the loss's by default.
        dtype: Of the result.
    """

    def __init__(self, loss: PixelLoss, *, name: str | None = None, dtype: str = "float32") -> None:
        super().__init__(name=name or loss.name, dtype=dtype)
        self.loss = loss

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any | None = None) -> None:
        """Add a batch's images; a `sample_weight` (B, H, W) weighs pixels, (B,) whole images."""
        if sample_weight is not None and len(sample_weight.shape) >= 3:
            y_true, sample_weight = with_weight(y_true, sample_weight), None
        y_true, y_pred = ops.convert_to_tensor(y_true), ops.convert_to_tensor(y_pred)
        super().update_state(self.loss.call(y_true, y_pred), sample_weight)

    def get_config(self) -> dict[str, Any]:
        """Return what the constructor takes."""
        loss = keras.saving.serialize_keras_object(self.loss)
        return {**super().get_config(), "loss": loss}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "LossPart":
        """Build from `get_config`, the loss first."""
        loss = keras.saving.deserialize_keras_object(config["loss"])
        return cls(**{**config, "loss": loss})


def _number(chosen: tf.Tensor) -> tf.Tensor:
    return ops.sum(ops.cast(chosen, "int64"))


def _quotient(numerator: tf.Tensor, denominator: tf.Tensor, dtype: str) -> tf.Tensor:
    """Return numerator / denominator, 1 for 0 / 0."""
    empty = denominator == 0
    numerator, denominator = ops.cast(numerator, "float64"), ops.cast(denominator, "float64")
    return ops.cast(ops.where(empty, 1.0, numerator / ops.where(empty, 1.0, denominator)), dtype)
