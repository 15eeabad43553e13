"""What every source yields: one annotated image.

    image     uint8, uint16 or float32  (H, W) or (H, W, C)  grey values as read
    outlines  n compressed COCO run-length codes of size (H, W), one an instance; they may overlap
    classes   uint8 (n,)  class index 1..K of each instance

A `SampleReference` is the cheap half: it says where a sample is and loads it on demand, so that
lists of a million instances stay small and travel to worker processes.
"""

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unet_keras.errors import InputError
from unet_keras.settings.checks import is_text

SPLITS = ("train", "val", "test")


def counted(number: int, noun: str) -> str:
    """Say how many: `1 image`, `2 images`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def demand_text(path: Path) -> None:
    """Refuse a file whose name cannot be written as UTF-8, as of archives from elsewhere.

    Raises:
        InputError: Names it.
    """
    if not is_text(path.name):
        raise InputError(
            f"The name of {os.fsencode(path)!r} is no text in UTF-8, as tables need it; rename the "
            "file"
        )


@dataclass(frozen=True, eq=False)
class Sample:
    """One annotated image, loaded.

    Attributes:
        image_id: Unique within its source.
        file_name: The image's name, without folders.
        split: One of `SPLITS`.
        group: What scores are broken down by, the cell type in LIVECell.
        image: uint8, uint16 or float32, (H, W) or (H, W, C).
        outlines: The `counts` of one compressed COCO run-length code of size (H, W) an instance.
        classes: uint8 (n,), class index 1..K of each instance.
    """

    image_id: str
    file_name: str
    split: str
    group: str
    image: np.ndarray
    outlines: tuple[bytes, ...]
    classes: np.ndarray

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        height, width = self.image.shape[:2]
        return height, width


@dataclass(frozen=True)
class SampleReference(ABC):
    """Where a sample is; small and picklable.

    Attributes:
        image_id: Unique within its source.
        file_name: The image's name, without folders.
        split: One of `SPLITS`.
        group: What scores are broken down by, the cell type in LIVECell.
    """

    image_id: str
    file_name: str
    split: str
    group: str

    @property
    def class_count(self) -> int:
        """K, the classes that its source knows, be they in this image or not; at least 1."""
        return 1

    @abstractmethod
    def load(self) -> Sample:
        """Read the image and its instances.

        Raises:
            InputError: The image is absent, damaged or of another size than its annotations say.
        """
