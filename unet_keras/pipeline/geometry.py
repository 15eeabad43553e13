"""Where each output pixel comes from, and what stands there: coordinate maps, windows, sampling.

    coordinates  float32 (H', W', 2) or (B, H', W', 2)  row and column in the source, in pixels
    image        (H, W), (H, W, C) or (B, H, W, C)      mirrored beyond its edges, at any distance

Output pixel p takes the source's value at `coordinates[p]` (pull resampling); pixel centers lie on
whole numbers. Beyond the edges a source goes on as its mirror image about the center of the edge
pixel, `d c b | a b c d | c b a`: SciPy's and NumPy's mode `mirror` and `reflect`, OpenCV's
`BORDER_REFLECT_101`. Everything here is deterministic and runs eagerly, in graphs, in
`tf.data.Dataset.map` and, where shapes are static, compiled by XLA.
"""

import math
from collections.abc import Callable

import numpy as np
import tensorflow as tf

Size = tuple[int, int]

# Pixels beyond a window's edge that a cubic spline inside still depends on: 0.27^12 is 1e-7.
SPLINE_REACH = 12
_SPLINE_POLE = math.sqrt(3.0) - 2.0


def identity_coordinates(size: Size) -> tf.Tensor:
    """Return the coordinate map that leaves an image as it is, float32 (H, W, 2)."""
    rows = tf.range(size[0], dtype=tf.float32)
    columns = tf.range(size[1], dtype=tf.float32)
    return tf.stack(tf.meshgrid(rows, columns, indexing="ij"), axis=-1)


def affine_coordinates(size: Size, matrix: tf.Tensor, center: tf.Tensor) -> tf.Tensor:
    """Map the output's center to `center` of the source, and offsets from it by `matrix`.

    Args:
        size: Height and width of the output in pixels.
        matrix: float32 (..., 2, 2): source offset = matrix @ output offset, in (row, column).
        center: float32 (..., 2): row and column of the source, in pixels.

    Returns:
        float32 (..., H', W', 2), in pixels.
    """
    matrix = tf.convert_to_tensor(matrix, tf.float32)[..., tf.newaxis, tf.newaxis, :, :]
    center = tf.convert_to_tensor(center, tf.float32)[..., tf.newaxis, tf.newaxis, :]
    rows = (tf.range(size[0], dtype=tf.float32) - (size[0] - 1) / 2)[:, tf.newaxis, tf.newaxis]
    columns = (tf.range(size[1], dtype=tf.float32) - (size[1] - 1) / 2)[:, tf.newaxis]
    return (center + rows * matrix[..., 0]) + columns * matrix[..., 1]


def rotation_matrix(angle_degrees: tf.Tensor) -> tf.Tensor:
    """Return the map from output to source offsets that turns the image counterclockwise.

    Exact at multiples of 90 degrees, where the warp equals `np.rot90`.

    Args:
        angle_degrees: float32 (...).

    Returns:
        float32 (..., 2, 2), to be applied to (row, column) offsets from the center.
    """
    angle = tf.convert_to_tensor(angle_degrees, tf.float32)
    quarters = tf.round(angle / 90.0)
    rest = (angle - 90.0 * quarters) * (math.pi / 180.0)
    turn = tf.cast(quarters, tf.int32) % 4
    sign = tf.where(turn >= 2, -1.0, 1.0)
    cosine = sign * tf.where(turn % 2 == 1, -tf.sin(rest), tf.cos(rest))
    sine = sign * tf.where(turn % 2 == 1, tf.cos(rest), tf.sin(rest))
    rows = [tf.stack([cosine, sine], axis=-1), tf.stack([-sine, cosine], axis=-1)]
    return tf.stack(rows, axis=-2)


def warp(
    image: tf.Tensor,
    coordinates: tf.Tensor,
    *,
    nearest: bool = False,
    order: int = 1,
    prefilter: bool = True,
) -> tf.Tensor:
    """Sample an image at coordinates, with mirrored borders.

    Whole-numbered coordinates give the source's pixels bit by bit (but for order 3, where the
    spline's rounding remains, 1e-6 of the grey range).

    Args:
        image: (H, W), (H, W, C) or (B, H, W, C), any numeric dtype; with batched coordinates
            (B, H, W) too.
        coordinates: float32 (H', W', 2) or (B, H', W', 2), row and column in pixels; three
            dimensions serve every image of a batch. Positions given as float64 are reckoned so.
        nearest: Take the nearest pixel's value and keep the dtype, as labels need it. Ties go
            down and to the right.
        order: 1 interpolates linearly, 3 by cubic splines as SciPy does.
        prefilter: False if the image has been through `spline_coefficients` (order 3).

    Returns:
        The image's shape with H', W' for H, W; its dtype if `nearest`, else float32.

    Raises:
        ValueError: Shapes that do not belong together, or another order.
    """
    image = tf.convert_to_tensor(image)
    coordinates = _coordinates_tensor(coordinates)
    if order not in (1, 3):
        raise ValueError(f"order={order} must be 1 (linear) or 3 (cubic spline)")
    image, restore = _batched(image, coordinates)
    if nearest:
        return restore(_sample_nearest(image, coordinates))
    if order == 1:
        return restore(_sample_linear(image, coordinates))
    image = tf.cast(image, tf.float32)
    return restore(_sample_cubic(spline_coefficients(image) if prefilter else image, coordinates))


