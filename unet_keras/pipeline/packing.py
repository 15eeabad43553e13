"""From warped labels and maps to what the network learns: y, and the weight of each pixel.

    labels  integer (B, H, W, N)   label map, and the class map where there are several classes
    maps    float32 (B, H, W, T)   regression maps, then the border map; in steps of 1 / MAP_STEPS
    y       float32 (B, H', W', 2 + T)  class index, regression maps, weight

Classes are drawn anew on labels that were moved already, so that lines stay one pixel sharp.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import tensorflow as tf

from unet_keras.pipeline.kinds import Kind
from unet_keras.pipeline.touching import outline_pixels, separate_touching
from unet_keras.records.schema import MAP_STEPS

Weights = Literal["packed", "sample_weight", "none"]


@dataclass(frozen=True)
class Packing:
    """How targets are made of labels and maps; the fields are arguments of `load_dataset`.

    Attributes:
        separate: Whether pixels that touch another instance become background.
        kind: What the class index tells.
        outline_pixels: How many pixels wide the borders of `cells_and_borders` are.
        border_weight: w0, at least 0; above, the last of the maps is the border map.
        class_weights: w_c of background, class 1, ...; empty for 1 everywhere.
        regression_maps: How many maps y carries between class and weight.
        margin: Pixels that the network loses on each side.
        weights: In which form the weight is handed on.
    """

    separate: bool
    kind: Kind
    outline_pixels: int
    border_weight: float
    class_weights: tuple[float, ...]
    regression_maps: int
    margin: int
    weights: Weights

    def __call__(self, labels: tf.Tensor, maps: tf.Tensor | None) -> tuple[tf.Tensor, ...]:
        """Return what follows the image in a batch: y; class index and weight; or the first."""
        labels = tf.cast(labels, tf.int32)
        cells = classes_from(labels, separate=self.separate)
        classes = cells
        if self.kind != "cells":
            classes = outline_classes(labels, self.kind, self.outline_pixels)
        border = None
        if self.border_weight > 0 and maps is not None:
            # Border maps are 0 in the foreground, but were continued into it.
            border = tf.where(cells == 0, maps[..., -1] / MAP_STEPS, 0.0)
        weight = pixel_weights(classes, border, self.border_weight, self.class_weights)
        weight = self._inner(weight)
        index = self._inner(tf.cast(classes, tf.float32))[..., tf.newaxis]
        if self.weights != "packed":
            return (index,) if self.weights == "none" else (index, weight)
        parts = [index, weight[..., tf.newaxis]]
        if self.regression_maps and maps is not None:
            parts.insert(1, self._inner(maps[..., : self.regression_maps]) / MAP_STEPS)
        return (tf.concat(parts, axis=-1),)

    def _inner(self, array: tf.Tensor) -> tf.Tensor:
        height, width = array.shape[1:3]
        return array[:, self.margin : height - self.margin, self.margin : width - self.margin]


def classes_from(labels: tf.Tensor, *, separate: bool) -> tf.Tensor:
    """Return the class of each pixel of warped labels, drawn anew so that lines stay sharp.

    Args:
        labels: int32 (B, H, W, 2), label map and class map, warped alike; the label map alone
            where all instances are of class 1.
        separate: Whether pixels that touch another instance become background.

    Returns:
        int32 (B, H, W), 0 background.
    """
    numbers = labels[..., 0]
    classes = labels[..., 1] if labels.shape[-1] > 1 else tf.cast(numbers > 0, tf.int32)
    return tf.where(separate_touching(numbers) > 0, classes, 0) if separate else classes


def outline_classes(labels: tf.Tensor, kind: Kind, width: int = 1) -> tf.Tensor:
    """Return the class of each pixel where outlines are a class, drawn anew on warped labels.

    Args:
        labels: int32 (B, H, W, N), label map first.
        kind: `boundary` or `cells_and_borders`.
        width: Of outlines, in pixels.

    Returns:
        int32 (B, H, W), 0 background.
    """
    numbers = labels[..., 0]
    outline = tf.cast(outline_pixels(numbers, width), tf.int32)
    return outline if kind == "boundary" else tf.where(numbers > 0, 1 + outline, 0)


def pixel_weights(
    classes: tf.Tensor,
    border: tf.Tensor | None,
    border_weight: float,
    class_weights: Sequence[float] = (),
) -> tf.Tensor:
    """Return w(x) = w_c(x) + w0 e(x), Ronneberger et al. 2015, eq. 2.

    Args:
        classes: int32 (B, H, W), class index.
        border: float32 (B, H, W), the border map e, 0 in the foreground; None for 0 everywhere.
        border_weight: w0.
        class_weights: w_c of background, class 1, ...; empty for 1 everywhere.

    Returns:
        float32 (B, H, W).
    """
    weight = tf.ones_like(classes, tf.float32)
    if class_weights:
        weight = tf.gather(tf.constant(class_weights, tf.float32), classes)
    if border is not None:
        weight += border_weight * border
    return weight
