"""The images a prediction is asked for: files, folders, patterns, pages of stacks.

A picture is one page of one file. Its name, the file's without ending and for a stack the page's
number behind it, is what its results are called by.
"""

import glob
import logging
import math
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile

from unet_keras.errors import InputError
from unet_keras.inference.asking import tell_images_below, without_results
from unet_keras.sources.base import counted, demand_text
from unet_keras.sources.channels import fit_channels
from unet_keras.sources.images import page_count, read_image
from unet_keras.sources.listing import SUFFIXES, list_images
from unet_keras.sources.tiff_pages import full_pages

logger = logging.getLogger(__name__)

_TIFF_SUFFIXES = (".tif", ".tiff")
CASES_DIFFER = sys.platform not in ("darwin", "win32")  # of the names of files
# What damaged files and metadata make tifffile raise.
_DAMAGE = (
    tifffile.TiffFileError, OSError, ValueError, KeyError, IndexError, TypeError, struct.error
)  # fmt: skip


@dataclass(frozen=True)
class Picture:
    """One image.

    Attributes:
        path: Its file.
        page: Which page of a stack, from 0; None where there is one.
        name: What results are called by.
        sample: Which of the numbers of each pixel is taken, from 0; None takes all.
    """

    path: Path
    page: int | None
    name: str
    sample: int | None = None

    @property
    def title(self) -> str:
        """What tables call it: the file's name, and the page's number of a stack."""
        return self.path.name if self.page is None else f"{self.path.name} page {self.page}"

    def read(self) -> np.ndarray:
        """Read it as grey values, uint8, uint16 or float32, (H, W) or (H, W, C).

        Raises:
            InputError: It is damaged or no image, or lacks the channel.
        """
        image = read_image(self.path, page=self.page)
        if self.sample is None:
            return image
        held = 1 if image.ndim == 2 else image.shape[-1]
        if self.sample >= held:
            raise no_channel(self.path, self.sample, held)
        return image if image.ndim == 2 else image[..., self.sample]


def find_pictures(arguments: Sequence[str], *, channel: int | None = None) -> list[Picture]:
    """Return the pictures that files, folders and patterns stand for, each once.

    A file that cannot be opened is one picture, whose reading tells what is wrong with it.

    Args:
        arguments: Paths of files and folders, or patterns as shells know them (`**` too).
        channel: Which channel of stacks that hold several as pages, or of images of several, from
            0; None takes all.

    Raises:
        InputError: One of them stands for none, or for results of an earlier prediction alone, or
            two pictures would write the same results, or a file lacks the channel.
    """
    files: dict[Path, None] = {}
    for argument in arguments:
        paths = [Path(argument)]
        if not paths[0].exists() and glob.has_magic(argument):
            paths = [Path(name) for name in sorted(glob.glob(argument, recursive=True))]  # noqa: PTH207
            paths = _without_other_files(paths)
            if not paths:
                raise InputError(f"No file matches {argument}; check the pattern and the folder.")
        elif paths[0].is_dir():
            tell_images_below(paths[0])
        files |= dict.fromkeys(image for entry in paths for image in list_images(entry))
    found: dict[str, Picture] = {}
    mixed: list[str] = []
    for path in without_results(list(files)):
        demand_text(path)
        channels = _channels_of_pages(path)
        held = max(channels) + 1
        if channel is not None and channel >= held > 1:
            raise no_channel(path, channel, held)
        if channel is None and held > 1:
            mixed.append(f"{path} holds {held} channels")
        for picture in _pages(path, channels, channel):
            name = picture.name if CASES_DIFFER else picture.name.casefold()
            other = found.setdefault(name, picture)
            if other.path.resolve() != path.resolve():
                raise InputError(
                    f"{other.path} and {path} would both write {picture.name}_mask.png: "
                    "predict them into folders of their own"
                )
    if mixed:
        more = f" (and {counted(len(mixed) - 1, 'file')} more alike)" if mixed[1:] else ""
        logger.warning(
            "%s%s: all of them are segmented; --channel 0 takes the first alone", mixed[0], more
        )
    return list(found.values())


def no_channel(path: Path, channel: int, held: int) -> InputError:
    """What to raise where a file lacks the channel that is asked for."""
    return InputError(
        f"--channel {channel}: {path} holds {counted(held, 'channel')}, counted from 0"
    )


def _without_other_files(paths: Sequence[Path]) -> list[Path]:
    """Leave out what a pattern such as `**/*.*` finds beside images; all, where nothing is one."""
    kept = [path for path in paths if path.is_dir() or path.suffix.lower() in SUFFIXES]
    if kept and len(kept) < len(paths):
        other = next(path for path in paths if path not in set(kept))
        left = counted(len(paths) - len(kept), "file")
        logger.warning("left out: %s that are no images, such as %s", left, other)
    return kept or list(paths)


def _pages(path: Path, channels: Sequence[int], channel: int | None) -> list[Picture]:
    """The pictures of a file: its pages, or those of a channel, named by their numbers in it."""
    sample = channel if max(channels) == 0 else None  # pages hold one each, or all
    if len(channels) == 1:
        return [Picture(path, None, path.stem, sample)]
    digits = len(str(len(channels) - 1))
    return [
        Picture(path, page, f"{path.stem}-{page:0{digits}d}", sample)
        for page, its in enumerate(channels)
        if sample is not None or channel in (None, its)
    ]


def _channels_of_pages(path: Path) -> list[int]:
    """Which channel each page holds; 0 where nothing says, and of a file that cannot be opened."""
    if path.suffix.lower() in _TIFF_SUFFIXES:
        try:
            with tifffile.TiffFile(path) as file:
                if len(file.pages) > 1:
                    return _stated_channels(file)[: full_pages(file)]
        except _DAMAGE:
            pass  # Pillow reads some that tifffile does not
    try:
        return [0] * page_count(path)
    except InputError:
        return [0]


def _stated_channels(file: tifffile.TiffFile) -> list[int]:
    """The channel of each page as ImageJ or OME metadata say, which name axes such as TCYX."""
    pages = len(file.pages)
    unknown = [0] * pages
    if not (file.is_imagej or file.is_ome):
        return unknown
    series = file.series[0]
    axes = series.axes[: -3 if series.axes.endswith("S") else -2]
    sides = series.shape[: len(axes)]
    if "C" not in axes or math.prod(sides) != pages:
        return unknown
    return [int(number) for number in np.unravel_index(range(pages), sides)[axes.index("C")]]


def fit_image(
    image: np.ndarray, *, channels: int, dtype: np.dtype | None, name: str, whole: bool = True
) -> np.ndarray:
    """Make an image one that a network takes, or refuse it: nothing is guessed of grey values.

    Args:
        image: (H, W) or (H, W, C).
        channels: Of the network. Colors become grey, and grey becomes colors, where it wants them.
        dtype: Of the images it was trained on; None takes any.
        name: Of the image, for the message.
        whole: Whether it is no part of an image, whose other parts may have other colors.

    Returns:
        (H, W, channels), of `dtype` if given.

    Raises:
        InputError: It has other channels, values that are no numbers, or such as the type cannot
            hold.
    """
    image = fit_channels(image, channels, whole=whole)
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
