"""Random changes of grey values: blur, contrast, brightness, gamma, noise, in this order.

Images keep their raw grey values, whatever their range. Strengths are therefore shares of
`grey_scale`, the standard deviation of the training images, and contrast turns about `grey_mean`.
Every function here is deterministic; strengths come one an image, as float32 (B,).
"""

from collections.abc import Callable

import tensorflow as tf


def change_contrast(images: tf.Tensor, factor: tf.Tensor, grey_mean: float) -> tf.Tensor:
    """Multiply distances from the mean grey value, float32 (B, H, W, C)."""
    return (images - grey_mean) * _per_image(factor) + grey_mean


def change_brightness(images: tf.Tensor, share: tf.Tensor, grey_scale: float) -> tf.Tensor:
    """Add a share of the grey scale, float32 (B, H, W, C)."""
    return images + _per_image(share) * grey_scale


def change_gamma(images: tf.Tensor, gamma: tf.Tensor) -> tf.Tensor:
    """Raise grey values to a power between each image's darkest and brightest pixel.

    Args:
        images: float32 (B, H, W, C).
        gamma: float32 (B,), above 0; below 1 brightens what is dark.

    Returns:
        float32 (B, H, W, C), with the same extremes.
    """
    low = tf.reduce_min(images, axis=[1, 2, 3], keepdims=True)
    span = tf.reduce_max(images, axis=[1, 2, 3], keepdims=True) - low
    share = tf.math.divide_no_nan(images - low, span)
    return low + span * share ** _per_image(gamma)


def add_noise(
    images: tf.Tensor, noise: tf.Tensor, share: tf.Tensor, grey_scale: float
) -> tf.Tensor:
    """Add noise of standard deviation 1 times a share of the grey scale, float32 (B, H, W, C)."""
    return images + noise * (_per_image(share) * grey_scale)


def blur(images: tf.Tensor, sigma_pixels: tf.Tensor) -> tf.Tensor:
    """Smooth each image by its own Gaussian, with mirrored borders.

    Args:
        images: float32 (B, H, W, C).
        sigma_pixels: float32 (B,), at least 0; 0 changes nothing.

    Returns:
        float32 (B, H, W, C).
    """
    # At 0 the exponent is so low that of each row only the 1 of the pixel itself remains.
    variance = tf.maximum(sigma_pixels**2, 1e-6)[:, tf.newaxis, tf.newaxis]

    def matrix(size: tf.Tensor) -> tf.Tensor:
        weights = _mirror_matrix(lambda d: tf.exp(-(d**2) / (2 * variance)), size)
        return weights / tf.reduce_sum(weights, axis=-1, keepdims=True)

    shape = tf.shape(images)
    return _convolve(images, matrix(shape[1]), matrix(shape[2]))


def _per_image(values: tf.Tensor) -> tf.Tensor:
    return values[:, tf.newaxis, tf.newaxis, tf.newaxis]


def _mirror_matrix(kernel: Callable[[tf.Tensor], tf.Tensor], size: int | tf.Tensor) -> tf.Tensor:
    """Return the matrix that convolves `size` mirrored pixels with an even kernel.

    Args:
        kernel: From distances in pixels, float32 (n, n), to weights, float32 (..., n, n).
        size: Number of pixels n.

    Returns:
        float32 (..., n, n). Each pixel is seen four times: as it is, mirrored, and both again a
        period of the mirrored row, 2 (n - 1) pixels, further on.
    """
    pixels = tf.cast(tf.range(size), tf.float32)
    period = 2 * (tf.cast(size, tf.float32) - 1)
    direct, mirrored = pixels[:, tf.newaxis] - pixels, pixels[:, tf.newaxis] + pixels
    sights = (direct, mirrored, tf.abs(direct) - period, mirrored - period)
    weights = tf.add_n([kernel(tf.abs(distance)) for distance in sights])
    # A pixel on an edge is its own mirror image and was counted twice; a single one, four times.
    edges = tf.cast(pixels == 0, tf.float32) + tf.cast(2 * pixels == period, tf.float32)
    return weights / 2**edges


def _convolve(images: tf.Tensor, down: tf.Tensor, across: tf.Tensor) -> tf.Tensor:
    """Apply matrices to the columns and to the rows of images.

    Args:
        images: float32 (B, H, W, C).
        down: float32 (H, H), or (B, H, H) for one an image.
        across: float32 (W, W), or (B, W, W).

    Returns:
        float32 (B, H, W, C).
    """
    # Products image by image: one large product would round differently for every batch size.
    batch, height, width, _ = tf.unstack(tf.shape(images))
    down = tf.broadcast_to(down, [batch, height, height])
    across = tf.broadcast_to(across, [batch, width, width])
    images = tf.einsum("bij,bjwc->biwc", down, images)
    return tf.einsum("bij,bhjc->bhic", across, images)
