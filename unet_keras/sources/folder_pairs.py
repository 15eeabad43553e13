"""Which mask belongs to which image, and what the masks' values mean."""

import logging
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from unet_keras.errors import InputError
from unet_keras.settings.checks import is_text
from unet_keras.sources.base import counted
from unet_keras.sources.imagej import SUFFIXES as OUTLINES
from unet_keras.sources.images import page_count, read_mask
from unet_keras.sources.label_outlines import label_components
from unet_keras.sources.listing import SUFFIXES, list_images

logger = logging.getLogger(__name__)

# How masks are named after their images: cell_mask.png, cell-labels.tif, cell_cp_masks.png, ...
_MASK_ENDING = re.compile(
    r"[ _-]?(cp_)?(masks?|labels?|seg|segmentation|annotations?|gt|instances?|rois?|roiset)$",
    re.IGNORECASE,
)
_MASK_BEGINNING = re.compile(r"^(masks?|labels?|seg|gt)[ _-]", re.IGNORECASE)
_OME = ".ome"  # before the suffix
_LOSSY = (".jpg", ".jpeg")
_LOOKED_AT = 32  # masks that decide what all mean
_MOST_CLASSES = 16


class ImageMask(NamedTuple):
    """An image and its mask.

    Attributes:
        name: The image's path below its folder, without suffix; with the page for stacks.
        image: The image, or the stack it is a page of.
        mask: The mask, or the stack it is a page of.
        page: The image's page, counted from 0; None for single images.
        mask_page: Likewise the mask's: the same, or None where it is a file by itself.
    """

    name: str
    image: Path
    mask: Path
    page: int | None = None
    mask_page: int | None = None


def outlines_below(masks: Path) -> list[Path]:
    """The outlines of ImageJ in a folder, or the file if it is one."""
    try:
        files = list_images(masks, recursive=True, suffixes=OUTLINES)
    except InputError:
        return []
    return [file for file in files if file.suffix.lower() in OUTLINES]


def only_outlines(masks: Path) -> bool:
    """Whether a folder holds ImageJ's outlines and no image, or is a file of them."""
    outlines = outlines_below(masks)
    if masks.is_file() or not outlines:
        return bool(outlines)
    try:
        list_images(masks, recursive=True)
    except InputError:
        return True
    return False


def pair_files(images: Path, masks: Path, *, outlines: bool = False) -> list[ImageMask]:
    """Find the mask of each image, and of each page of a stack.

    The mask of a stack is a stack of as many pages; or pages have files of their own, such as
    `stack-3_mask.png`, as predictions have, and those without one are left out.

    Args:
        images: Folder of images or stacks at any depth, or one of them.
        masks: Likewise of masks.
        outlines: Whether masks are ImageJ's outlines, beside which images may lie.

    Raises:
        InputError: A folder is absent or empty, an image has no mask or several, a mask is a
            JPEG, two stacks have different numbers of pages, or a name is no UTF-8.
    """
    image_files = list_images(images, recursive=True)
    if not masks.exists():
        raise InputError(
            f"No folder or mask at source.annotations={masks}; give the folder that holds the "
            "masks."
        )
    suffixes = OUTLINES if outlines else SUFFIXES
    mask_files = list_images(masks, recursive=True, suffixes=suffixes)
    mask_of = _by_name(masks, mask_files)
    pairs: list[ImageMask] = []
    absent = []
    names: dict[str, Path] = {}
    for image in image_files:
        name = _key(image, images)
        if names.setdefault(name, image) != image:
            raise InputError(f"{names[name]} and {image} have one name; rename one of them.")
        pages = page_count(image)
        found = _masks_of_pages(name, image, pages, mask_of)
        mask = mask_of.get(name)
        if not found and len(image_files) == len(mask_files) == 1:
            mask = mask_files[0]  # two files may be named as they like
        if mask is not None:
            found = _pages(name, image, pages, mask, 1 if outlines else page_count(mask))
        pairs += found
        if not found:
            absent.append(image)
    if absent:
        raise InputError(
            f"{len(absent)} of {len(image_files)} images in {images} have no mask in {masks}, the "
            f"first is {absent[0].name}; name masks like their images, {absent[0].stem}.png or "
            f"{absent[0].stem}_mask.png{_or_outlines(masks, mask_files)}."
        )
    _check(pairs)
    used = {pair.mask for pair in pairs}
    ignored = [mask for mask in mask_files if mask not in used]
    if ignored:
        logger.warning(
            "%s in %s without an image in %s, left out; the first is %s",
            counted(len(ignored), "mask"), masks, images, ignored[0].name,
        )  # fmt: skip
    return pairs


