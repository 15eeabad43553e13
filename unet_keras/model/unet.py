"""The U-Net: one functional network for both published recipes.

    images  float32 (B, H, W, C)             raw grey values (other dtypes are cast)
    logits  float32 (B, H', W', classes+T)   before sigmoid or softmax; then T regression maps

`padding="same"`, `normalization="batch"`: the network of the 2023 LIVECell report, PyTorch's
customary DoubleConv; H' = H, W' = W for images of any size.
`padding="valid"`, `normalization="none"`: Ronneberger et al. 2015, fig. 1; 572 x 572 pixels in,
388 x 388 out, 31,030,658 parameters with two classes.
"""

import zlib
from collections.abc import Sequence
from math import gcd
from typing import Any, Literal, get_args

import keras
import numpy as np
from keras import layers

from unet_keras.model.geometry import (
    MAPS,
    UNetGeometry,
    geometry_of,
    map_channels,
    valid_tile_sizes,
)
from unet_keras.model.layers import (
    CheckTile,
    CropToImage,
    FusedBatchNormalization,
    MirrorToMultiple,
)

__all__ = ["UNetGeometry", "build_unet", "geometry_of", "map_channels", "valid_tile_sizes"]

Padding = Literal["same", "valid"]
Normalization = Literal["batch", "group", "none"]

# PyTorch's defaults, as in the 2023 report: a running mean over about 10 steps.
BATCH_MOMENTUM = 0.9
EPSILON = 1e-5
GROUPS = 8


def build_unet(
    *,
    input_channels: int = 1,
    num_classes: int = 1,
    base_filters: int = 64,
    depth: int = 4,
    padding: Padding = "same",
    normalization: Normalization = "batch",
    mean: float | Sequence[float] = 0.0,
    scale: float | Sequence[float] = 1.0,
    dropout: float = 0.0,
    regression_maps: int = 0,
    stride: int = 1,
    seed: int = 0,
    name: str = "unet",
) -> keras.Model:
    """Build a U-Net; its weights depend on the arguments alone, the same on every run.

    Args:
        input_channels: Channels of an image.
        num_classes: Channels of class logits: 1 for a sigmoid, several for a softmax that counts
            the background as class 0.
        base_filters: Channels of the first level; each level below has twice as many.
        depth: How often the contracting path halves the image, at least 1.
        padding: `same` keeps the image's size; `valid` takes the sizes of `valid_tile_sizes`.
        normalization: Between each 3x3 convolution and its ReLU: `batch`, `group` (8 groups, for
            batches of one or two images) or `none`.
        mean: Grey value that becomes 0: a number, or one a channel.
        scale: Grey values that become 1, likewise, above 0; the first layer is
            (x - mean) / scale, in float32 whatever the precision.
        dropout: Share of features dropped, in [0, 1), at the end of the contracting path: after
            its last level and after the bottleneck.
        regression_maps: Further output channels, T, at least 0.
        stride: Of a convolution in front of the first level, undone by an up-convolution behind the
            last: 2 sees twice as far in a quarter of the time, at half the resolution. 1, as
            published, has neither; more than 1 needs `padding="same"`.
        seed: Of weights and dropout.
        name: Of the model.

    Returns:
        A functional model, (B, H, W, input_channels) -> (B, H', W', num_classes +
        regression_maps), float32 logits whatever the precision policy.

    Raises:
        ValueError: An argument out of its range.
    """
    _at_least(
        1, input_channels=input_channels, num_classes=num_classes, base_filters=base_filters,
        depth=depth, stride=stride,
    )  # fmt: skip
    _at_least(0, regression_maps=regression_maps)
    _one_of("padding", padding, get_args(Padding))
    _one_of("normalization", normalization, get_args(Normalization))
    if stride > 1 and padding == "valid":
        raise ValueError(f"stride={stride} needs padding='same'; give stride=1 for 'valid'.")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout={dropout} must be in [0, 1).")
    block = _Block(padding, normalization, seed)
    image = keras.Input((None, None, input_channels), dtype="float32", name="image")
    normalized = _normalize(image, mean, scale, input_channels)
    if padding == "same":
        x = MirrorToMultiple(stride * 2**depth, name="mirror")(normalized)
    else:
        x = CheckTile(depth, name="check_tile")(normalized)
    if stride > 1:
        x = block.shrink(x, base_filters, stride)

    skips = []
    for level in range(1, depth + 1):
        x = block.double_convolution(x, base_filters * 2 ** (level - 1), f"down_{level}")
        if level == depth:
            x = block.dropout(x, dropout, f"down_{level}_dropout")
        skips.append(x)
        x = layers.MaxPooling2D(2, name=f"down_{level}_pool")(x)

    x = block.double_convolution(x, base_filters * 2**depth, "bottleneck")
    x = block.dropout(x, dropout, "bottleneck_dropout")

    for level in range(depth, 0, -1):
        x = block.up(x, skips.pop(), base_filters * 2 ** (level - 1), level, depth)

    logits = block.output(x, num_classes, stride, "logits")
    if regression_maps:
        maps = block.output(x, regression_maps, stride, MAPS)
        logits = layers.Concatenate(dtype="float32", name="logits_and_maps")([logits, maps])
    if padding == "same":
        logits = CropToImage(dtype="float32", name="crop")((logits, normalized))
    return keras.Model(image, logits, name=name)


