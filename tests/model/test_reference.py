"""Both networks against a forward pass written anew with NumPy and SciPy, layer by layer."""

from collections.abc import Callable

import keras
import numpy as np
import pytest
from scipy import signal

from unet_keras.model.unet import build_unet

Array = np.ndarray


def convolve(x: Array, layer: keras.layers.Layer, mode: str) -> Array:
    """Correlate maps (H, W, C) with a layer's kernel (h, w, C, K), and add its bias."""
    kernel = layer.kernel.numpy().astype(float)
    sums = [
        sum(signal.correlate2d(x[..., c], kernel[..., c, k], mode) for c in range(x.shape[-1]))
        for k in range(kernel.shape[-1])
    ]
    return np.stack(sums, axis=-1) + (layer.bias.numpy() if layer.use_bias else 0)


def up_convolve(x: Array, layer: keras.layers.Layer) -> Array:
    """Every element becomes 2 x 2 of them; the kernel is (2, 2, K, C)."""
    blocks = np.einsum("hwc,ijkc->hiwjk", x, layer.kernel.numpy().astype(float))
    height, _, width, _, channels = blocks.shape
    return blocks.reshape(2 * height, 2 * width, channels) + layer.bias.numpy()


def pool(x: Array) -> Array:
    height, width, channels = x.shape
    return x.reshape(height // 2, 2, width // 2, 2, channels).max(axis=(1, 3))


def keep(x: Array, layer: keras.layers.Layer | None) -> Array:
    return x


def batch_norm(x: Array, layer: keras.layers.Layer) -> Array:
    mean, variance = layer.moving_mean.numpy(), layer.moving_variance.numpy()
    return layer.gamma.numpy() * (x - mean) / np.sqrt(variance + 1e-5) + layer.beta.numpy()


def group_norm(x: Array, layer: keras.layers.Layer) -> Array:
    """Eight groups of neighboring channels, each over the whole image (Wu and He 2018)."""
    height, width, channels = x.shape
    groups = x.reshape(height * width, 8, channels // 8)
    mean, variance = (f(groups, axis=(0, 2), keepdims=True) for f in (np.mean, np.var))
    normal = ((groups - mean) / np.sqrt(variance + 1e-5)).reshape(x.shape)
    return layer.gamma.numpy() * normal + layer.beta.numpy()


def forward(model: keras.Model, x: Array, *, mode: str, depth: int, norm: Callable) -> Array:
    """Logits of one image (H, W, C) as the two publications draw the network."""
    known = {layer.name: layer for layer in model.layers}

    def double(x: Array, name: str) -> Array:
        for step in (1, 2):
            x = convolve(x, known[f"{name}_conv_{step}"], mode)
            x = np.maximum(norm(x, known.get(f"{name}_norm_{step}")), 0)
        return x

    skips = []
    for level in range(1, depth + 1):
        x = double(x, f"down_{level}")
        skips.append(x)
        x = pool(x)
    x = double(x, "bottleneck")
    for level in range(depth, 0, -1):
        x = up_convolve(x, known[f"up_{level}_transpose"])
        skip = skips.pop()
        top, left = (skip.shape[0] - x.shape[0]) // 2, (skip.shape[1] - x.shape[1]) // 2
        skip = skip[top : top + x.shape[0], left : left + x.shape[1]]
        x = double(np.concatenate([skip, x], axis=-1), f"up_{level}")
    return convolve(x, known["logits"], mode)


@pytest.mark.parametrize(
    ("padding", "normalization", "norm", "size"),
    [
        ("valid", "none", keep, (44, 48)),
        ("same", "batch", batch_norm, (16, 24)),
        ("same", "group", group_norm, (16, 24)),
    ],
)
def test_logits_are_those_of_the_publications(
    padding: str, normalization: str, norm: Callable, size: tuple[int, int]
) -> None:
    width = 8 if normalization == "group" else 3
    model = build_unet(
        base_filters=width, depth=2, num_classes=2, input_channels=2, padding=padding,
        normalization=normalization, mean=[100.0, 90.0], scale=[20.0, 30.0],
    )  # fmt: skip
    random = np.random.default_rng(0)
    for variable in model.weights:  # else normalizations and biases would do nothing
        if not variable.path.startswith("normalize") and "kernel" not in variable.path:
            variable.assign(random.uniform(0.01, 1, variable.shape))
    image = random.uniform(0, 255, (*size, 2)).astype("float32")
    normal = (image - [100.0, 90.0]) / [20.0, 30.0]
    expected = forward(model, normal, mode=padding, depth=2, norm=norm)
    found = model(image[np.newaxis])[0].numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
