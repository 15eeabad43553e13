"""Losses on the packed y: pure functions below, registered Keras classes above.

    y       float32 (B, H, W, 2+T)  class index, T regression maps, weight w >= 0
            or (B, H, W), (B, H, W, 1): the class index alone, w = 1
    logits  float32 (B, H, W, K+T)  K classes before sigmoid (K = 1) or softmax (K > 1), T maps
    loss    float32 (B,)            one value an image; Keras averages over the images

Everything is computed in float32. With K = 1, every class index above 0 is foreground. Where
w = 0 nothing counts, whatever y and the logits say there, and the gradient is exactly zero.
A loss that averages over a batch would depend on how the batch is split over devices; one value
an image does not.
"""

from collections.abc import Sequence
from typing import Any, Literal

import keras
import tensorflow as tf
from keras import ops

from unet_keras.model.target import Target, unpack_target, with_weight

Normalize = Literal["weights", "pixels", "none"]
NORMALIZE = ("weights", "pixels", "none")
PIXELS = (1, 2)


def cross_entropy(target: Target) -> tf.Tensor:
    """Return -log p_l(x) of every pixel, float32 (B, H, W).

    p is the sigmoid (one class) or the softmax (several) of the logits at the pixel's class l.
    """
    if target.classes == 1:
        foreground = ops.cast(target.index, "float32")
        return ops.binary_crossentropy(foreground, target.class_logits[..., 0], from_logits=True)
    return ops.sparse_categorical_crossentropy(
        target.index, target.class_logits, from_logits=True, axis=-1
    )


def weighted_mean(values: tf.Tensor, weight: tf.Tensor, normalize: Normalize) -> tf.Tensor:
    """Return Σ_x w(x) v(x) / D for each image, (B,).

    D = Σ_x w(x) for `weights`, the number of pixels for `pixels`, 1 for `none`. Without any
    weight the result is 0. (B, H, W) twice.
    """
    total = ops.sum(weight * values, axis=PIXELS)
    if normalize == "weights":
        return ops.divide_no_nan(total, ops.sum(weight, axis=PIXELS))
    if normalize == "pixels":
        return total / ops.cast(ops.shape(values)[1] * ops.shape(values)[2], "float32")
    return total


def weighted_cross_entropy(
    y: tf.Tensor, logits: tf.Tensor, normalize: Normalize = "weights"
) -> tf.Tensor:
    """Pixel-weighted cross-entropy, E = -Σ_x w(x) log p_l(x)(x) / D, (B,).

    Ronneberger et al. 2015, eq. 1, which has D = 1; the sign is the one of a loss. With one class
    this is PyTorch's `BCEWithLogitsLoss(weight=w)`, equation 1 of the 2023 report.
    """
    target = unpack_target(y, logits)
    return weighted_mean(cross_entropy(target), target.weight, normalize)


def soft_dice(y: tf.Tensor, logits: tf.Tensor, smooth: float = 1e-5) -> tf.Tensor:
    """One minus the Dice coefficient with squared denominator, (B,).

    1 - (2 Σ_x p(x) g(x) + s) / (Σ_x p(x)² + Σ_x g(x)² + s), over the pixels with w > 0, whatever
    the size of w; p probability, g truth (0 or 1), s = `smooth`. Equation 2 of the 2023 report,
    whose value is the coefficient itself; Milletari et al. 2016 (V-Net), section 3. The smooth
    term makes an empty image with an empty prediction cost 0, as in MONAI's
    `DiceLoss(squared_pred=True)`. With several classes: the mean over the classes 1..K-1, and
    NaN for an image with a class index that is none of them.
    """
    target = unpack_target(y, logits)
    if target.classes == 1:
        p = ops.sigmoid(target.class_logits)
        g = ops.cast(target.index, "float32")[..., None]
    else:
        p = ops.softmax(target.class_logits, axis=-1)[..., 1:]
        g = ops.one_hot(target.index, target.classes, dtype="float32")[..., 1:]
        # A class that the network does not know would be learned as background: no number instead.
        unknown = (target.index < 0) | (target.index >= target.classes)
        g = ops.where(unknown[..., None], float("nan"), g)
    counts = ops.cast(target.weight != 0, "float32")[..., None]
    p, g = p * counts, g * counts
    overlap = ops.sum(p * g, axis=PIXELS)
    size = ops.sum(p * p, axis=PIXELS) + ops.sum(g, axis=PIXELS)
    return ops.mean(1.0 - (2.0 * overlap + smooth) / (size + smooth), axis=-1)


