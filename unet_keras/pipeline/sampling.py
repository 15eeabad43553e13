"""What is random about an example: parameters drawn from ranges by seed and number.

Randomness is here only and stateless: seed and number of an example decide, not the order, the
threads, the batch size or the device it is made on. `augment` applies what is drawn here.
"""

import functools
import math
from collections.abc import Callable

import tensorflow as tf

from unet_keras.pipeline import fields, geometry, smoothing
from unet_keras.settings.augment import Augmentation
from unet_keras.settings.checks import demand, demand_amount

Size = tuple[int, int]
Parameters = dict[str, tf.Tensor]

# Displacements beyond this many standard deviations are cut, so that windows have a static size.
CUT_DEVIATIONS = 3.0
# Each scalar's place in the one vector of uniform numbers drawn for an example.
_SLOTS = (
    "row", "column", "rotation", "zoom", "flip_rows", "flip_columns", "shift_rows",
    "shift_columns", "blur", "contrast", "brightness", "gamma", "noise",
)  # fmt: skip
_FIELD_STREAM, _NOISE_STREAM = 1, 2
# Narrower Gaussians are faster as plain filters than by splines, if compiled.
FILTER_BELOW_PIXELS = 6.0


def sample_field(
    seed: int | tf.Tensor,
    size: Size,
    *,
    grid: Size = (3, 3),
    deviation_pixels: float = 10.0,
) -> tf.Tensor:
    """Draw the coordinate map of a random elastic deformation, for `warp`.

    Ronneberger et al. 2015, section 3.1: Gaussian displacements on a coarse grid, interpolated
    bicubically. Displacements are cut at three standard deviations.

    Args:
        seed: A number or a pair of numbers; the same one gives the same map.
        size: Height and width of the image in pixels.
        grid: Rows and columns of the coarse grid, at least 2 each.
        deviation_pixels: Standard deviation of the displacements, at least 0.

    Returns:
        float32 (H, W, 2): the row and the column in the image each output pixel comes from.

    Raises:
        InputError: More than two numbers as seed, a grid or a deviation out of its range.
    """
    demand(min(grid) >= 2, f"grid={grid} must have 2 rows and columns at least")
    if isinstance(deviation_pixels, int | float):
        demand_amount(deviation_pixels, "deviation_pixels")
    pair = tf.reshape(tf.cast(seed, tf.int64), [-1])
    demand(pair.shape[0] in (1, 2), f"seed={seed} must be one number or two")
    pair = tf.concat([pair, tf.zeros([2 - pair.shape[0]], tf.int64)], axis=0)
    displacements = sample_displacements(pair, grid, deviation_pixels)
    return geometry.identity_coordinates(size) + fields.dense_field(displacements, size)


def window_size(augmentation: Augmentation, crop: Size, image_size: Size | None = None) -> Size:
    """Return the size of the part of an image that a crop can need, in pixels.

    Half the crop, turned by the largest angle and divided by the smallest zoom, plus the largest
    displacement, the shift and the interpolation's reach, to each side of the crop's center. The
    largest displacement: `grid`, three standard deviations times the spline's gain
    (`fields.field_gain`, 1.5 for 3x3); `smooth`, six standard deviations of the field, or alpha.

    Args:
        augmentation: What happens to the crop.
        crop: Height and width of the output in pixels.
        image_size: Height and width of all images where they agree: the window is never larger.

    Returns:
        Height and width; the crop itself where only the crop moves pixels.
    """
    if not augmentation.is_geometric:
        return crop
    half = [(side - 1) / 2 for side in crop]
    reach = _largest_displacement(augmentation, crop) + augmentation.shift_pixels
    reach += 1 + (geometry.SPLINE_REACH + 1) * (augmentation.image_order == 3)
    sides = []
    for axis in (0, 1):
        turned = _turned_extent(half[axis], half[1 - axis], augmentation.rotation_degrees)
        margin = math.ceil(max(turned / augmentation.zoom[0] - half[axis], 0) + reach)
        side = crop[axis] + 2 * margin
        sides.append(side if image_size is None else min(side, image_size[axis]))
    return sides[0], sides[1]


