"""Gaussian smoothing of noise into displacement fields, with mirrored borders, in two ways.

    maps  (C, H, W) of any numeric dtype and static shape

`filter_maps` is the plain separable filter. It is exact, and compiled it is the faster one for
narrow Gaussians: its cost grows with sigma.

`spline_rows` goes by way of few numbers: the Gaussian's matrix is, as near as least squares come,
the product of a basis of quintic B-splines, three knots to two sigma, and a matrix of few rows.
That one makes spline coefficients of the noise, six of which make a pixel. What is lost is stated
by `smoothing_error`: 2e-4 of the field's own standard deviation. Its cost shrinks with sigma.
"""

import functools
import math

import numpy as np
import tensorflow as tf

from unet_keras.pipeline.fields import mirrored_index, spline_basis
from unet_keras.pipeline.geometry import filter_axis

# Kernels end here, in sigma, as OpenCV's and SciPy's do.
KERNEL_SIGMAS = 4.0
DEGREE = 5
KNOTS_PER_SIGMA = 1.5


def filter_maps(maps: tf.Tensor, sigma_pixels: float) -> tf.Tensor:
    """Smooth by a Gaussian, as `cv2.GaussianBlur` does.

    Args:
        maps: (C, H, W), any numeric dtype.
        sigma_pixels: Standard deviation, above 0.

    Returns:
        float32 (C, H, W).
    """
    kernel = gaussian_kernel(sigma_pixels)
    return filter_axis(filter_axis(tf.cast(maps, tf.float32), kernel, axis=1), kernel, axis=2)


def spline_rows(maps: tf.Tensor, sigma_pixels: float) -> tf.Tensor:
    """Smooth by a Gaussian, into what `fields.add_spline_rows` makes pixels of.

    Args:
        maps: (C, H, W), any numeric dtype and static shape.
        sigma_pixels: Standard deviation, above 0.

    Returns:
        float32 (K, W, C), rows of spline coefficients of `DEGREE`.
    """
    height, width = maps.shape[1], maps.shape[2]
    down = tf.constant(knot_matrix(height, sigma_pixels)[np.newaxis], tf.float32)
    to_knots = tf.constant(knot_matrix(width, sigma_pixels).T[np.newaxis], tf.float32)
    from_knots = tf.constant(_basis(width, sigma_pixels).T[np.newaxis], tf.float32)
    rows = tf.matmul(tf.matmul(down, tf.cast(maps, tf.float32)), to_knots)
    return tf.transpose(tf.matmul(rows, from_knots), [1, 2, 0])


def smoothing_error(size: int, sigma_pixels: float) -> float:
    """Return the error of noise smoothed along `size` pixels over its deviation (root mean square).

    In two dimensions the errors of both add up as squares.
    """
    exact = gaussian_matrix(size, sigma_pixels)
    made = _basis(size, sigma_pixels) @ knot_matrix(size, sigma_pixels)
    return float(np.linalg.norm(made - exact) / np.linalg.norm(exact))


@functools.lru_cache(maxsize=16)
def knot_matrix(size: int, sigma_pixels: float) -> np.ndarray:
    """Return what makes spline coefficients of `size` pixels of noise, float64 (K, size)."""
    basis = _basis(size, sigma_pixels)
    return np.linalg.lstsq(basis, gaussian_matrix(size, sigma_pixels), rcond=None)[0]


@functools.lru_cache(maxsize=16)
def gaussian_matrix(size: int, sigma_pixels: float) -> np.ndarray:
    """Return the matrix that smooths `size` pixels with mirrored borders, float64 (size, size)."""
    kernel = gaussian_kernel(sigma_pixels)
    pixels = np.arange(size)
    matrix = np.zeros((size, size))
    for shift, weight in enumerate(kernel, start=-(len(kernel) // 2)):
        np.add.at(matrix, (pixels, mirrored_index(pixels + shift, size)), weight)
    return matrix


def gaussian_kernel(sigma_pixels: float) -> np.ndarray:
    """Return the Gaussian's weights at -R..R pixels, which add up to 1, float64 (2R + 1,)."""
    radius = max(round(KERNEL_SIGMAS * sigma_pixels), 1)
    weights = np.exp(-(np.arange(-radius, radius + 1) ** 2) / (2 * sigma_pixels**2))
    return weights / weights.sum()


def _basis(size: int, sigma_pixels: float) -> np.ndarray:
    """Return what makes `size` pixels of spline coefficients; a knot a pixel makes any values."""
    intervals = min(math.ceil(KNOTS_PER_SIGMA * (size - 1) / sigma_pixels), size - 1)
    return spline_basis(max(intervals, 1) + 1, size, DEGREE)
