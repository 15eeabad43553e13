"""A network as a SavedModel that is complete in itself: TensorFlow alone can load and serve it.

    serving_default  images   uint8, uint16 or float32 (B, H, W, C)  raw grey values, of any size
      -> probabilities        float32 (B, H, W, K)
         maps                 float32 (B, H, W, T), only of a network with regression maps
    tiled            images   as above;  tile  int32 ()  side of the tiles, in pixels
      -> the same, but for rounding, in memory that grows with the tile and not with the image;
         of a network with group normalization, each tile has statistics of its own
    encoded          encoded  string (B,)  PNG or JPEG files, each of its own size; values as stored
      -> probabilities        float32 (B, H, W, K)  H, W of the largest; smaller ones padded with 0
         sizes                int32 (B, 2)  height and width of each
         maps                 as above

Casting, normalization, mirroring, prediction, cropping and the sigmoid are ops of the graph. The
folder also holds `metadata.json`, what the caller wants to be known about the model.
"""

import json
import logging
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from unet_keras.errors import InputError
from unet_keras.inference.compiling import to_probabilities
from unet_keras.inference.encoded import ENCODED_CHANNELS, Tensors, encoded_prediction
from unet_keras.inference.tiling import (
    as_image,
    has_group_normalization,
    warn_of_group_normalization,
)
from unet_keras.inference.windows import plan_windows_op, read_stretch_op, surround_op
from unet_keras.inference.writing import replace_folder
from unet_keras.model.geometry import UNetGeometry, geometry_of, map_channels
from unet_keras.settings.checks import demand_pattern

logger = logging.getLogger(__name__)

METADATA_FILE = "metadata.json"
IMAGE_TYPES = ("uint8", "uint16", "float32")


def export_saved_model(
    model: keras.Model,
    directory: str | Path,
    *,
    metadata: dict[str, Any],
    image_dtype: str = "uint8",
) -> None:
    """Write a network as a SavedModel; the signatures are described at the top of this file.

    It is written beside its place and moved there when complete: a failure leaves what was there.

    Args:
        model: A network of `build_unet`, (B, H, W, C) -> logits (B, H', W', K + T).
        directory: The folder to write; a SavedModel that is there is replaced.
        metadata: What `metadata.json` shall hold: classes, normalization, versions, ...; type and
            channels of the images are added, and whether tiles differ from whole images.
        image_dtype: Of the images it will take: `uint8`, `uint16` or `float32`, as in training.
            Only the first two have a signature for PNG and JPEG.

    Raises:
        InputError: Another image type, or a folder that is there and is no SavedModel.
    """
    directory = Path(directory)
    if image_dtype not in IMAGE_TYPES:
        raise InputError(f"image_dtype={image_dtype!r} must be one of {', '.join(IMAGE_TYPES)}")
    if directory.exists() and not _may_be_replaced(directory):
        raise InputError(
            f"{directory} is there and is no SavedModel, so it is not replaced: "
            "give another place, or remove it"
        )
    module = _served_module(model, tf.as_dtype(image_dtype))
    signatures = {"serving_default": module.predict, "tiled": module.predict_tiled}
    if hasattr(module, "predict_encoded"):
        signatures["encoded"] = module.predict_encoded
    known = {
        "image_dtype": image_dtype,
        "channels": model.input_shape[-1],
        "tiles_differ": has_group_normalization(model),
    }
    partial = directory.with_name(f".{directory.name}.{os.getpid()}.partial")
    try:
        tf.saved_model.save(module, str(partial), signatures=signatures)
        text = json.dumps({**metadata, **known}, indent=2, sort_keys=True)
        (partial / METADATA_FILE).write_text(text + "\n", encoding="utf-8")
        replace_folder(partial, directory)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@dataclass(frozen=True)
class ServedModel:
    """A loaded SavedModel; call it with an image.

    Attributes:
        directory: Where it was loaded from.
        channels: C, of the images it takes.
        image_dtype: Of the images it takes: uint8, uint16 or float32.
        metadata: What its `metadata.json` says.
        maps: T, how many regression maps follow the probabilities.
    """

    directory: Path
    channels: int
    image_dtype: np.dtype
    metadata: dict[str, Any] = field(repr=False)
    maps: int
    # The variables live as long as the loaded object does.
    _loaded: Any = field(repr=False)

    def __call__(self, image: ArrayLike, *, tile: int | None = None) -> np.ndarray:
        """Predict an image.

        Args:
            image: (H, W) or (H, W, C), raw grey values; whole numbers unless it takes float32.
            tile: Side of the tiles in pixels; None predicts the whole image.

        Returns:
            Float32 (H, W, K + T): probabilities, then regression maps.

        Raises:
            InputError: Another number of channels, values that do not fit, a tile below 1.
        """
        images = tf.constant(self._converted(as_image(image, self.channels))[None])
        if tile is None:
            outputs = self._loaded.signatures["serving_default"](images=images)
        elif tile < 1:
            raise InputError(f"tile={tile} must be at least 1 pixel")
        else:
            if self.metadata.get("tiles_differ") and tile < max(images.shape[1:3]):
                warn_of_group_normalization()
            outputs = self._loaded.signatures["tiled"](images=images, tile=tf.constant(tile))
        parts = [outputs[name][0].numpy() for name in ("probabilities", "maps") if name in outputs]
        return np.concatenate(parts, axis=-1)

    def _converted(self, image: np.ndarray) -> np.ndarray:
        """Return the image in the type that the signature takes, its values unchanged."""
        with np.errstate(invalid="ignore"):
            converted = image.astype(self.image_dtype)
        if self.image_dtype.kind == "u" and not np.array_equal(converted, image):
            raise InputError(
                f"the image has type {image.dtype} and values from {image.min():g} to "
                f"{image.max():g}, but {self.directory} takes {self.image_dtype}: predict with "
                "the run folder, or export for the images' type"
            )
        return converted


