"""Random augmentation: a seed and a running number become parameters, these one coordinate map.

    augmentation = Augmentation(rotation_degrees=180.0)
    window = window_size(augmentation, crop)                       # static, whatever the images

    # one example, in Dataset.map; number counts the examples from the start of training
    parameters = sample_parameters(augmentation, seed, number, tf.shape(image)[:2], crop)
    image, maps, labels = cut_windows(parameters, window, image, maps, labels)

    # after Dataset.batch; single examples work too, with the same result
    image, maps, labels = augment_batch(
        image, maps, labels, parameters, augmentation=augmentation, crop=crop,
        grey_mean=manifest.mean, grey_scale=manifest.scale,
    )

    image   any numeric dtype (H, W, C)          raw grey values -> float32 (B, *crop, C)
    maps    any numeric dtype (H, W, T) or None  sampled linearly: border, distance -> float32
    labels  integer (H, W, N) or None            sampled nearest: label map, class map

Randomness is in `sample_*` only and stateless: the result depends on seed and number, not on
threads, batch size or device (but for the rounding of a blur that is not compiled). All that moves
pixels (crop, rotation, zoom, flips, shift, elastic deformation) is one coordinate map and one
resampling, the same for image, maps and labels.
"""

import functools
from collections.abc import Callable

import tensorflow as tf

from unet_keras.errors import InputError
from unet_keras.pipeline import fields, geometry, grey
from unet_keras.pipeline.sampling import (
    Parameters,
    Size,
    field_degree,
    sample_field,
    sample_parameters,
    window_size,
)
from unet_keras.settings.augment import NO_AUGMENTATION, Augmentation

__all__ = [
    "NO_AUGMENTATION",
    "Augmentation",
    "augment_batch",
    "coordinates_from",
    "cut_windows",
    "device_name",
    "sample_field",
    "sample_parameters",
    "window_size",
]


def cut_windows(
    parameters: Parameters, window: Size, *arrays: tf.Tensor | None
) -> tuple[tf.Tensor | None, ...]:
    """Cut the example's window out of each array (H, W) or (H, W, C); None stays None.

    Args:
        parameters: Of one example.
        window: Height and width in pixels.
        *arrays: Any dtype, which they keep.
    """
    top_left = parameters["window_top_left"]
    return tuple(
        None if array is None else geometry.cut_window(array, top_left, window) for array in arrays
    )


def coordinates_from(
    parameters: Parameters, *, augmentation: Augmentation, crop: Size
) -> tf.Tensor:
    """Return where each pixel of the crop comes from in the window.

    Args:
        parameters: Of a batch or of one example.
        augmentation: What they were drawn for; `is_geometric`.
        crop: Height and width of the output in pixels.

    Returns:
        float32 (B, *crop, 2) or (*crop, 2), in pixels of the window.
    """
    coordinates = geometry.affine_coordinates(crop, parameters["matrix"], parameters["center"])
    if "spline_rows" in parameters:
        degree = field_degree(augmentation, crop)
        coordinates = fields.add_spline_rows(
            coordinates, parameters["spline_rows"], crop[0], degree=degree
        )
    return coordinates


