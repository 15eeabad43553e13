"""The packed y and the logits that belong to it, side by side.

    y       (B, H, W, 2+T)  class index, T regression maps, weight w >= 0
            or (B, H, W), (B, H, W, 1): the class index alone, w = 1
    logits  (B, H, W, K+T)  K classes before sigmoid (K = 1) or softmax (K > 1), then T maps

Where w = 0 nothing counts, whatever y and the logits say there.
"""

from typing import NamedTuple

import tensorflow as tf
from keras import ops


class Target(NamedTuple):
    """What y and the logits say of each pixel.

    Attributes:
        index: int32 (B, H, W), class index; 0 where w = 0.
        maps: float32 (B, H, W, T); 0 where w = 0.
        weight: float32 (B, H, W).
        class_logits: float32 (B, H, W, K); 0 where w = 0.
        map_values: float32 (B, H, W, T), the logits' last T channels; 0 where w = 0.
    """

    index: tf.Tensor
    maps: tf.Tensor
    weight: tf.Tensor
    class_logits: tf.Tensor
    map_values: tf.Tensor

    @property
    def classes(self) -> int:
        """K, the number of class logits a pixel; 1 means a sigmoid."""
        return int(self.class_logits.shape[-1])


def unpack_target(y: tf.Tensor, logits: tf.Tensor) -> Target:
    """Separate the packed y, and the logits that belong to it.

    Args:
        y: (B, H, W, 2+T), or (B, H, W) or (B, H, W, 1) for class indices of weight 1.
        logits: (B, H, W, K+T).

    Returns:
        The parts, in float32 whatever came. With K = 1, class indices above 0 have become 1.

    Raises:
        ValueError: Ranks, sizes or numbers of channels that do not belong together.
    """
    y, logits = _with_channels(y), ops.cast(logits, "float32")
    _check_shapes(y, logits)
    if y.shape[-1] == 1:
        y = ops.concatenate([y, ops.ones_like(y)], axis=-1)
    classes = logits.shape[-1] - (y.shape[-1] - 2)
    weight = y[..., -1]
    counts = weight[..., None] != 0
    # Masked before any loss, not after it: infinity times zero is no number.
    y, logits = ops.where(counts, y, 0.0), ops.where(counts, logits, 0.0)
    index = ops.cast(y[..., 0], "int32")
    return Target(
        index=ops.minimum(index, 1) if classes == 1 else index,
        maps=y[..., 1:-1],
        weight=weight,
        class_logits=logits[..., :classes],
        map_values=logits[..., classes:],
    )


def with_weight(y: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    """Multiply a map (B, H, W) or (B, H, W, 1), or a number an image, (B,), onto the weight of y.

    Returns the packed y.
    """
    y, weight = _with_channels(y), ops.cast(weight, "float32")
    if len(weight.shape) < 3:
        weight = ops.reshape(weight, (-1, 1, 1))
    weight = weight[..., None] if len(weight.shape) == 3 else weight
    if y.shape[-1] == 1:
        return ops.concatenate([y, weight * ops.ones_like(y)], axis=-1)
    return ops.concatenate([y[..., :-1], y[..., -1:] * weight], axis=-1)


def _with_channels(y: tf.Tensor) -> tf.Tensor:
    y = ops.cast(y, "float32")
    return y[..., None] if len(y.shape) == 3 else y


def _check_shapes(y: tf.Tensor, logits: tf.Tensor) -> None:
    came = f"y has shape {tuple(y.shape)}, the logits have {tuple(logits.shape)}"
    if len(y.shape) != 4 or len(logits.shape) != 4 or None in (y.shape[-1], logits.shape[-1]):
        raise ValueError(f"{came}: expected (B, H, W, 2+T) or (B, H, W), and (B, H, W, K+T).")
    for given, computed in zip(y.shape[1:3], logits.shape[1:3], strict=True):
        if None not in (given, computed) and given != computed:
            raise ValueError(
                f"{came}: heights and widths must agree. A network with valid convolutions gives "
                "the center of its tile: cut y to that."
            )
    maps = max(y.shape[-1] - 2, 0)
    if logits.shape[-1] <= maps:
        raise ValueError(
            f"{came}: with {maps} regression maps in y, the logits need that many channels and "
            f"those of the classes. Build the network with regression_maps={maps}."
        )