class _Block:
    """The building blocks, with what all of them share: padding, normalization and seed."""

    def __init__(self, padding: Padding, normalization: Normalization, seed: int) -> None:
        self.padding = padding
        self.normalization = normalization
        self.seed = seed

    def double_convolution(self, x: Any, filters: int, name: str) -> Any:
        """Twice: 3x3 convolution, normalization, ReLU."""
        for step in (1, 2):
            x = layers.Conv2D(
                filters,
                3,
                padding=self.padding,
                # The normalization's offset would take its place.
                use_bias=self.normalization == "none",
                kernel_initializer=self.he(f"{name}_conv_{step}"),
                name=f"{name}_conv_{step}",
            )(x)
            x = self._normalize(x, filters, f"{name}_norm_{step}")
            x = layers.ReLU(name=f"{name}_relu_{step}")(x)
        return x

    def shrink(self, x: Any, filters: int, stride: int) -> Any:
        """Strided convolution whose kernels overlap, normalization, ReLU."""
        x = layers.Conv2D(
            filters,
            2 * stride,
            strides=stride,
            padding="same",
            use_bias=self.normalization == "none",
            kernel_initializer=self.he("stem_conv"),
            name="stem_conv",
        )(x)
        x = self._normalize(x, filters, "stem_norm")
        return layers.ReLU(name="stem_relu")(x)

    def output(self, x: Any, channels: int, stride: int, name: str) -> Any:
        """1x1 convolution, or the up-convolution that undoes a stride; float32."""
        shared = {"kernel_initializer": self.he(name), "dtype": "float32", "name": name}
        if stride == 1:
            return layers.Conv2D(channels, 1, **shared)(x)
        up = layers.Conv2DTranspose(channels, 2 * stride, strides=stride, padding="same", **shared)
        return up(x)

    def up(self, x: Any, skip: Any, filters: int, level: int, depth: int) -> Any:
        """2x2 up-convolution that halves the channels, joined to the skip, double convolution."""
        name = f"up_{level}"
        x = layers.Conv2DTranspose(
            filters,
            2,
            strides=2,
            kernel_initializer=self.he(f"{name}_transpose"),
            name=f"{name}_transpose",
        )(x)
        if self.padding == "valid":
            skip = layers.Cropping2D(_skip_margin(depth - level), name=f"{name}_crop")(skip)
        x = layers.Concatenate(name=f"{name}_join")([skip, x])
        return self.double_convolution(x, filters, name)

    def dropout(self, x: Any, rate: float, name: str) -> Any:
        """Drop features in training, if any."""
        if rate == 0:
            return x
        return layers.Dropout(rate, seed=self._seed(name), name=name)(x)

    def he(self, name: str) -> keras.initializers.Initializer:
        """Gaussian of variance 2 / fan-in (He et al. 2015, eq. 10), seeded by the layer's name.

        Keras takes 4 x filters for the fan-in of a 2x2 up-convolution, twice the truth: that is
        the variance 1 / fan-in for a layer without a ReLU behind it.
        """
        return keras.initializers.VarianceScaling(
            2.0, "fan_in", "untruncated_normal", seed=self._seed(name)
        )

    def _seed(self, name: str) -> int:
        return zlib.crc32(f"{self.seed} {name}".encode())

    def _normalize(self, x: Any, filters: int, name: str) -> Any:
        if self.normalization == "batch":
            return FusedBatchNormalization(momentum=BATCH_MOMENTUM, epsilon=EPSILON, name=name)(x)
        if self.normalization == "group":
            return layers.GroupNormalization(gcd(GROUPS, filters), epsilon=EPSILON, name=name)(x)
        return x


def _skip_margin(levels_below: int) -> int:
    """Return how many pixels a valid network crops from each side of a skip: 4, 16, 40, 88, ..."""
    margin = 4
    for _ in range(levels_below):
        margin = 2 * (margin + 2) + 4
    return margin


def _normalize(
    image: Any, mean: float | Sequence[float], scale: float | Sequence[float], channels: int
) -> Any:
    means, scales = _per_channel("mean", mean, channels), _per_channel("scale", scale, channels)
    if not min(scales) > 0:
        raise ValueError(f"scale={scale} must be above 0: grey values are divided by it.")
    return layers.Normalization(
        mean=means, variance=[value**2 for value in scales], dtype="float32", name="normalize"
    )(image)


def _per_channel(name: str, value: float | Sequence[float], channels: int) -> list[float]:
    values = [float(number) for number in np.ravel(value)]
    if len(values) not in (1, channels):
        raise ValueError(
            f"{name}={value} has {len(values)} numbers, but input_channels={channels}: "
            "give one number, or one a channel."
        )
    return values * channels if len(values) == 1 else values


def _at_least(least: int, **numbers: int) -> None:
    for name, number in numbers.items():
        if number < least:
            raise ValueError(f"{name}={number} must be at least {least}.")


def _one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name}={value!r} must be one of {', '.join(choices)}.")
