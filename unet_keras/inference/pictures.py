"""The images a prediction is asked for: files, folders, patterns, pages of stacks.

A picture is one page of one file. Its name, the file's without ending and for a stack the page's
number behind it, is what its results are called by.
"""

import glob
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile

from unet_keras.errors import InputError
from unet_keras.inference.asking import without_results
from unet_keras.sources.channels import fit_channels
from unet_keras.sources.images import list_images, page_count, read_image

_TIFF_SUFFIXES = (".tif", ".tiff")


@dataclass(frozen=True)
class Picture:
    """One image.

    Attributes:
        path: Its file.
        page: Which page of a stack, from 0; None where there is one.
        name: What results are called by.
    """

    path: Path
    page: int | None
    name: str

    @property
    def title(self) -> str:
        """What tables call it: the file's name, and the page's number of a stack."""
        return self.path.name if self.page is None else f"{self.path.name} page {self.page}"

    def read(self) -> np.ndarray:
        """Read it as grey values, uint8, uint16 or float32, (H, W) or (H, W, C).

        Raises:
            InputError: It is damaged or no image.
        """
        return read_image(self.path, page=self.page)


def find_pictures(arguments: Sequence[str]) -> list[Picture]:
    """Return the pictures that files, folders and patterns stand for, each once.

    A file that cannot be opened is one picture, whose reading tells what is wrong with it.

    Args:
        arguments: Paths of files and folders, or patterns as shells know them (`**` too).

    Raises:
        InputError: One of them stands for none, or for results of an earlier prediction alone, or
            two pictures would write the same results.
    """
    files: dict[Path, None] = {}
    for argument in arguments:
        paths = [Path(argument)]
        if not paths[0].exists() and glob.has_magic(argument):
            paths = [Path(name) for name in sorted(glob.glob(argument, recursive=True))]  # noqa: PTH207
            if not paths:
                raise InputError(f"No file matches {argument}; check the pattern and the folder.")
        files |= dict.fromkeys(image for entry in paths for image in list_images(entry))
    found: dict[str, Picture] = {}
    for path in without_results(list(files)):
        for picture in _pages(path):
            other = found.setdefault(picture.name, picture)
            if other.path.resolve() != path.resolve():
                raise InputError(
                    f"{other.path} and {path} would both write {picture.name}_mask.png: "
                    "predict them into folders of their own"
                )
    return list(found.values())


def _pages(path: Path) -> list[Picture]:
    try:
        pages = _count_pages(path)
    except InputError:
        pages = 1
    if pages == 1:
        return [Picture(path, None, path.stem)]
    digits = len(str(pages - 1))
    return [Picture(path, page, f"{path.stem}-{page:0{digits}d}") for page in range(pages)]


def _count_pages(path: Path) -> int:
    if path.suffix.lower() in _TIFF_SUFFIXES:
        try:
            with tifffile.TiffFile(path) as file:
                if file.pages:
                    return len(file.pages)
        except (tifffile.TiffFileError, OSError, ValueError, struct.error):
            pass  # Pillow reads some that tifffile does not
    return page_count(path)


def fit_image(image: np.ndarray, *, channels: int, dtype: np.dtype | None, name: str) -> np.ndarray:
    """Make an image one that a network takes, or refuse it: nothing is guessed of grey values.

    Args:
        image: (H, W) or (H, W, C).
        channels: Of the network. Colors become grey, and grey becomes colors, where it wants them.
        dtype: Of the images it was trained on; None takes any.
        name: Of the image, for the message.

    Returns:
        (H, W, channels), of `dtype` if given.

    Raises:
        InputError: It has other channels, values that are no numbers, or such as the type cannot
            hold.
    """
    image = fit_channels(image, channels)
    if image.shape[-1] != channels:
        raise InputError(f"{name} has {image.shape[-1]} channels, but the network takes {channels}")
    if image.dtype.kind == "f" and not np.isfinite(image).all():
        raise InputError(f"{name} has grey values that are NaN or infinite: replace them")
    if dtype is None or image.dtype == dtype:
        return image
    with np.errstate(invalid="ignore"):
        converted = image.astype(dtype)
    if dtype.kind == "u" and not np.array_equal(converted, image):
        raise InputError(
            f"{name} has {image.dtype} values from {image.min():g} to {image.max():g}, but the "
            f"network was trained on {dtype} images: convert it to {8 * dtype.itemsize} bit, with "
            "grey values like theirs, or have --normalize do so"
        )
    return converted