def augment_batch(
    image: tf.Tensor,
    maps: tf.Tensor | None,
    labels: tf.Tensor | None,
    parameters: Parameters,
    *,
    augmentation: Augmentation,
    crop: Size,
    grey_mean: float = 0.0,
    grey_scale: float = 1.0,
) -> tuple[tf.Tensor, tf.Tensor | None, tf.Tensor | None]:
    """Transform windows into crops: one coordinate map, one resampling, then the grey values.

    Args:
        image: (B, *window, C) of any numeric dtype, or one example without B, as for the others.
        maps: (B, *window, T) of any numeric dtype, sampled linearly; or None.
        labels: (B, *window, N) of any integer dtype, sampled nearest; or None.
        parameters: Of the examples, batched in the same way.
        augmentation: What they were drawn for.
        crop: Height and width of the output in pixels.
        grey_mean: Mean of the training images' grey values.
        grey_scale: Their standard deviation.

    Returns:
        image float32 (B, *crop, C), maps float32 (B, *crop, T), labels (B, *crop, N).
    """
    arrays = {"image": image, "maps": maps, "labels": labels}
    given = {name: array for name, array in arrays.items() if array is not None}
    single = given["image"].shape.rank == 3
    if single:
        given = {name: array[tf.newaxis] for name, array in given.items()}
        parameters = {name: value[tf.newaxis] for name, value in parameters.items()}
    to_spline, place, resample, change_grey = _steps(
        augmentation, crop, float(grey_mean), float(grey_scale)
    )
    with tf.device(device_name(augmentation.device)):
        if augmentation.is_geometric:
            if augmentation.image_order == 3:
                given["image"] = to_spline(given["image"])
            given = resample(given, place(parameters))
        results = {
            name: array if name == "labels" else tf.cast(array, tf.float32)
            for name, array in given.items()
        }
        if augmentation.changes_grey:
            results["image"] = change_grey(results["image"], parameters)
    if single:
        results = {name: array[0] for name, array in results.items()}
    return results["image"], results.get("maps"), results.get("labels")


def device_name(device: str) -> str:
    """Return the device a setting means: `auto`, `cpu` or a name such as `GPU:0`.

    Raises:
        InputError: It is not there.
    """
    if device == "auto":
        return "/GPU:0" if tf.config.list_logical_devices("GPU") else "/CPU:0"
    if device.lower() == "cpu":
        return "/CPU:0"
    name = device if device.startswith("/") else f"/{device}"
    known = [entry.name for entry in tf.config.list_logical_devices()]
    short = [entry.split("/device:")[-1].lower() for entry in known]
    if name.lower().removeprefix("/").removeprefix("device:") not in short:
        raise InputError(f"augment.device={device} is not there; available: {', '.join(short)}")
    return name


@functools.lru_cache(maxsize=32)
def _steps(
    augmentation: Augmentation, crop: Size, grey_mean: float, grey_scale: float
) -> tuple[Callable, Callable, Callable, Callable]:
    """Return what makes splines of images, makes coordinates, resamples, and changes grey values.

    Compiled one by one: in a single function the compiler would calculate coordinates anew for
    each neighbor of each pixel in each map, which takes five times as long. On their way,
    rows and columns lie apart, float32 (B, 2, *crop), so that a vector of them is one load.
    """

    def to_spline(image: tf.Tensor) -> tf.Tensor:
        return geometry.spline_coefficients(tf.cast(image, tf.float32))

    def place(parameters: Parameters) -> tf.Tensor:
        coordinates = coordinates_from(parameters, augmentation=augmentation, crop=crop)
        return tf.transpose(coordinates, [0, 3, 1, 2])

    def resample(arrays: dict[str, tf.Tensor], planes: tf.Tensor) -> dict[str, tf.Tensor]:
        coordinates = tf.transpose(planes, [0, 2, 3, 1])
        return {
            name: geometry.warp(
                array,
                coordinates,
                nearest=name == "labels",
                order=augmentation.image_order if name == "image" else 1,
                prefilter=False,
            )
            for name, array in arrays.items()
        }

    def change_grey(image: tf.Tensor, parameters: Parameters) -> tf.Tensor:
        return _change_grey(image, parameters, grey_mean, grey_scale)

    steps = to_spline, place, resample, change_grey
    if not augmentation.jit_compile:
        return steps
    return tuple(tf.function(step, jit_compile=True) for step in steps)


def _change_grey(
    image: tf.Tensor, parameters: Parameters, grey_mean: float, grey_scale: float
) -> tf.Tensor:
    if "blur" in parameters:
        image = grey.blur(image, parameters["blur"])
    if "contrast" in parameters:
        image = grey.change_contrast(image, parameters["contrast"], grey_mean)
    if "brightness" in parameters:
        image = grey.change_brightness(image, parameters["brightness"], grey_scale)
    if "gamma" in parameters:
        image = grey.change_gamma(image, parameters["gamma"])
    if "noise" in parameters:
        image = grey.add_noise(image, parameters["noise"], parameters["noise_share"], grey_scale)
    return image
