"""Lines between touching instances: drawn anew on deformed labels, kept sharp in border maps."""

import tensorflow as tf


def separate_touching(labels: tf.Tensor) -> tf.Tensor:
    """Zero every pixel that has a 4-neighbor in another instance, as `targets.separate_touching`.

    Args:
        labels: int32 (..., H, W), 0 background.

    Returns:
        int32 (..., H, W).
    """
    labels = tf.convert_to_tensor(labels)
    above, below = labels[..., :-1, :], labels[..., 1:, :]
    left, right = labels[..., :-1], labels[..., 1:]
    down = (above != below) & (above != 0) & (below != 0)
    across = (left != right) & (left != 0) & (right != 0)
    return tf.where(_beside(down, across), tf.zeros_like(labels), labels)


def _beside(down: tf.Tensor, across: tf.Tensor) -> tf.Tensor:
    """Mark both neighbors of each marked pair, bool (..., H-1, W) and (..., H, W-1)."""
    room = [[0, 0]] * (down.shape.rank - 2)
    line = tf.pad(down, [*room, [1, 0], [0, 0]]) | tf.pad(down, [*room, [0, 1], [0, 0]])
    return line | tf.pad(across, [*room, [0, 0], [1, 0]]) | tf.pad(across, [*room, [0, 0], [0, 1]])


def outline_pixels(labels: tf.Tensor, width: int = 1) -> tf.Tensor:
    """Mark the outermost pixels of each instance, as `targets.labels.outline_pixels`.

    Args:
        labels: int32 (..., H, W), 0 background.
        width: How many pixels deep, in steps over edges; at least 1.

    Returns:
        bool (..., H, W).
    """
    labels = tf.convert_to_tensor(labels)
    inside = labels
    for _ in range(width):
        down = inside[..., :-1, :] != inside[..., 1:, :]
        across = inside[..., :-1] != inside[..., 1:]
        inside = tf.where(_beside(down, across), tf.zeros_like(labels), inside)
    return (labels != 0) & (inside == 0)


def extend_border(border: tf.Tensor, foreground: tf.Tensor, *, steps: int = 2) -> tf.Tensor:
    """Continue a border map some pixels into the foreground, where it is 0.

    Border maps end abruptly at the foreground. Between touching instances they are a line of two
    pixels, which interpolation would wash out by mixing in the foreground's zeros. Extended
    once, before all resampling, and cut off by the foreground drawn anew after it, the line keeps
    its value. Each step gives pixels next to known ones the mean of those.

    Args:
        border: float32 (H, W).
        foreground: bool (H, W): the pixels where the border map is 0 by definition.
        steps: How many pixels the map is continued.

    Returns:
        float32 (H, W); unchanged outside the foreground.
    """
    known = tf.cast(tf.logical_not(foreground), tf.float32)
    border = border * known
    for _ in range(steps):
        total = _sum_of_nine(border)
        count = _sum_of_nine(known)
        fresh = tf.cast((known == 0) & (count > 0), tf.float32)
        border += fresh * tf.math.divide_no_nan(total, count)
        known += fresh
    return border


def _sum_of_nine(values: tf.Tensor) -> tf.Tensor:
    padded = tf.pad(values, [[1, 1], [0, 0]])
    values = padded[:-2] + padded[1:-1] + padded[2:]
    padded = tf.pad(values, [[0, 0], [1, 1]])
    return padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]
