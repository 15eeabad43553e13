"""Predicting an image larger than memory, strip by strip, into a file that outlives a kill.

    FOLDER/probability.raw  float32 (rows so far, W)  probability of foreground, whole strips only
    FOLDER/state.json       what decides them; another model or image begins anew

A strip is a row of windows (`inference.windows`). So the result is that of `predict_tiled`, and
memory holds a strip of the result and what the network needs for a window.
"""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import keras
import numpy as np

from unet_keras.inference.compiling import compiled_prediction
from unet_keras.inference.grey_values import MatchedRegions
from unet_keras.inference.instances import foreground_of
from unet_keras.inference.outlines import as_cells
from unet_keras.inference.tiff import TiffRegions
from unet_keras.inference.tiling import has_group_normalization, warn_of_group_normalization
from unet_keras.inference.windows import plan_windows, read_window
from unet_keras.model.geometry import geometry_of, map_channels
from unet_keras.pipeline.kinds import Kind

logger = logging.getLogger(__name__)

PROBABILITY = "probability.raw"
STATE = "state.json"


def claim(folder: Path, identity: dict[str, Any]) -> bool:
    """Take up what an earlier run of the same left in a folder, or begin anew.

    Args:
        folder: For what is unfinished.
        identity: What decides the result; JSON values.

    Returns:
        Whether there is something to take up.
    """
    state = folder / STATE
    text = json.dumps(identity, sort_keys=True)
    if state.is_file() and state.read_text(encoding="utf-8") == text:
        return True
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    state.write_text(text, encoding="utf-8")
    return False


def predict_strips(
    model: keras.Model,
    image: TiffRegions | MatchedRegions,
    folder: Path,
    *,
    tile: int,
    halo: int | None = None,
    kind: Kind = "cells",
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> None:
    """Write the probability of foreground of a whole image to `FOLDER/probability.raw`.

    Args:
        model: A network of `build_unet`.
        image: What to predict, with the network's channels.
        folder: From `claim`; strips that are complete are not predicted again.
        tile: Side of the tiles in pixels.
        halo: As for `predict_tiled`.
        kind: What the network learned; not `boundary`, whose cells are found in whole images only.
        progress: Called with the rows that are done and all rows, after each strip.
    """
    height, width = image.shape[:2]
    geometry = geometry_of(model)
    rows, columns = (plan_windows(side, tile, geometry, halo=halo) for side in (height, width))
    if len(rows) * len(columns) > 1 and has_group_normalization(model):
        warn_of_group_normalization()
    predict, maps = compiled_prediction(model, image.dtype, fixed=True), map_channels(model)
    pixels = cast(np.ndarray, image)  # read region by region, it is like one
    margin, row_bytes = geometry.margin_pixels, width * np.dtype(np.float32).itemsize
    path = folder / PROBABILITY
    complete = path.stat().st_size // row_bytes if path.exists() else 0
    done = max((row.core[1] for row in rows if row.core[1] <= complete), default=0)
    with path.open("ab") as file:
        file.truncate(done * row_bytes)
        progress(done, height)
        for row in rows:
            top, bottom = row.core
            if bottom <= done:
                continue
            strip = np.empty((bottom - top, width), np.float32)
            y = row.start + margin
            for column in columns:
                left, right = column.core
                x = column.start + margin
                window = predict(read_window(pixels, row, column)[np.newaxis])[0]
                core = window[top - y : bottom - y, left - x : right - x]
                strip[:, left:right] = foreground_of(as_cells(core, kind, maps))
            file.write(strip.tobytes())
            file.flush()
            progress(bottom, height)


def read_raw(
    path: Path, shape: tuple[int, int], dtype: Any, rows: slice, columns: slice
) -> np.ndarray:
    """Read a region of a raw file of (H, W); it is mapped anew, so that nothing stays in memory."""
    return np.array(np.memmap(path, dtype, "r", shape=shape)[rows, columns])