def load_saved_model(directory: str | Path) -> ServedModel:
    """Load what `export_saved_model` has written.

    Returns:
        A callable from an image (H, W) or (H, W, C) to float32 (H, W, K + T).

    Raises:
        InputError: There is no SavedModel, it cannot be read, or it has another signature.
    """
    directory = Path(directory)
    if not (directory / "saved_model.pb").exists():
        raise InputError(
            f"{directory} is no SavedModel: it has no saved_model.pb; "
            "python -m unet_keras.export writes one"
        )
    try:
        loaded = tf.saved_model.load(str(directory))
        signature = loaded.signatures["serving_default"]
        spec = signature.structured_input_signature[1]["images"]
        maps = signature.structured_outputs.get("maps")
    except (OSError, ValueError, KeyError, tf.errors.OpError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{directory} cannot be used as a SavedModel of ours: {reason}") from None
    return ServedModel(
        directory=directory,
        channels=spec.shape[-1],
        image_dtype=np.dtype(spec.dtype.as_numpy_dtype),
        metadata=read_metadata(directory / METADATA_FILE),
        maps=0 if maps is None else maps.shape[-1],
        _loaded=loaded,
    )


def read_metadata(file: Path) -> dict[str, Any]:
    """Read what is known of a model, which people may edit; nothing where there is no file.

    Raises:
        InputError: It is no JSON, or its `group_pattern` is none.
    """
    if not file.exists():
        return {}
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(
            f"{file} is no JSON: {error}; a backslash is written twice there, and exporting again "
            "writes all of it anew"
        ) from None
    if not isinstance(known, dict):
        raise InputError(f"{file} holds a {type(known).__name__} instead of names and values")
    if "group_pattern" in known:
        demand_pattern(known["group_pattern"], f"group_pattern of {file}: ")
    return known


def _served_module(model: keras.Model, dtype: tf.DType) -> tf.Module:
    """Return a module that holds the weights and the functions, and nothing of Keras."""
    channels = model.input_shape[-1]
    regression_maps = map_channels(model)
    classes = model.output_shape[-1] - regression_maps
    geometry = geometry_of(model)
    images_spec = tf.TensorSpec((None, None, None, channels), dtype, "images")
    tile_spec = tf.TensorSpec((), tf.int32, "tile")
    module = tf.Module()
    module.weights = [variable.value for variable in model.variables]

    def predict_window(images: tf.Tensor) -> tf.Tensor:
        logits = model(tf.cast(images, tf.float32), training=False)
        return to_probabilities(logits, regression_maps)

    def named(maps: tf.Tensor) -> Tensors:
        outputs = {"probabilities": maps[..., :classes]}
        if regression_maps:
            outputs["maps"] = maps[..., classes:]
        return outputs

    @tf.function(input_signature=[images_spec])
    def predict(images: tf.Tensor) -> Tensors:
        size = tf.shape(images)[1:3]
        maps = predict_window(surround_op(images, geometry))
        return named(maps[:, : size[0], : size[1]])

    @tf.function(input_signature=[images_spec, tile_spec])
    def predict_tiled(images: tf.Tensor, tile: tf.Tensor) -> Tensors:
        tf.debugging.assert_positive(tile, "tile must be at least 1 pixel")
        return named(_tile_by_tile(predict_window, images, tile, geometry))

    module.predict, module.predict_tiled = predict, predict_tiled
    if channels in ENCODED_CHANNELS and dtype != tf.float32:
        names = ["probabilities", "maps"] if regression_maps else ["probabilities"]
        module.predict_encoded = encoded_prediction(predict, names, channels, dtype)
    else:
        logger.info("no signature for PNG and JPEG: %d channels of %s", channels, dtype.name)
    return module


def _tile_by_tile(
    predict_window: Callable[[tf.Tensor], tf.Tensor],
    images: tf.Tensor,
    tile: tf.Tensor,
    geometry: UNetGeometry,
) -> tf.Tensor:
    """Predict images (B, H, W, C) window by window, as (B, H, W, K + T)."""
    margin = geometry.margin_pixels
    top, row_stops, height = plan_windows_op(tf.shape(images)[1], tile, geometry)
    left, column_stops, width = plan_windows_op(tf.shape(images)[2], tile, geometry)
    strips = tf.TensorArray(tf.float32, tf.size(top), infer_shape=False)
    upper = 0
    for row in tf.range(tf.size(top)):
        tf.autograph.experimental.set_loop_options(parallel_iterations=1)
        cells = tf.TensorArray(tf.float32, tf.size(left), infer_shape=False)
        strip = read_stretch_op(images, 1, top[row], height)
        first, last = upper - top[row] - margin, row_stops[row] - top[row] - margin
        begin = 0
        for column in tf.range(tf.size(left)):
            tf.autograph.experimental.set_loop_options(parallel_iterations=1)
            maps = predict_window(read_stretch_op(strip, 2, left[column], width))
            x = left[column] + margin
            core = maps[:, first:last, begin - x : column_stops[column] - x]
            cells = cells.write(column, tf.transpose(core, (2, 1, 0, 3)))
            begin = column_stops[column]
        strips = strips.write(row, tf.transpose(cells.concat(), (1, 0, 2, 3)))
        upper = row_stops[row]
    return tf.transpose(strips.concat(), (2, 0, 1, 3))


def _may_be_replaced(directory: Path) -> bool:
    """Whether a folder is empty or a SavedModel."""
    if not directory.is_dir():
        return False
    return (directory / "saved_model.pb").exists() or not any(directory.iterdir())
