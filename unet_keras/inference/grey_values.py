"""Grey values of any microscope brought to those of the training images.

    image    uint8, uint16 or float32 (H, W, C)  as the microscope wrote it
    matched  the training's type (H, W, C)       same mean and standard deviation as the training's

Cells look alike under another exposure, gain or depth of 16 bits, but for an offset and a factor; a
network that was trained on one exposure knows no other. Images without any cells are stretched too.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np

from unet_keras.errors import InputError
from unet_keras.inference.tiff import TILE, Slices, TiffRegions
from unet_keras.records.statistics import GreyValues


@dataclass(frozen=True)
class TrainedOn:
    """The grey values that a network was trained on.

    Attributes:
        mean: Over all training images, their pixels and channels.
        deviation: Their standard deviation, above 0.
        dtype: uint8, uint16 or float32.
    """

    mean: float
    deviation: float
    dtype: np.dtype

    @classmethod
    def of(cls, metadata: Mapping[str, Any], model: Path) -> "TrainedOn":
        """What the metadata of a model say of them.

        Raises:
            InputError: They say nothing.
        """
        if not {"normalization", "image_dtype"} <= metadata.keys():
            raise InputError(
                f"{model} does not say what grey values it was trained on, so images cannot be "
                "normalized to them: give the run folder, or the saved_model exported from it"
            )
        known = metadata["normalization"]
        return cls(known["mean"], known["scale"], np.dtype(metadata["image_dtype"]))

    def match(self, image: np.ndarray, measured: GreyValues | None = None) -> np.ndarray:
        """Shift and scale grey values to the training's mean and standard deviation.

        Args:
            image: uint8, uint16 or float32, of any shape.
            measured: Grey values of the whole image where `image` is a part of it.

        Returns:
            Of `dtype`, rounded and cut at its limits where it is an integer; where all grey values
            are equal, the mean.
        """
        values = measured or GreyValues.of(image)
        deviation = sqrt(values.squares / values.count)
        # Float32 holds 24 bits: rounding errors of a mean that is large beside what is left.
        flat = deviation <= 1e-6 * abs(values.mean)
        factor = 0.0 if flat else self.deviation / deviation
        matched = (image.astype(np.float32) - np.float32(values.mean)) * np.float32(factor)
        matched += np.float32(self.mean)
        if self.dtype.kind == "u":
            matched = np.clip(np.rint(matched), 0, np.iinfo(self.dtype).max)
        return matched.astype(self.dtype)


class MatchedRegions:
    """An image that is read region by region, matched to a training's grey values.

    Args:
        image: As its file has it.
        measured: The grey values of all of it (`measure`).
        trained_on: What it is matched to.

    Attributes:
        shape: (H, W, C).
        dtype: The training's.
    """

    ndim = 3

    def __init__(self, image: TiffRegions, measured: GreyValues, trained_on: TrainedOn) -> None:
        self.shape, self.dtype = image.shape, trained_on.dtype
        self._image, self._measured, self._trained_on = image, measured, trained_on

    def __getitem__(self, region: Slices) -> np.ndarray:
        """Read a region as (h, w, C)."""
        return self._trained_on.match(self._image[region], self._measured)


def measure(image: TiffRegions) -> GreyValues:
    """Measure the grey values of an image that is larger than memory."""
    grey = GreyValues()
    height, width = image.shape[:2]
    for top in range(0, height, TILE):
        grey.add(GreyValues.of(image[top : top + TILE, 0:width]))
    return grey