def _by_name(masks: Path, mask_files: Sequence[Path]) -> dict[str, Path]:
    """The masks by what the image of each may be called."""
    mask_of: dict[str, Path] = {}
    for mask in mask_files:
        for key in {_key(mask, masks), _key(mask.with_name(_plain(mask)), masks)}:
            if key in mask_of:
                raise InputError(f"{mask_of[key]} and {mask} could both be a mask of {key}.")
            mask_of[key] = mask
    return mask_of


def _pages(name: str, image: Path, pages: int, mask: Path, mask_pages: int) -> list[ImageMask]:
    """An image and its mask, or two stacks page by page."""
    if pages != mask_pages:
        mend = f", or give each page a mask of its own, {image.stem}-0_mask.png" * (pages > 1)
        raise InputError(
            f"{image} has {pages} pages, its mask {mask} has {mask_pages}; make them equal{mend}."
        )
    if pages == 1:
        return [ImageMask(name, image, mask)]
    return [ImageMask(f"{name}-{page}", image, mask, page, page) for page in range(pages)]


def _masks_of_pages(
    name: str, image: Path, pages: int, mask_of: Mapping[str, Path]
) -> list[ImageMask]:
    """The pages of a stack that have files of their own, numbered as predictions number them."""
    if pages == 1:
        return []
    digits = len(str(pages - 1))
    found = []
    for page in range(pages):
        names = (f"{name}-{page}", f"{name}-{page:0{digits}d}")
        mask = next((mask_of[one] for one in names if one in mask_of), None)
        if mask is not None:
            found.append(ImageMask(f"{name}-{page}", image, mask, page))
    if 0 < len(found) < pages:
        logger.warning(
            "%s: %d of %d pages have no mask, left out", image, pages - len(found), pages
        )
    return found


def _check(pairs: Sequence[ImageMask]) -> None:
    """Refuse names that records cannot hold, and masks that are images or JPEGs."""
    for name, image, mask, _, _ in pairs:
        if not is_text(name + image.name):
            raise InputError(
                f"The name of {os.fsencode(image)!r} is no text in UTF-8, as records need it; "
                "rename the file or its folder."
            )
        if image.samefile(mask):
            raise InputError(
                f"{mask} is given as an image and as its mask; give the folder of the masks as "
                "source.annotations."
            )
        if mask.suffix.lower() in _LOSSY:
            raise InputError(f"The mask {mask} is a JPEG, which changes values; save it as PNG.")


def _or_outlines(masks: Path, taken: Sequence[Path]) -> str:
    """What to add where a folder holds outlines that were not looked at."""
    unseen = set(outlines_below(masks)).difference(taken)
    return ", or take its outlines of ImageJ: source.mask_kind=rois" if unseen else ""


def _key(file: Path, folder: Path) -> str:
    folder = folder.parent if file.parent == folder.parent else folder  # which may be a file
    return file.relative_to(folder).with_suffix("").as_posix()


def _plain(mask: Path) -> str:
    """The name of a mask without what only says that it is one."""
    stem, without = mask.stem, mask.stem.removesuffix(_OME)
    if without != stem and _MASK_ENDING.search(without):  # NAME_labels.ome.tif
        stem = without
    stem = _MASK_BEGINNING.sub("", _MASK_ENDING.sub("", stem))
    return (stem or mask.stem) + mask.suffix


def image_names(mask: Path) -> set[str]:
    """The names, without suffix, that the image may have whose mask this is."""
    return {mask.stem, Path(_plain(mask)).stem}


def mask_values(pair: ImageMask) -> set[int]:
    """The values of a mask that are not background: whole numbers above 0."""
    return set(np.unique(read_mask(pair.mask, page=pair.mask_page)).tolist()) - {0}


def decide_kind(pairs: Sequence[ImageMask]) -> str:
    """Tell binary masks, instance numbers and class numbers apart, by some of the masks.

    One value is binary. Several are class numbers where each has many connected components, and
    instance numbers where hardly any has more than one.

    Raises:
        InputError: They could be either.
    """
    step = -(-len(pairs) // _LOOKED_AT)
    values: set[int] = set()
    values_in_masks = components = 0
    for pair in pairs[::step]:
        _, value_of = label_components(read_mask(pair.mask, page=pair.mask_page))
        found = set(value_of.tolist())
        values |= found
        values_in_masks += len(found)
        components += len(value_of)
    if len(values) <= 1 or values == {1, 255}:  # two programs' ways to save one
        return "binary"
    per_value = components / values_in_masks
    if per_value >= 3 and len(values) <= _MOST_CLASSES:
        return "classes"
    if per_value <= 1.5 and len(values) > 2:
        return "labels"
    hint = ""
    if per_value >= 3:  # and more values than classes would have
        hint = " Or are images given where masks belong (source.annotations)?"
    raise InputError(
        f"The masks beside {pairs[0].image} have {len(values)} values with {per_value:.1f} "
        "connected components each; say what they mean: source.mask_kind=labels (a value is an "
        f"instance) or source.mask_kind=classes (a value is a class).{hint}"
    )