def map_regression(
    y: tf.Tensor, logits: tf.Tensor, normalize: Normalize = "weights", delta: float = 1.0
) -> tf.Tensor:
    """Pixel-weighted smooth L1 distance of the T maps, mean over them, (B,).

    Σ_x w(x) h(r(x)) / D with h(r) = r² / (2 delta) where |r| < delta, else |r| - delta / 2
    (Girshick 2015, eq. 3). A large delta makes it the squared distance over 2 delta.

    Raises:
        ValueError: y has no maps, or does not belong to the logits.
    """
    target = unpack_target(y, logits)
    if target.maps.shape[-1] == 0:
        raise ValueError(
            f"y has shape {tuple(y.shape)} and thus no regression maps between class index and "
            "weight: give the records maps, or leave MapRegression out."
        )
    distance = ops.abs(target.map_values - target.maps)
    smooth = ops.where(distance < delta, ops.square(distance) / (2 * delta), distance - delta / 2)
    return weighted_mean(ops.mean(smooth, axis=-1), target.weight, normalize)


class PixelLoss(keras.losses.Loss):
    """Base of the losses here: float32 whatever the precision; weight maps only where they belong.

    A `sample_weight` of one number an image multiplies its loss, as everywhere in Keras. A map
    (B, H, W) multiplies w: broadcast against one value an image, it would be nonsense.
    """

    def __init__(self, name: str, reduction: str = "sum_over_batch_size") -> None:
        super().__init__(name=name, reduction=reduction, dtype="float32")

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any | None = None) -> tf.Tensor:
        """Return the reduced loss, float32 ()."""
        if sample_weight is not None:
            sample_weight = ops.convert_to_tensor(sample_weight, "float32")
            if len(sample_weight.shape) >= 3:
                y_true, sample_weight = with_weight(y_true, sample_weight), None
        return super().__call__(y_true, y_pred, sample_weight)


@keras.saving.register_keras_serializable(package="unet_keras")
class WeightedCrossEntropy(PixelLoss):
    """Pixel-weighted cross-entropy of Ronneberger et al. 2015, eq. 1: `weighted_cross_entropy`.

    Takes y (B, H, W, 2+T), (B, H, W) or (B, H, W, 1) and logits (B, H, W, K+T), as the head of this
    file says; ValueError for others. At least 0.

    Args:
        normalize: What an image's sum is divided by: the sum of its `weights`, the number of its
            `pixels`, or nothing (`none`).
        name: For logs.
        reduction: Over the images.
    """

    def __init__(
        self,
        normalize: Normalize = "weights",
        *,
        name: str = "weighted_cross_entropy",
        reduction: str = "sum_over_batch_size",
    ) -> None:
        super().__init__(name, reduction)
        self.normalize = _one_of("normalize", normalize, NORMALIZE)

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Return one value an image, (B,)."""
        return weighted_cross_entropy(y_true, y_pred, self.normalize)

    def get_config(self) -> dict[str, Any]:
        """Return what the constructor takes."""
        return {**super().get_config(), "normalize": self.normalize}


@keras.saving.register_keras_serializable(package="unet_keras")
class SoftDice(PixelLoss):
    """One minus the Dice coefficient with squared denominator: `soft_dice`.

    Takes y (B, H, W, 2+T), (B, H, W) or (B, H, W, 1) and logits (B, H, W, K+T), as the head of this
    file says; ValueError for others. Between 0 and 1; of w only whether it is 0 counts.

    Args:
        smooth: Added above and below, above 0.
        name: For logs.
        reduction: Over the images.
    """

    def __init__(
        self,
        smooth: float = 1e-5,
        *,
        name: str = "soft_dice",
        reduction: str = "sum_over_batch_size",
    ) -> None:
        super().__init__(name, reduction)
        self.smooth = _positive("smooth", smooth)

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Return one value an image, (B,)."""
        return soft_dice(y_true, y_pred, self.smooth)

    def get_config(self) -> dict[str, Any]:
        """Return what the constructor takes."""
        return {**super().get_config(), "smooth": self.smooth}


