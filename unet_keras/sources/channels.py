"""Colors and grey: images brought to the channels that a network takes.

    image  uint8, uint16 or float32  (H, W) or (H, W, C) -> (H, W, channels), same type

Microscope software saves grey images as colors all the time, JPEG and screenshots above all.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, cast

import numpy as np

from unet_keras.errors import InputError
from unet_keras.sources.base import Sample, SampleReference

# ITU-R BT.601.
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)

# What JPEG leaves in the other channels of a single color, as a share of it.
LEAKAGE = 0.05


def fit_channels(image: np.ndarray, channels: int, *, whole: bool = True) -> np.ndarray:
    """Bring an image to the channels a network takes: color to grey, grey to color.

    Grey that is stored as color comes back exactly, and so does a single color such as the blue of
    a nuclear stain; other colors become luminance, in the image's own type.

    Args:
        image: (H, W) or (H, W, C).
        channels: What the network takes.
        whole: Whether it is no part of an image, whose other parts may have other colors.

    Returns:
        (H, W, channels), the image's type; (H, W, C) unchanged where neither applies.
    """
    if image.ndim == 2:
        image = image[..., np.newaxis]
    if image.shape[-1] == 1 and channels == 3:
        return np.repeat(image, 3, axis=-1)
    if image.shape[-1] != 3 or channels != 1:
        return image
    if (image == image[..., :1]).all():
        return image[..., :1]
    only = single_color(np.abs(image).max(axis=(0, 1))) if whole else None
    if only is not None:
        return image[..., only : only + 1]
    grey = (image @ LUMINANCE)[..., np.newaxis]
    return np.rint(grey).astype(image.dtype) if image.dtype.kind == "u" else grey


def single_color(highest: np.ndarray) -> int | None:
    """Which of three channels holds a single color's grey values; None of other colors.

    Args:
        highest: (3,), the largest magnitude in each channel of a whole image.
    """
    _, middle, high = np.sort(highest)
    return int(np.argmax(highest)) if middle <= LEAKAGE * high else None


@dataclass(frozen=True)
class ChanneledReference(SampleReference):
    """A sample whose image is brought to so many channels when it is loaded.

    Attributes:
        stored: The sample as its files have it.
        channels: 1 or 3.
    """

    stored: SampleReference
    channels: int

    def load(self) -> Sample:
        """Read the sample and convert its image.

        Raises:
            InputError: As the stored sample; or its image has neither one nor three channels.
        """
        sample = self.stored.load()
        image = fit_channels(sample.image, self.channels)
        if image.shape[-1] != self.channels:
            raise InputError(
                f"{self.file_name} has {image.shape[-1]} channels, which source.channels="
                f"{self.channels} cannot turn into {self.channels}: save it as grey or RGB, or "
                "leave source.channels out"
            )
        image = image[..., 0] if self.channels == 1 else image
        return replace(sample, image=image, split=self.split)

    @property
    def instance_count(self) -> int:
        """How many instances are annotated, where the source knows without reading them."""
        return int(cast(Any, self.stored).instance_count)

    @property
    def class_count(self) -> int:
        """K, the classes that its source knows; at least 1."""
        return self.stored.class_count

    def fingerprint(self) -> str:
        """State what decides the sample: what is stored, and the channels."""
        own = getattr(self.stored, "fingerprint", self.stored.__repr__)
        return f"{type(self.stored).__name__} {own()} {self.channels}"


def in_channels(references: Sequence[SampleReference], channels: int) -> list[SampleReference]:
    """Let samples have so many channels when they are loaded; names and splits stay.

    Args:
        references: As their source lists them.
        channels: 1 or 3.
    """
    return [
        ChanneledReference(
            **{field.name: getattr(stored, field.name) for field in fields(SampleReference)},
            stored=stored,
            channels=channels,
        )
        for stored in references
    ]
