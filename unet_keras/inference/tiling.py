"""Predicting images of any size, whole or in tiles: the overlap-tile strategy.

    image          uint8, uint16 or float  (H, W) or (H, W, C)  raw grey values
    probabilities  float32  (H, W, K)  sigmoid (K = 1) or softmax; then the regression maps, as is

Each tile is predicted from a window that shows the network all that it would see around the tile
in the whole image (`inference.windows`). So tiles give what the whole image gives, but for the
rounding of float32:

- Networks with valid convolutions see a window wider than the tile by their margin on each side;
  what lies outside the image is mirrored (Ronneberger et al. 2015, fig. 2).
- Same-padded networks see a halo as wide as their receptive field. At the image's edge the window
  ends with the image, so that the zeros which pad it there are those of the whole image.
"""

import warnings
from itertools import product
from math import isqrt

import keras
import numpy as np
from numpy.typing import ArrayLike

from unet_keras.errors import InputError
from unet_keras.inference.compiling import compiled_prediction
from unet_keras.inference.windows import (
    Share,
    Window,
    blend_shares,
    blended_halo,
    plan_windows,
    read_window,
)
from unet_keras.model.geometry import UNetGeometry, geometry_of, map_channels

# What the activations of a whole image may take before it is predicted in tiles, and those of a
# window then.
WHOLE_IMAGE_BYTES = 2 * 2**30
WINDOW_BYTES = 2**30

# Maps of full size that are alive at once, in units of the first level's channels: the skip, the
# up-convolution's result, both joined (twice the channels), a convolution's operand and result.
# Peak memory was 21 to 24 bytes a pixel and channel, at 4, 16 and 64 channels.
LIVE_MAPS = 6

Size = tuple[int, int]


def predict_tiled(
    model: keras.Model,
    image: ArrayLike,
    *,
    tile: int | Size | None = None,
    batch_size: int = 1,
    halo: int | None = None,
    blend: int = 0,
    output: np.ndarray | None = None,
    fixed: bool = False,
) -> np.ndarray:
    """Predict an image of any size, the same in tiles as in one piece (to 1e-5).

    Args:
        model: A network of `build_unet`, (B, H, W, C) -> logits (B, H', W', K).
        image: uint8, uint16 or float, (H, W) or (H, W, C), raw grey values; may be a memory map.
        tile: Side of a tile (or height and width), in pixels, rounded up to what the network can
            take, then down to what covers the image evenly; memory grows with the tile and its
            surroundings instead of the image. None takes the whole image where its activations
            stay below 2 GB, else the tiles that take 1 GB.
        batch_size: Tiles computed at once, at least 1.
        halo: Surroundings of a tile that a same-padded network sees, in pixels a side. By default
            its receptive field; less is faster and differs near the tiles' seams. A network of
            depth 4, trained on LIVECell, in tiles of 128: with 64 pixels probabilities differed by
            0.05 at most and the mask in 4e-5 of its pixels, with 32 by 0.7 and in 2e-3.
        blend: How far tiles fade into each other on both sides of a seam, in pixels, seen with the
            same halo; for halos below the receptive field, where it hides seams. A network of depth
            4 and stride 2, trained on LIVECell, in tiles of 128 with a halo of 32: the mean error
            of a probability fell from 4.7e-3 to 2.0e-3 with 16 pixels and with 32, the largest
            from 0.47 to 0.25.
        output: Float32 (H, W, K) to write to, such as a memory map; else it is made.
        fixed: Whether the network's weights will not change any more, which lets a CPU take them
            laid out for it; later changes are not followed then.

    Returns:
        Float32 (H, W, K): `output`.

    Raises:
        InputError: An image of another shape or number of channels, a tile below 1, a halo or blend
            for a network with valid convolutions, an output of another shape.

    Warns:
        UserWarning: Several tiles, and a network with group normalization: its statistics are the
            tile's instead of the image's.
    """
    channels = model.input_shape[-1]
    image = as_image(image, channels)
    size = image.shape[:2]
    geometry = geometry_of(model)
    if tile is None:
        tile = _tile_that_fits(model, size, geometry)
    if batch_size < 1:
        raise InputError(f"batch_size={batch_size} must be at least 1 tile")
    if blend:
        halo = blended_halo(blend, halo, geometry)
    tiles = tile if isinstance(tile, tuple) else (tile, tile)
    rows, columns = (
        plan_windows(length, side, geometry, halo=halo)
        for length, side in zip(size, tiles, strict=True)
    )
    if len(rows) * len(columns) > 1 and has_group_normalization(model):
        warn_of_group_normalization()
    if output is None:
        output = np.empty((*size, model.output_shape[-1]), np.float32)
    elif output.shape != (*size, model.output_shape[-1]) or output.dtype != np.float32:
        raise InputError(
            f"output is {output.dtype} {output.shape}, expected float32 "
            f"{(*size, model.output_shape[-1])} for this image and network"
        )
    predict = compiled_prediction(model, image.dtype, fixed=fixed)
    shares: list[dict[Window, Share]] = []
    if blend:
        output[:] = 0
        shares = [
            blend_shares(windows, length, blend)
            for windows, length in zip((rows, columns), size, strict=True)
        ]
    windows = list(product(rows, columns))
    for first in range(0, len(windows), batch_size):
        chosen = windows[first : first + batch_size]
        batch = np.stack([read_window(image, row, column) for row, column in chosen])
        for (row, column), predicted in zip(chosen, predict(batch), strict=True):
            if blend:
                _add_share(output, predicted, row, column, shares)
            else:
                _keep_core(output, predicted, row, column, geometry.margin_pixels)
    if blend:  # the shares of a pixel add up to 1 but for rounding
        probabilities = output[..., : output.shape[-1] - map_channels(model)]
        np.clip(probabilities, 0, 1, out=probabilities)
    return output


