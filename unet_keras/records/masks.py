"""Images and masks as grey PNG files in separate folders, for programs that read no records.

DIR/images/<split>/NAME.png   uint8 or uint16 (H, W)  grey values
DIR/masks/<split>/NAME.png    uint8 (H, W)            0 background, 255; or the class where several

The masks are the foreground that is learned: touching instances are apart in them where records
have them apart. As `source.kind=folders`, DIR/images and DIR/masks give the same splits again.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unet_keras.errors import InputError
from unet_keras.records.build import TargetSettings
from unet_keras.records.parts import PART_IMAGES, replacing
from unet_keras.records.schema import encode_png
from unet_keras.records.workers import run_tasks
from unet_keras.sources.base import SampleReference
from unet_keras.targets.labels import paint_labels, separate_touching

FOLDERS = ("images", "masks")
_OF_SYSTEMS = ("Thumbs.db", "desktop.ini")  # which Windows puts into folders that are looked at
_LUMA = (0.299, 0.587, 0.114)  # of red, green and blue in grey (ITU-R BT.601)


@dataclass(frozen=True, eq=False)
class MaskTask:
    """A few images for one process.

    Attributes:
        references: The images.
        names: The file of each below `images` and `masks`, `train/NAME.png`.
        directory: Where to.
        settings: What the masks are made with.
        one_class: Whether foreground is 255, else the class index.
    """

    references: tuple[SampleReference, ...]
    names: tuple[str, ...]
    directory: Path
    settings: TargetSettings
    one_class: bool


def mask_names(references: Sequence[SampleReference], directory: Path) -> list[str]:
    """Name the files of the images, and see that there is nothing else in their folders.

    Names are the images' own; their ids where two images of a split have one name.

    Args:
        references: The images.
        directory: DIR; it need not be there.

    Returns:
        `train/NAME.png` for each.

    Raises:
        InputError: Other files are there: with another split, an image would be in two.
    """
    stems = [(one.split, _plain(Path(one.file_name).stem)) for one in references]
    times = Counter(stems)
    names = [
        f"{split}/{stem if times[split, stem] == 1 else _plain(one.image_id)}.png"
        for (split, stem), one in zip(stems, references, strict=True)
    ]
    if len(set(names)) < len(names):
        names = [f"{name[:-4]}-{k}.png" for k, name in enumerate(names)]
    _refuse_others(directory, set(names))
    return names


def demand_own_folder(directory: Path, sources: Mapping[str, Path]) -> None:
    """Refuse to write between files that are read: it could replace them.

    Args:
        directory: DIR; it need not be there.
        sources: What the images and annotations are read from, by the name of their key.

    Raises:
        InputError: One of them is DIR/images or DIR/masks, or in them, or the other way round.
    """
    for folder in FOLDERS:
        target = (directory / folder).resolve()
        for name, source in sources.items():
            place = source.resolve()
            if place.is_relative_to(target) or target.is_relative_to(place):
                raise InputError(
                    f"--write-masks {directory} would write into {target}, but {name}={source} is "
                    "read from there; give a folder of its own."
                )


def make_folders(directory: Path, references: Sequence[SampleReference]) -> None:
    """Make the folders of the files, before hours of work turn out to have nowhere to go.

    Args:
        directory: DIR; made where it is absent.
        references: The images.

    Raises:
        InputError: They cannot be made.
    """
    try:
        for folder in FOLDERS:
            for split in sorted({one.split for one in references}):
                (directory / folder / split).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"--write-masks {directory} cannot be written to ({error.filename}: "
            f"{error.strerror}); give another folder."
        ) from error


def write_masks(
    references: Sequence[SampleReference],
    names: Sequence[str],
    directory: Path,
    settings: TargetSettings,
    *,
    num_classes: int = 1,
    workers: int | None = None,
) -> Iterator[int]:
    """Write an image, uint8 or uint16 (H, W), and a mask, uint8 (H, W), for each reference.

    Files that are there are replaced.

    Args:
        references: The images.
        names: From `mask_names`.
        directory: DIR, as `make_folders` left it.
        settings: What the masks are made with.
        num_classes: K, at least 1; with more than one, masks hold the class index.
        workers: Processes, at least 1; None takes one a core.

    Yields:
        How many images were just written.

    Raises:
        InputError: An image is damaged, or the disk is full.
    """
    tasks = [
        MaskTask(
            tuple(references[start : start + PART_IMAGES]),
            tuple(names[start : start + PART_IMAGES]),
            directory,
            settings,
            num_classes == 1,
        )
        for start in range(0, len(references), PART_IMAGES)
    ]
    yield from run_tasks(write_some, tasks, workers=workers)


def write_some(task: MaskTask) -> int:
    """Write the files of one task; return its number of images."""
    for reference, name in zip(task.references, task.names, strict=True):
        sample = reference.load()
        labels = paint_labels(sample.outlines, sample.size, overlap=task.settings.overlap)
        foreground = separate_touching(labels) if task.settings.separate else labels
        values = np.full(len(sample.classes), 255, np.uint8) if task.one_class else sample.classes
        mask = np.concatenate([np.zeros(1, np.uint8), values])[foreground]
        for folder, pixels in zip(FOLDERS, (grey_image(sample.image), mask), strict=True):
            with replacing(task.directory / folder / name) as temporary:
                temporary.write_bytes(encode_png(pixels))
    return len(task.references)


def grey_image(image: np.ndarray) -> np.ndarray:
    """Bring an image into what a grey PNG holds.

    Args:
        image: uint8, uint16 or float32, (H, W) or (H, W, C).

    Returns:
        uint8 or uint16 (H, W): the values themselves where there is one channel of whole numbers;
        RGB by its brightness, other channels by their mean; fractions stretched to 16 bits.
    """
    if image.ndim == 3 and image.shape[-1] == 1:
        image = image[..., 0]
    values = image
    if image.ndim == 3:
        values = image @ np.array(_LUMA) if image.shape[-1] == 3 else image.mean(axis=-1)
    if image.dtype.kind == "u":
        return values if values is image else np.rint(values).astype(image.dtype)
    finite = np.nan_to_num(values.astype(np.float64))
    low, high = finite.min(), finite.max()
    return np.rint((finite - low) / ((high - low) or 1.0) * 65535).astype(np.uint16)


def _plain(name: str) -> str:
    """A name that is a file's on every system."""
    return re.sub(r"[^\w.()+-]+", "_", name).strip(".") or "image"


def _refuse_others(directory: Path, names: set[str]) -> None:
    for folder in FOLDERS:
        top = directory / folder
        for file in sorted(file for file in top.rglob("*") if file.is_file()):
            name = file.relative_to(top).as_posix()
            if file.name.startswith(".") or file.name in _OF_SYSTEMS:
                continue
            if re.sub(r"\.\d+\.temporary$", "", name) in names:
                if name not in names:  # an interrupted run left it half-written
                    file.unlink()
                continue
            raise InputError(
                f"{file} is not of these images; --write-masks takes a folder of its own: give "
                f"another one, or remove {directory}."
            )
