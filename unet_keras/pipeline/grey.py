"""Random changes of grey values: blur, contrast, brightness, gamma, noise, in this order.

Images keep their raw grey values, whatever their range. Strengths are therefore shares of
`grey_scale`, the standard deviation of the training images, and contrast turns about `grey_mean`.
Every function here is deterministic; strengths come one an image, as float32 (B,).
"""

import tensorflow as tf

from unet_keras.pipeline.geometry import convolve, mirror_matrix


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
        weights = mirror_matrix(lambda d: tf.exp(-(d**2) / (2 * variance)), size)
        return weights / tf.reduce_sum(weights, axis=-1, keepdims=True)

    shape = tf.shape(images)
    return convolve(images, matrix(shape[1]), matrix(shape[2]))


def _per_image(values: tf.Tensor) -> tf.Tensor:
    return values[:, tf.newaxis, tf.newaxis, tf.newaxis]