def as_image(image: ArrayLike, channels: int) -> np.ndarray:
    """Check an image against the network's channels; return it as (H, W, C).

    Raises:
        InputError: Not (H, W) or (H, W, C), another number of channels, no pixels, no numbers.
    """
    array = np.asarray(image)
    if array.dtype.kind not in "buif":
        raise InputError(f"the image has type {array.dtype}, expected whole or floating numbers")
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.size == 0:
        raise InputError(
            f"the image has shape {np.shape(image)}, expected (H, W) or (H, W, {channels})"
        )
    if array.shape[-1] != channels:
        raise InputError(
            f"the image has shape {np.shape(image)}, {array.shape[-1]} channels, but the network "
            f"takes {channels}: convert the image, or train with images of its kind"
        )
    return array


def _keep_core(
    output: np.ndarray, predicted: np.ndarray, row: Window, column: Window, margin: int
) -> None:
    """Copy what is right of a window's prediction to its place in the output."""
    (top, bottom), (left, right) = row.core, column.core
    y, x = row.start + margin, column.start + margin
    output[top:bottom, left:right] = predicted[top - y : bottom - y, left - x : right - x]


def _add_share(
    output: np.ndarray,
    predicted: np.ndarray,
    row: Window,
    column: Window,
    shares: list[dict[Window, Share]],
) -> None:
    """Add a window's prediction to the output, as much as is its share of each pixel."""
    (top, weights_down), (left, weights_across) = shares[0][row], shares[1][column]
    weights = weights_down[:, np.newaxis, np.newaxis] * weights_across[:, np.newaxis]
    y, x, (height, width) = top - row.start, left - column.start, weights.shape[:2]
    part = predicted[y : y + height, x : x + width]
    output[top : top + height, left : left + width] += weights * part


def _tile_that_fits(model: keras.Model, size: Size, geometry: UNetGeometry) -> Size:
    """Return the image's size, or the largest tiles whose windows stay below `WINDOW_BYTES`."""
    convolutions = (layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D))
    filters = next((layer.filters for layer in convolutions), 1)
    bytes_a_pixel = LIVE_MAPS * filters * np.dtype(np.float32).itemsize
    if size[0] * size[1] * bytes_a_pixel <= WHOLE_IMAGE_BYTES:
        return size
    window = isqrt(WINDOW_BYTES // bytes_a_pixel)
    surroundings = geometry.margin_pixels or geometry.receptive_pixels
    # With tiles smaller than their surroundings, most of the work would be done over and over.
    tile = max(window - 2 * surroundings, surroundings)
    return tile, tile


def has_group_normalization(model: keras.Model) -> bool:
    """Whether a network takes statistics from what it is shown, so that tiles differ from it."""
    return any(isinstance(layer, keras.layers.GroupNormalization) for layer in model.layers)


def warn_of_group_normalization() -> None:
    """Warn that tiles of a network with group normalization differ from the whole image."""
    warnings.warn(
        "group normalization takes its statistics from each tile, so tiles differ from the "
        "whole image; predict it whole, or train with batch normalization",
        UserWarning,
        stacklevel=3,
    )