def cut_window(image: tf.Tensor, top_left: tf.Tensor, size: Size) -> tf.Tensor:
    """Cut a window of static size out of an image that goes on mirrored beyond its edges.

    Args:
        image: (H, W) or (H, W, C) of any, also dynamic, size.
        top_left: int32 (2,), row and column of the window's first pixel; may lie outside.
        size: Height and width of the window in pixels; may exceed the image.

    Returns:
        (*size) or (*size, C), the image's dtype.
    """
    image = tf.convert_to_tensor(image)
    top_left = tf.cast(top_left, tf.int32)
    shape = tf.shape(image)[:2]

    def cut_inside() -> tf.Tensor:
        channels = [0] * (image.shape.rank - 2)
        begin = tf.concat([top_left, tf.constant(channels, tf.int32)], axis=0)
        return tf.slice(image, begin, [*size, *[-1] * len(channels)])

    def cut_mirrored() -> tf.Tensor:
        rows = mirror_index(top_left[0] + tf.range(size[0]), shape[0])
        columns = mirror_index(top_left[1] + tf.range(size[1]), shape[1])
        return tf.gather(tf.gather(image, rows), columns, axis=1)

    inside = tf.reduce_all((top_left >= 0) & (top_left + tf.constant(size) <= shape))
    window = tf.cond(inside, cut_inside, cut_mirrored)
    return tf.ensure_shape(window, [*size, *image.shape[2:]])