def sample_parameters(
    augmentation: Augmentation,
    seed: int | tf.Tensor,
    number: int | tf.Tensor,
    image_size: Size | tf.Tensor,
    crop: Size,
    *,
    window: Size | None = None,
    channels: int = 1,
    margin: int = 0,
) -> Parameters:
    """Draw all that is random about one example.

    Args:
        augmentation: Ranges to draw from.
        seed: Of the run.
        number: Of the example, counted through all epochs.
        image_size: int32 (2,), height and width of the image in pixels.
        crop: Height and width of the output in pixels.
        window: What `window_size` gave, if not for this augmentation and crop alone.
        channels: Of the image, for the noise.
        margin: Pixels on each side of the crop that its labels lack: what a network of valid
            convolutions loses. The rest of the crop lies anywhere inside the image, so that each
            pixel of it is learned, and the margin where the image goes on mirrored.

    Returns:
        Tensors of static shape: `crop_top_left` and `window_top_left` int32 (2,), and float32 what
        the augmentation needs of `center` (2,), the crop's in the window, `matrix` (2, 2),
        `spline_rows` (K, crop's width, 2), the displacements, `blur`, `contrast`, `brightness`,
        `gamma`, `noise_share` (), `noise` (*crop, C).
    """
    pair = tf.stack([tf.cast(seed, tf.int64), tf.cast(number, tf.int64)])
    values = tf.random.stateless_uniform([len(_SLOTS)], pair, alg="philox")
    uniform = dict(zip(_SLOTS, tf.unstack(values), strict=True))
    image_size = tf.cast(image_size, tf.int32)
    window = window or window_size(augmentation, crop)
    top_left = _crop_position(uniform["row"], uniform["column"], image_size, crop, margin)
    window_top_left = top_left
    if augmentation.is_geometric:
        window_top_left = _window_position(top_left, image_size, crop, window)
    parameters = {"crop_top_left": top_left, "window_top_left": window_top_left}
    if augmentation.is_geometric:
        inside = tf.cast(top_left - window_top_left, tf.float32)
        shift = tf.stack([uniform["shift_rows"], uniform["shift_columns"]]) * 2 - 1
        parameters["center"] = (
            inside + (tf.constant(crop, tf.float32) - 1) / 2 + shift * augmentation.shift_pixels
        )
        parameters["matrix"] = _sample_matrix(augmentation, uniform)
    if augmentation.is_elastic:
        stream = tf.random.experimental.stateless_fold_in(pair, _FIELD_STREAM)
        parameters["spline_rows"] = _sample_spline_rows(augmentation, stream, crop)
    return parameters | _sample_grey(augmentation, uniform, pair, (*crop, channels))


def sample_displacements(pair: tf.Tensor, grid: Size, deviation_pixels: float) -> tf.Tensor:
    """Draw a coarse grid's displacements, cut Gaussians: float32 (gh, gw, 2), in pixels."""
    normal = tf.random.stateless_normal([*grid, 2], pair, alg="philox")
    return deviation_pixels * tf.clip_by_value(normal, -CUT_DEVIATIONS, CUT_DEVIATIONS)


