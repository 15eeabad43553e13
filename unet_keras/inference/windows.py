"""Where windows lie on an image and how they are read, in NumPy and as ops of a graph.

    image   (H, W, C)  any type; outside of it, it is mirrored
    window  a stretch of each axis, what the network sees at once
    core    the part of a window whose prediction is kept; cores neither overlap nor leave gaps

Windows lie on the grid of the network's pooling, multiples of 2^depth from the image's corner, and
all of an axis are equally long. The mirrors stand on the first and the last pixel and do not repeat
them (SciPy's `mirror`, NumPy's `reflect`), as in `model.layers.MirrorToMultiple`.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf

from unet_keras.errors import InputError
from unet_keras.model.geometry import UNetGeometry, valid_tile_sizes


@dataclass(frozen=True)
class Window:
    """A stretch of one axis; in pixels of the image.

    Attributes:
        start: Where the window begins; outside the image it is mirrored.
        length: Its length.
        core: From where to where its prediction is kept.
    """

    start: int
    length: int
    core: tuple[int, int]


# Where a stretch begins and how much of each of its pixels a window gives, float32 (n,).
Share = tuple[int, np.ndarray]


@dataclass(frozen=True)
class _Rule:
    """How windows follow each other; in pixels.

    Attributes:
        multiple: Of the distance between windows.
        context: What a window shows on each side of its core.
        rest: What a core is longer than a multiple; the next window overlaps it.
        shortest: Step of the smallest window that the network takes.
        origin: Where the first window begins.
    """

    multiple: int
    context: int
    rest: int
    shortest: int
    origin: int


def plan_windows(
    length: int, tile: int, geometry: UNetGeometry, *, halo: int | None = None
) -> list[Window]:
    """Cover one axis of an image with as few windows as the tile allows, all as short as possible.

    Args:
        length: Of the image along this axis, in pixels.
        tile: Longest core of a window with context on both sides, rounded up to what fits.
        geometry: Of the network.
        halo: Context that a same-padded network sees, in pixels; None for all that it can see.

    Returns:
        Windows whose cores follow each other from 0 to `length`.

    Raises:
        InputError: A tile below 1, a negative halo, a halo for valid convolutions.
    """
    if tile < 1:
        raise InputError(f"tile={tile} must be at least 1 pixel")
    rule = _rule(geometry, halo)
    same = geometry.padding == "same"
    # A same-padded network mirrors by itself up to the next multiple, and no window goes beyond.
    whole = _round_up(length, rule.multiple) if same else length + 2 * rule.context
    new = whole - 2 * rule.context - rule.rest
    step = max(_round_up(tile - rule.rest, rule.multiple), rule.shortest, rule.multiple)
    count = max(_divide_up(new, step), 1)
    step = max(_round_up(_divide_up(new, count), rule.multiple), rule.shortest)
    window = step + rule.rest + 2 * rule.context
    starts = [rule.origin + number * step for number in range(count)]
    if same:
        window = min(window, whole)
        starts = [min(start, whole - window) for start in starts]
    stops = [*(start + window - rule.context for start in starts[:-1]), length]
    cores = zip([0, *stops], stops, strict=False)
    return [Window(start, window, core) for start, core in zip(starts, cores, strict=True)]


def blended_halo(blend: int, halo: int | None, geometry: UNetGeometry) -> int:
    """Return the halo that leaves `halo` pixels around what is blended; None is all of them.

    Raises:
        InputError: Valid convolutions, or a negative blend or halo.
    """
    if geometry.padding != "same":
        raise InputError(
            f"blend={blend} is for same-padded networks; with valid convolutions nothing shows at "
            "seams: leave the blend out"
        )
    if blend < 0:
        raise InputError(f"blend={blend} must be at least 0 pixels")
    if halo is not None and halo < 0:
        raise InputError(f"halo={halo} must be at least 0 pixels")
    return blend + (geometry.receptive_pixels if halo is None else halo)


def blend_shares(windows: list[Window], length: int, blend: int) -> dict[Window, Share]:
    """Say how much of each pixel a window gives where windows fade into each other.

    Args:
        windows: Of one axis, from `plan_windows` with a halo of at least the blend.
        length: Of the image along this axis.
        blend: How far a window reaches into its neighbors' cores; its share falls evenly from one
            to zero within twice as many pixels around the seam.

    Returns:
        By window, its first pixel and its shares, float32 (n,); those of all windows add up to 1.
    """
    raw: dict[Window, Share] = {}
    total = np.zeros(length, np.float32)
    for window in windows:
        start = max(window.core[0] - blend, 0)
        stop = min(window.core[1] + blend, length)
        centers = np.arange(start, stop) + 0.5
        share = np.ones(stop - start)
        if window.core[0] > 0:
            share = np.minimum(share, (centers - window.core[0] + blend) / (2 * blend))
        if window.core[1] < length:
            share = np.minimum(share, (window.core[1] + blend - centers) / (2 * blend))
        raw[window] = (start, share.astype(np.float32))
        total[start:stop] += raw[window][1]
    return {
        window: (start, share / total[start : start + len(share)])
        for window, (start, share) in raw.items()
    }


def plan_windows_op(
    length: tf.Tensor, tile: tf.Tensor, geometry: UNetGeometry
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """`plan_windows` as ops, with all the context.

    Returns:
        Where windows start, int32 (n,); where their cores stop, int32 (n,); their length, int32 ().
    """
    rule = _rule(geometry, None)
    same = geometry.padding == "same"
    whole = _round_up(length, rule.multiple) if same else length + 2 * rule.context
    new = whole - 2 * rule.context - rule.rest
    step = tf.maximum(_round_up(tile - rule.rest, rule.multiple), max(rule.shortest, rule.multiple))
    count = tf.maximum(_divide_up(new, step), 1)
    step = tf.maximum(_round_up(_divide_up(new, count), rule.multiple), rule.shortest)
    window = step + rule.rest + 2 * rule.context
    starts = rule.origin + tf.range(count) * step
    if same:
        window = tf.minimum(window, whole)
        starts = tf.minimum(starts, whole - window)
    stops = starts + window - rule.context
    return starts, tf.concat([stops[:-1], [length]], axis=0), window


def read_window(image: np.ndarray, row: Window, column: Window) -> np.ndarray:
    """Read a window (h, w, C) of an image (H, W, C), mirrored where it lies outside.

    Only the pixels it shows are read, so the image may be a memory map.
    """
    rows, columns = (
        mirrored(np.arange(window.start, window.start + window.length), length)
        for window, length in zip((row, column), image.shape[:2], strict=True)
    )
    top, left = int(rows.min()), int(columns.min())
    seen = np.asarray(image[top : rows.max() + 1, left : columns.max() + 1])
    for axis, positions in enumerate((rows - top, columns - left)):
        if not np.array_equal(positions, np.arange(seen.shape[axis])):
            seen = np.take(seen, positions, axis)
    return seen


def read_stretch_op(
    images: tf.Tensor, axis: int, start: tf.Tensor | int, length: tf.Tensor
) -> tf.Tensor:
    """Read a stretch of one axis of images (B, H, W, C) as ops, mirrored where it lies outside."""
    size = tf.shape(images)[axis]
    period = tf.maximum(2 * size - 2, 1)
    positions = tf.range(start, start + length) % period
    return tf.gather(images, tf.minimum(positions, period - positions), axis=axis)


def surround_op(images: tf.Tensor, geometry: UNetGeometry) -> tf.Tensor:
    """Surround images (B, H, W, C) with what the network needs to see, as ops.

    Same-padded networks mirror by themselves. For valid convolutions images are mirrored by the
    margin on each side, and further to the next valid size below and to the right.
    """
    if geometry.padding == "same":
        return images
    for axis in (1, 2):
        length = tf.shape(images)[axis]
        starts, _, window = plan_windows_op(length, length, geometry)
        images = read_stretch_op(images, axis, starts[0], window)
    return images


def mirrored(positions: np.ndarray, length: int) -> np.ndarray:
    """Map positions outside 0..length-1 to the pixels seen there between two mirrors.

    The mirrors stand on the first and the last pixel: ... 2 1 [0 1 2 3] 2 1 0 1 ...
    """
    period = max(2 * length - 2, 1)
    positions = positions % period
    return np.minimum(positions, period - positions)


def _rule(geometry: UNetGeometry, halo: int | None) -> _Rule:
    """Return how windows of this network follow each other."""
    multiple, margin = geometry.multiple_pixels, geometry.margin_pixels
    if geometry.padding == "same":
        if halo is not None and halo < 0:
            raise InputError(f"halo={halo} must be at least 0 pixels")
        context = _round_up(geometry.receptive_pixels if halo is None else halo, multiple)
        return _Rule(multiple, context, rest=0, shortest=multiple, origin=0)
    if halo is not None:
        raise InputError(
            f"halo={halo} is for same-padded networks; this one has valid convolutions and "
            f"needs its margin of {margin} pixels: leave the halo out"
        )
    smallest = valid_tile_sizes(geometry.depth)[0] - 2 * margin
    rest = smallest % multiple
    return _Rule(multiple, margin, rest, shortest=smallest - rest, origin=-margin)


# Both take and return Python's whole numbers, or tensors in a graph.
def _divide_up(value: Any, divisor: Any) -> Any:
    return -(-value // divisor)


def _round_up(value: Any, multiple: int) -> Any:
    return _divide_up(value, multiple) * multiple