@keras.saving.register_keras_serializable(package="unet_keras")
class MapRegression(PixelLoss):
    """Pixel-weighted smooth L1 distance of the regression maps: `map_regression`.

    Args:
        normalize: As for `WeightedCrossEntropy`.
        delta: Distance from which the loss grows linearly, above 0.
        name: For logs.
        reduction: Over the images.
    """

    def __init__(
        self,
        normalize: Normalize = "weights",
        delta: float = 1.0,
        *,
        name: str = "map_regression",
        reduction: str = "sum_over_batch_size",
    ) -> None:
        super().__init__(name, reduction)
        self.normalize = _one_of("normalize", normalize, NORMALIZE)
        self.delta = _positive("delta", delta)

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Return one value an image, (B,)."""
        return map_regression(y_true, y_pred, self.normalize, self.delta)

    def get_config(self) -> dict[str, Any]:
        """Return what the constructor takes."""
        return {**super().get_config(), "normalize": self.normalize, "delta": self.delta}


@keras.saving.register_keras_serializable(package="unet_keras")
class WeightedSum(PixelLoss):
    """Several losses as one: Σ factor · loss, so that `compile(loss=...)` takes a single object.

    Takes y (B, H, W, 2+T) and logits (B, H, W, K+T) as its losses do.

    Args:
        losses: Losses of this file, at least one.
        factors: One a loss, at least 0; all 1 if left out.
        name: For logs.
        reduction: Over the images; those of the parts do not count.
    """

    def __init__(
        self,
        losses: Sequence[PixelLoss],
        factors: Sequence[float] | None = None,
        *,
        name: str = "weighted_sum",
        reduction: str = "sum_over_batch_size",
    ) -> None:
        super().__init__(name, reduction)
        factors = [1.0] * len(losses) if factors is None else [float(f) for f in factors]
        if not losses or len(losses) != len(factors) or min(factors) < 0:
            raise ValueError(
                f"{len(losses)} losses came with factors={factors}: give at least one loss, and "
                "for each one factor that is at least 0."
            )
        self.losses = [_pixel_loss(loss) for loss in losses]
        self.factors = factors

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        """Return one value an image, (B,)."""
        parts = zip(self.factors, self.losses, strict=True)
        return sum(factor * loss.call(y_true, y_pred) for factor, loss in parts)

    def get_config(self) -> dict[str, Any]:
        """Return what the constructor takes."""
        losses = [keras.saving.serialize_keras_object(loss) for loss in self.losses]
        return {**super().get_config(), "losses": losses, "factors": self.factors}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "WeightedSum":
        """Build from `get_config`, the losses first."""
        losses = [keras.saving.deserialize_keras_object(loss) for loss in config["losses"]]
        return cls(**{**config, "losses": losses})


def _pixel_loss(loss: Any) -> PixelLoss:
    if not isinstance(loss, PixelLoss):
        raise ValueError(
            f"{loss!r} is no loss of unet_keras: stock losses do not know the packed y."
        )
    return loss


def _one_of(name: str, value: Any, choices: Sequence[str]) -> Any:
    if value not in choices:
        raise ValueError(f"{name}={value!r} must be one of {', '.join(choices)}.")
    return value


def _positive(name: str, value: float) -> float:
    if not value > 0:
        raise ValueError(f"{name}={value} must be above 0.")
    return float(value)