def sample_noise(pair: tf.Tensor, size: Size) -> tf.Tensor:
    """Draw noise in every pixel, uniform over int8: (2, H, W), for rows and for columns."""
    count = 2 * size[0] * size[1]
    bits = tf.random.stateless_uniform([-(-count // 4)], pair, None, None, tf.int32, alg="philox")
    return tf.reshape(tf.reshape(tf.bitcast(bits, tf.int8), [-1])[:count], [2, *size])


def field_degree(augmentation: Augmentation, crop: Size) -> int:
    """Return the degree of the splines whose coefficients stand for the field: 1, 3 or 5.

    Args:
        augmentation: What happens to the crop.
        crop: Its height and width in pixels.
    """
    if augmentation.kind == "grid":
        return 3
    # With a knot in each row of pixels, coefficients of degree 1 are the field itself.
    narrow = augmentation.sigma < FILTER_BELOW_PIXELS and min(crop) > 1
    return 1 if narrow and augmentation.jit_compile else smoothing.DEGREE


def _sample_spline_rows(augmentation: Augmentation, pair: tf.Tensor, crop: Size) -> tf.Tensor:
    if augmentation.kind == "grid":
        grid = sample_displacements(pair, augmentation.grid, augmentation.deviation_pixels)
        compiled = augmentation.jit_compile
        return _compiled_rows(crop[1])(grid) if compiled else fields.spline_rows(grid, crop[1])
    noise = sample_noise(pair, crop)
    if field_degree(augmentation, crop) == 1:
        rows = tf.transpose(_compiled_filter(augmentation.sigma)(noise), [1, 2, 0])
    else:
        rows = smoothing.spline_rows(noise, augmentation.sigma)
    limit = _largest_displacement(augmentation, crop)
    # The middle of -128 to 127 is -1/2, which would shift the image.
    return tf.clip_by_value((rows + 0.5) * (augmentation.alpha / 128), -limit, limit)


@functools.lru_cache(maxsize=8)
def _compiled_filter(sigma_pixels: float) -> Callable[[tf.Tensor], tf.Tensor]:
    return tf.function(lambda maps: smoothing.filter_maps(maps, sigma_pixels), jit_compile=True)


@functools.lru_cache(maxsize=8)
def _compiled_rows(width: int) -> Callable[[tf.Tensor], tf.Tensor]:
    # A matrix product of a few numbers costs less than the operations around it.
    return tf.function(lambda grid: fields.spline_rows(grid, width), jit_compile=True)


def _sample_matrix(augmentation: Augmentation, uniform: dict[str, tf.Tensor]) -> tf.Tensor:
    """Return the map from offsets in the crop to offsets in the source, float32 (2, 2)."""
    angle = (uniform["rotation"] * 2 - 1) * augmentation.rotation_degrees
    low, high = (math.log(value) for value in augmentation.zoom)
    zoom = tf.exp(low + (high - low) * uniform["zoom"])
    matrix = geometry.rotation_matrix(angle) / zoom
    if augmentation.flip:
        flips = tf.stack([uniform["flip_rows"], uniform["flip_columns"]]) < 0.5
        matrix *= tf.where(flips, -1.0, 1.0)
    return matrix


def _sample_grey(
    augmentation: Augmentation, uniform: dict[str, tf.Tensor], pair: tf.Tensor, shape: tuple
) -> Parameters:
    parameters = {}
    if augmentation.blur_pixels > 0:
        parameters["blur"] = uniform["blur"] * augmentation.blur_pixels
    if augmentation.contrast > 0:
        parameters["contrast"] = 1 + (uniform["contrast"] * 2 - 1) * augmentation.contrast
    if augmentation.brightness > 0:
        parameters["brightness"] = (uniform["brightness"] * 2 - 1) * augmentation.brightness
    if augmentation.gamma != (1.0, 1.0):
        low, high = (math.log(value) for value in augmentation.gamma)
        parameters["gamma"] = tf.exp(low + (high - low) * uniform["gamma"])
    if augmentation.noise > 0:
        stream = tf.random.experimental.stateless_fold_in(pair, _NOISE_STREAM)
        parameters["noise"] = tf.random.stateless_normal(shape, stream, alg="philox")
        parameters["noise_share"] = uniform["noise"] * augmentation.noise
    return parameters


def _crop_position(
    row: tf.Tensor, column: tf.Tensor, image_size: tf.Tensor, crop: Size, margin: int
) -> tf.Tensor:
    """Return where the crop begins, its margin not counted inside the image or centered on it."""
    room = image_size - (tf.constant(crop) - 2 * margin)
    random = tf.cast(tf.stack([row, column]) * tf.cast(room + 1, tf.float32), tf.int32)
    inside = tf.where(room >= 0, tf.minimum(random, room), tf.math.floordiv(room, 2))
    return inside - margin


def _window_position(
    top_left: tf.Tensor, image_size: tf.Tensor, crop: Size, window: Size
) -> tf.Tensor:
    """Return where the window begins: inside the image wherever the image is large enough.

    A window pushed back inside ends at the image's edge, so what a crop needs from beyond it is
    the window's own mirror image, and cutting is plain slicing.
    """
    margin = tf.math.floordiv(tf.constant(window) - tf.constant(crop), 2)
    room = image_size - tf.constant(window)
    wanted = top_left - margin
    return tf.where(room >= 0, tf.clip_by_value(wanted, 0, tf.maximum(room, 0)), wanted)


def _largest_displacement(augmentation: Augmentation, crop: Size) -> float:
    if not augmentation.is_elastic:
        return 0.0
    if augmentation.kind == "grid":
        gain = fields.field_gain(augmentation.grid, crop)
        return CUT_DEVIATIONS * augmentation.deviation_pixels * gain
    # A uniform noise's deviation, 1 / sqrt(3), shrinks by 2 sqrt(pi) sigma under the Gaussian.
    deviation = augmentation.alpha / (math.sqrt(3) * 2 * math.sqrt(math.pi) * augmentation.sigma)
    # Smoothed noise is never larger than the noise: narrow Gaussians, strongly scaled, would ask
    # for windows that fill the memory.
    return min(2 * CUT_DEVIATIONS * deviation, augmentation.alpha)


def _turned_extent(along: float, across: float, largest_degrees: float) -> float:
    """Return the largest extent along an axis of a half crop turned by up to an angle."""
    angle = math.radians(min(largest_degrees, 180.0))
    peak = math.atan2(across, along)
    if angle >= peak:
        return math.hypot(along, across)
    return along * math.cos(angle) + across * math.sin(angle)
