"""Smooth displacement fields from few numbers, by B-splines.

    grid    float32 (..., gh, gw, 2)  displacements in pixels (rows, columns) on a coarse grid
    rows    float32 (..., K, W, 2)    spline coefficients down the columns, values along each row
    field   float32 (..., H, W, 2)    displacement of each pixel, in pixels

The way from rows to the field is a sum of a few gathered rows, which compiles into one loop with
the resampling that consumes it: a field need never be stored. Weights are calculated by NumPy, in
float64, when a graph is built. Everything here is deterministic.
"""

import functools
import math

import numpy as np
import tensorflow as tf

Size = tuple[int, int]


def dense_field(grid_displacements: tf.Tensor, size: Size) -> tf.Tensor:
    """Interpolate displacements of a coarse grid by cubic splines.

    The grid's corners lie on the centers of the field's corner pixels. Interpolation is linear in
    the grid's values and separable, hence small matrix products. Equals
    `scipy.ndimage.map_coordinates` of the grid (order 3, mode mirror) and `elasticdeform`.

    Args:
        grid_displacements: float32 (..., gh, gw, 2), rows and columns in pixels.
        size: Height and width of the field in pixels.

    Returns:
        float32 (..., H, W, 2), in pixels.
    """
    return add_spline_rows(0.0, spline_rows(grid_displacements, size[1]), size[0])


def spline_rows(grid_displacements: tf.Tensor, width: int) -> tf.Tensor:
    """Interpolate a grid across, and turn it down the columns into spline coefficients.

    Args:
        grid_displacements: float32 (..., gh, gw, 2), in pixels.
        width: W, in pixels.

    Returns:
        float32 (..., gh + 2, W, 2), what `add_spline_rows` takes.
    """
    grid = tf.convert_to_tensor(grid_displacements, tf.float32)
    down = tf.constant(coefficient_matrix(grid.shape[-3]), tf.float32)
    across = tf.constant(spline_matrix(grid.shape[-2], width), tf.float32)
    return tf.einsum("kg,...gwc,xw->...kxc", down, grid, across)


def add_spline_rows(
    coordinates: tf.Tensor | float, rows: tf.Tensor, height: int, *, degree: int = 3
) -> tf.Tensor:
    """Add the field that rows of B-spline coefficients stand for to coordinates.

    Args:
        coordinates: float32 (..., H, W, 2), or a number.
        rows: float32 (..., K, W, 2), in pixels, of evenly spaced knots: (degree - 1) / 2 of them
            beyond the first and the last row of pixels, and one on each.
        height: H, in pixels.
        degree: Of the splines: 3 or 5.

    Returns:
        float32 (..., H, W, 2), in pixels.
    """
    rows = tf.convert_to_tensor(rows, tf.float32)
    first, weights = _spline_taps(rows.shape[-3] - (degree - 1), height, degree)
    # One product at a time, in an order that leaves a compiler no choice of which of them to
    # contract with the sum: results are the same bit by bit for every batch size.
    for tap in range(degree + 1):
        weight = tf.constant(weights[:, tap, np.newaxis, np.newaxis], tf.float32)
        coordinates += weight * tf.gather(rows, first + tap, axis=rows.shape.rank - 3)
    return coordinates


def field_gain(grid: Size, size: Size) -> float:
    """Return how far a field can exceed the largest displacement of its grid, as a factor.

    Args:
        grid: Rows and columns of the grid.
        size: Height and width of the field in pixels.

    Returns:
        At least 1; 1.5 for 3x3.
    """
    down, across = spline_matrix(grid[0], size[0]), spline_matrix(grid[1], size[1])
    return float(np.abs(down).sum(axis=1).max() * np.abs(across).sum(axis=1).max())


@functools.lru_cache(maxsize=64)
def spline_matrix(grid: int, size: int) -> np.ndarray:
    """Return the weights with which grid values make the cubic spline's in each pixel.

    Returns:
        float64 (size, grid).
    """
    return spline_basis(grid, size) @ coefficient_matrix(grid)


@functools.lru_cache(maxsize=64)
def spline_basis(knots: int, size: int, degree: int = 3) -> np.ndarray:
    """Return the weights of B-spline coefficients in each pixel, float64 (size, K).

    The knots span the pixels; beyond both ends stand (degree - 1) / 2 more, which K includes.

    Raises:
        ValueError: There are fewer than two knots.
    """
    first, weights = _spline_taps(knots, size, degree)
    basis = np.zeros((size, knots + degree - 1))
    for tap in range(degree + 1):
        basis[np.arange(size), first + tap] = weights[:, tap]
    return basis


@functools.lru_cache(maxsize=64)
def coefficient_matrix(grid: int) -> np.ndarray:
    """Return what makes mirrored B-spline coefficients of values, float64 (grid + 2, grid)."""
    # Sampling a spline at its own knots gives the values back: coefficients = inverse @ values.
    mirrored = mirrored_index(np.arange(-1, grid + 1), grid)
    samples = np.zeros((grid, grid))
    for tap, weight in enumerate((1 / 6, 4 / 6, 1 / 6)):
        np.add.at(samples, (np.arange(grid), mirrored[tap : tap + grid]), weight)
    return np.linalg.inv(samples)[mirrored]


def _spline_taps(knots: int, size: int, degree: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the first of the coefficients that make a pixel, and the weights of all of them."""
    if knots < 2:
        raise ValueError(f"a grid of {knots} in one direction must have at least 2 displacements")
    positions = np.linspace(0.0, knots - 1.0, size) if size > 1 else np.zeros(1)
    first = np.minimum(np.floor(positions).astype(np.int32), knots - 2)
    offsets = np.arange(degree + 1) - (degree - 1) // 2
    return first, b_spline((positions - first)[:, np.newaxis] - offsets, degree)


def b_spline(distance: np.ndarray, degree: int) -> np.ndarray:
    """Return the centered B-spline at distances in knots: a sum of truncated powers.

    Args:
        distance: Floating, any shape.
        degree: Of the spline, at least 1.

    Returns:
        The shape and dtype of `distance`, in [0, 1].
    """
    support = degree + 1
    result = np.zeros_like(distance)
    for knot in range(support + 1):
        power = np.maximum(support / 2 - knot - np.abs(distance), 0.0) ** degree
        result += (-1) ** knot * math.comb(support, knot) * power / math.factorial(degree)
    return result


def mirrored_index(index: np.ndarray, size: int) -> np.ndarray:
    """Return the pixel inside [0, size) that an index at any distance outside shows."""
    period = max(2 * (size - 1), 1)
    index = np.mod(index, period)
    return np.minimum(np.minimum(index, period - index), size - 1)