def mirror_index(index: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Return the pixel inside [0, size) that an index at any distance outside shows, int32."""
    period = tf.maximum(2 * (size - 1), 1)
    index = index % period
    return tf.minimum(tf.minimum(index, period - index), size - 1)


def spline_coefficients(image: tf.Tensor) -> tf.Tensor:
    """Turn pixels into cubic B-spline coefficients with mirrored borders.

    The filter of Unser, Aldroubi and Eden 1993, "B-spline signal processing", as a plain one: its
    weights fall to a quarter from pixel to pixel, so that a few of them are all that count.

    Args:
        image: float32 (B, H, W, C).

    Returns:
        float32 (B, H, W, C), 1e-6 of the grey range from those of the recursive filter.
    """
    weights = _SPLINE_POLE ** np.abs(np.arange(-SPLINE_REACH, SPLINE_REACH + 1))
    kernel = weights / weights.sum()
    return filter_axis(filter_axis(image, kernel, axis=1), kernel, axis=2)


def filter_axis(image: tf.Tensor, kernel: np.ndarray, axis: int) -> tf.Tensor:
    """Convolve an image with an even kernel along one axis, with mirrored borders.

    Args:
        image: float32 of any shape.
        kernel: float64 (2R + 1,).
        axis: Of the image.

    Returns:
        float32, the image's shape.
    """
    radius, size = len(kernel) // 2, image.shape[axis] or tf.shape(image)[axis]
    # Only what is beyond the edges is gathered: a compiler would gather the whole anew for each
    # of the kernel's weights.
    before = tf.gather(image, mirror_index(tf.range(-radius, 0), size), axis=axis)
    after = tf.gather(image, mirror_index(size + tf.range(radius), size), axis=axis)
    padded = tf.concat([before, image, after], axis)

    def shifted(start: int) -> tf.Tensor:
        return padded[(*[slice(None)] * axis, slice(start, start + size))]

    result = float(kernel[radius]) * shifted(radius)
    for reach in range(1, radius + 1):
        pair = shifted(radius - reach) + shifted(radius + reach)
        result += float(kernel[radius + reach]) * pair
    return result


def _coordinates_tensor(coordinates: tf.Tensor) -> tf.Tensor:
    coordinates = tf.convert_to_tensor(coordinates)
    if coordinates.shape.rank not in (3, 4) or coordinates.shape[-1] != 2:
        raise ValueError(
            f"coordinates of shape {coordinates.shape} must be (H', W', 2) or (B, H', W', 2): "
            "row and column of the source for each output pixel"
        )
    return coordinates if coordinates.dtype == tf.float64 else tf.cast(coordinates, tf.float32)


def _batched(
    image: tf.Tensor, coordinates: tf.Tensor
) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    """Return the image as (B, H, W, C) and the function that takes added axes off a result."""
    rank, batched = image.shape.rank, coordinates.shape.rank == 4
    counts = [array.shape[0] for array in (image, coordinates)]
    equal = None in counts or counts[0] == counts[1]
    if rank == 4 and (not batched or equal or 1 in counts):
        return image, tf.identity
    if batched and rank == 3 and equal:
        return image[..., tf.newaxis], lambda result: result[..., 0]
    if not batched and rank == 3:
        return image[tf.newaxis], lambda result: result[0]
    if not batched and rank == 2:
        return image[tf.newaxis, ..., tf.newaxis], lambda result: result[0, ..., 0]
    raise ValueError(
        f"an image of shape {image.shape} does not go with coordinates of shape "
        f"{coordinates.shape}: give (H, W), (H, W, C) or (B, H, W, C), and a batch of images to "
        "a batch of coordinates"
    )


def _mirror_coordinate(coordinate: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """Return the coordinate inside [0, size - 1] that shows the same place."""
    last = tf.cast(size - 1, coordinate.dtype)
    period = tf.maximum(2 * last, 1)
    # Exact inside, where the whole number of periods is 0.
    return tf.minimum(tf.abs(coordinate - period * tf.round(coordinate * (1 / period))), last)


def _flat(image: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]:
    """Return the pixels in one row, height, width, and where each image of the batch begins."""
    shape = tf.shape(image)
    pixels = tf.reshape(image, [-1, image.shape[-1] or shape[-1]])
    start = tf.range(shape[0])[:, tf.newaxis, tf.newaxis] * (shape[1] * shape[2])
    return pixels, shape[1], shape[2], start


def _sample_nearest(image: tf.Tensor, coordinates: tf.Tensor) -> tf.Tensor:
    pixels, height, width, start = _flat(image)
    row = _mirror_coordinate(coordinates[..., 0], height)
    column = _mirror_coordinate(coordinates[..., 1], width)
    row, column = tf.cast(row + 0.5, tf.int32), tf.cast(column + 0.5, tf.int32)
    return tf.gather(pixels, start + row * width + column)


def _sample_linear(image: tf.Tensor, coordinates: tf.Tensor) -> tf.Tensor:
    pixels, height, width, start = _flat(image)
    row = _mirror_coordinate(coordinates[..., 0], height)
    column = _mirror_coordinate(coordinates[..., 1], width)
    top, left = tf.floor(row), tf.floor(column)
    down = tf.cast(row - top, tf.float32)[..., tf.newaxis]
    right = tf.cast(column - left, tf.float32)[..., tf.newaxis]
    top, left = tf.cast(top, tf.int32), tf.cast(left, tf.int32)
    # On the last row and column the fraction is 0: any neighbor will do, but it must exist.
    upper, lower = start + top * width, start + tf.minimum(top + 1, height - 1) * width
    next_left = tf.minimum(left + 1, width - 1)

    def pick(place: tf.Tensor) -> tf.Tensor:
        # Cast afterwards: the image stays narrow in memory.
        return tf.cast(tf.gather(pixels, place), tf.float32)

    def blend(line: tf.Tensor) -> tf.Tensor:
        first = pick(line + left)
        return first + (pick(line + next_left) - first) * right

    above = blend(upper)
    return above + (blend(lower) - above) * down


def _sample_cubic(coefficients: tf.Tensor, coordinates: tf.Tensor) -> tf.Tensor:
    pixels, height, width, start = _flat(coefficients)
    rows = _cubic_taps(_mirror_coordinate(coordinates[..., 0], height), height)
    columns = _cubic_taps(_mirror_coordinate(coordinates[..., 1], width), width)
    result = 0.0
    for row, row_weight in rows:
        across = 0.0
        for column, column_weight in columns:
            across += column_weight * tf.gather(pixels, start + row * width + column)
        result += row_weight * across
    return result


def _cubic_taps(coordinate: tf.Tensor, size: tf.Tensor) -> list[tuple[tf.Tensor, tf.Tensor]]:
    """Return the four pixels around a coordinate and the B-spline's weights for them."""
    first = tf.floor(coordinate)
    fraction = tf.cast(coordinate - first, tf.float32)[..., tf.newaxis]
    rest = 1.0 - fraction
    weights = [
        rest * rest * rest / 6,
        (4 - 3 * fraction * fraction * (2 - fraction)) / 6,
        (4 - 3 * rest * rest * (2 - rest)) / 6,
        fraction * fraction * fraction / 6,
    ]
    first, last = tf.cast(first, tf.int32), size - 1

    def mirrored(index: tf.Tensor) -> tf.Tensor:
        # At most two pixels outside: without the division that any distance takes.
        return tf.minimum(tf.abs(last - tf.abs(last - tf.abs(index))), last)

    return [(mirrored(first + tap - 1), weights[tap]) for tap in range(4)]
