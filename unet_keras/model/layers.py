"""The layers Keras does not have, or has in a slower form.

    images  (B, H, W, C)  any floating dtype; H and W may be unknown while the graph is built

All are registered as `unet_keras>NAME`; those about sizes do nothing where a size that is known
fits already.
"""

from typing import Any

import keras
import tensorflow as tf
from keras import ops

from unet_keras.model.geometry import check_tile, smallest_tile

Shape = tuple[int | None, ...]


@keras.saving.register_keras_serializable(package="unet_keras")
class MirrorToMultiple(keras.layers.Layer):
    """Continue images by mirroring, below and to the right, up to the next multiple of a number.

    (B, H, W, C) becomes (B, ⌈H/m⌉·m, ⌈W/m⌉·m, C). The mirror stands on the last pixel and does not
    repeat it (NumPy's `reflect`); an image smaller than the missing strip is mirrored to and fro.
    The origin stays, so that pixels keep their place in the 2^depth grid of the pooling.

    Args:
        multiple: Pixels, at least 1.
    """

    def __init__(self, multiple: int, **options: Any) -> None:
        super().__init__(**options)
        self.multiple = multiple

    def call(self, images: tf.Tensor) -> tf.Tensor:
        """Return the images with both sides a multiple."""
        return self._continue(self._continue(images, axis=1), axis=2)

    def _continue(self, images: tf.Tensor, axis: int) -> tf.Tensor:
        size = ops.shape(images)[axis]
        if isinstance(size, int) and size % self.multiple == 0:
            return images
        # Only the strip that is missing is gathered; it is empty where a size turns out to fit.
        # Remainders of numbers above 0 only: of others, ONNX has its own opinion.
        missing = (self.multiple - size % self.multiple) % self.multiple
        period = ops.maximum(2 * size - 2, 1)
        strip = ops.arange(size, size + missing) % period
        strip = ops.minimum(strip, period - strip)
        return ops.concatenate([images, ops.take(images, strip, axis=axis)], axis=axis)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return (B, ⌈H/m⌉·m, ⌈W/m⌉·m, C), None where the size is unknown."""
        batch, height, width, channels = input_shape
        return batch, self._next(height), self._next(width), channels

    def _next(self, size: int | None) -> int | None:
        return None if size is None else size + -size % self.multiple

    def get_config(self) -> dict[str, Any]:
        """Return what the constructor takes."""
        return {**super().get_config(), "multiple": self.multiple}


@keras.saving.register_keras_serializable(package="unet_keras")
class CropToImage(keras.layers.Layer):
    """Cut maps back to the size of the image they were computed from; undoes `MirrorToMultiple`.

    Takes maps (B, H', W', K) and the image (B, H, W, C) with H' >= H and W' >= W; returns
    (B, H, W, K), the part above and to the left.
    """

    def call(self, inputs: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        """Return the maps at the image's size."""
        maps, image = inputs
        height, width = ops.shape(image)[1:3]
        if maps.shape[1:3] == (height, width):
            return maps
        return maps[:, :height, :width]

    def compute_output_shape(self, input_shape: tuple[Shape, Shape]) -> Shape:
        """Return (B, H, W, K)."""
        maps, image = input_shape
        return maps[0], image[1], image[2], maps[3]


@keras.saving.register_keras_serializable(package="unet_keras")
class CheckTile(keras.layers.Layer):
    """Refuse tiles that a network with valid convolutions cannot halve without a remainder.

    The tile, (B, H, W, C), is passed on as it is. Raises the ValueError of `check_tile` while the
    graph is built; where a size is unknown until it runs, tf.errors.InvalidArgumentError then, but
    under XLA, which leaves assertions out: there, maps that do not fit each other fail to be
    joined.

    Args:
        depth: How often the network halves the tile, at least 1.
    """

    def __init__(self, depth: int, **options: Any) -> None:
        super().__init__(**options)
        self.depth = depth

    def call(self, tiles: tf.Tensor) -> tf.Tensor:
        """Return the tiles unchanged."""
        for size in ops.shape(tiles)[1:3]:
            if isinstance(size, int):
                check_tile(size, self.depth)
            elif tf.is_tensor(size):
                self._check_later(size)
        return tiles

    def _check_later(self, size: tf.Tensor) -> None:
        smallest, step = smallest_tile(self.depth), 2**self.depth
        below = ops.maximum(smallest + (size - smallest) // step * step, smallest)
        rule = f"This network takes tiles of {smallest} + {step}·k pixels a side, but got a side of"
        told = [rule, size, "Nearest:", below, "and", below + step]
        tf.debugging.Assert((size >= smallest) & ((size - smallest) % step == 0), told)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Return the shape of the tiles."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Return what the constructor takes."""
        return {**super().get_config(), "depth": self.depth}


@keras.saving.register_keras_serializable(package="unet_keras")
class FusedBatchNormalization(keras.layers.BatchNormalization):
    """Batch normalization over the last axis by TensorFlow's fused kernel.

    Keras's own layer puts it together from a dozen operations, each of which reads and writes the
    whole map in float32. The fused kernel takes half precision as it is and computes its statistics
    in float32. With 16 filters and batches of 4 on two CPU cores it takes 29% off a training step
    in float32 and 48% in bfloat16. The moving variance is the unbiased one, as in PyTorch.

    Under a strategy with several replicas the statistics are those of all replicas' images, so
    that training does not depend on the number of devices. Keras's layer computes them then, whose
    moving variance is the biased one: smaller by a factor of 1 - 1/n for n pixels of a batch, which
    matters where small images leave few at the bottom of the network.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "synchronized": True})

    def call(
        self, inputs: tf.Tensor, training: bool | None = None, mask: tf.Tensor | None = None
    ) -> tf.Tensor:
        """Normalize (B, H, W, C): by the batch's statistics in training, else the moving ones."""
        training = bool(training and self.trainable)
        if training and tf.distribute.get_strategy().num_replicas_in_sync > 1:
            return super().call(inputs, training=training, mask=mask)
        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=self.gamma,
            offset=self.beta,
            mean=self.moving_mean,
            variance=self.moving_variance,
            epsilon=self.epsilon,
            exponential_avg_factor=1.0 - self.momentum,
            is_training=training,
        )
        if training:
            self.moving_mean.assign(mean)
            self.moving_variance.assign(variance)
        return outputs
