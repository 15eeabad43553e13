"""Folders of images and of their masks, and the multi-page stacks of ISBI 2012.

    IMAGES/**/NAME.png     or IMAGES a stack of pages, or a folder of stacks
    MASKS/**/NAME.png      the same name, or with _mask, _label, _seg, ... behind it; of a stack
                           a stack, or NAME-3.png for each page (from 0) that has a mask
    mask   binary          everything above 0 is foreground, its connected components are instances
           labels          each value is an instance
           classes         each value is a class, the connected components of each are instances
           rois            ImageJ's outlines, NAME_rois.zip, each is an instance

Splits are folders `train`, `val`, `test` below IMAGES where there are such; else lists of names;
else drawn by a seed, all pages of a stack into one. A stack alone is cut into runs of its pages.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unet_keras.errors import InputError
from unet_keras.sources.base import SPLITS, Sample, SampleReference
from unet_keras.sources.folder_pairs import (
    ImageMask,
    decide_kind,
    mask_values,
    only_outlines,
    outlines_below,
    pair_files,
)
from unet_keras.sources.folder_splits import (
    cut_in_order,
    demand_enough_groups,
    draw_splits,
    files_of,
    listed_splits,
)
from unet_keras.sources.grouping import group_of
from unet_keras.sources.imagej import read_outlines
from unet_keras.sources.images import read_image, read_mask
from unet_keras.sources.label_outlines import label_components, trace_labels

logger = logging.getLogger(__name__)

MASK_KINDS = ("auto", "binary", "labels", "classes", "rois")
MOST_CLASSES = 255  # a record has a byte for the class of each instance


@dataclass(frozen=True)
class FolderReference(SampleReference):
    """One image and its mask.

    Attributes:
        image_path: The image, or the stack it is a page of.
        mask_path: The mask, or the stack it is a page of.
        page: The image's page, counted from 0; None for single images.
        mask_page: Likewise the mask's: the same, or None where it is a file by itself.
        kind: What the mask's values mean, one of `MASK_KINDS` without `auto`.
        class_values: The mask's value, above 0, of class 1, 2, ...; empty unless `kind` is
            `classes`.
    """

    image_path: Path
    mask_path: Path
    page: int | None
    mask_page: int | None
    kind: str
    class_values: tuple[int, ...] = ()

    def load(self) -> Sample:
        """Read the image and its mask, and find the instances.

        Raises:
            InputError: A file is damaged, the two differ in size, or the mask has values that its
                kind has not.
        """
        image = read_image(self.image_path, page=self.page)
        if self.kind == "rois":
            size = (image.shape[0], image.shape[1])
            drawn = read_outlines(self.mask_path, size)
            return self._sample(image, drawn, np.ones(len(drawn), np.uint8))
        mask = read_mask(self.mask_path, page=self.mask_page)
        if image.shape[:2] != mask.shape:
            raise InputError(
                f"{self.mask_path} is {mask.shape[1]} x {mask.shape[0]} pixels (width x height), "
                f"its image {self.image_path} {image.shape[1]} x {image.shape[0]}; they must be "
                "equal."
            )
        return self._sample(image, *self._instances(mask))

    def _sample(self, image: np.ndarray, outlines: list[bytes], classes: np.ndarray) -> Sample:
        return Sample(
            image_id=self.image_id,
            file_name=self.file_name,
            split=self.split,
            group=self.group,
            image=image,
            outlines=tuple(outlines),
            classes=classes,
        )

    def _instances(self, mask: np.ndarray) -> tuple[list[bytes], np.ndarray]:
        if self.kind == "labels":
            outlines, numbers = trace_labels(mask)
            return outlines, np.ones(len(numbers), np.uint8)
        if self.kind == "binary":
            labels, values = label_components(mask > 0)
            return trace_labels(labels)[0], np.ones(len(values), np.uint8)
        unknown = sorted(set(np.unique(mask).tolist()) - {0, *self.class_values})
        if unknown:
            raise InputError(
                f"{self.mask_path} has the value {unknown[0]}, which is none of the classes "
                f"{list(self.class_values)}; correct it, or name all classes."
            )
        labels, values = label_components(mask)
        order = np.argsort(self.class_values)
        classes = order[np.searchsorted(np.sort(self.class_values), values)] + 1
        return trace_labels(labels)[0], classes.astype(np.uint8)

    @property
    def class_count(self) -> int:
        """K, the classes that the masks have together; at least 1."""
        return max(1, len(self.class_values))

    def fingerprint(self) -> str:
        """State what decides the sample, cheaply: both files' sizes and times."""
        states = [path.stat() for path in (self.image_path, self.mask_path) if path.is_file()]
        stamps = [(state.st_size, state.st_mtime_ns) for state in states]
        texts = (self.image_id, self.file_name, self.split, self.group, self.page, stamps)
        return f"{texts} {self.kind} {self.class_values}"


def folder_references(
    images: Path,
    masks: Path,
    *,
    kind: str = "auto",
    class_values: Sequence[int] = (),
    fractions: tuple[float, float, float] = (0.7, 0.15, 0.15),
    lists: Mapping[str, Sequence[str]] | None = None,
    seed: int = 0,
    group_pattern: str = r"^([^_]+)_",
    split_by_group: bool = False,
    split_in_order: bool = False,
) -> list[FolderReference]:
    """List pairs of images and masks.

    Args:
        images: Folder of images or stacks at any depth, or one stack.
        masks: Folder of masks with the same names, or one stack.
        kind: What the masks' values mean; `auto` looks at them, and asks where that is not clear.
        class_values: The masks' values of class 1, 2, ... for `classes`; those found where empty.
        fractions: Share of the images for train, val and test, in [0, 1], where neither folders
            nor lists tell the split; they add up to 1.
        lists: Names by split, as `listed_splits` takes them; other images are left out.
        seed: Decides which image goes into which split.
        group_pattern: Regular expression on the file name; its first group is the image's group.
        split_by_group: Whether all images of a group go into the same split.
        split_in_order: Whether splits are runs of neighbors in the order of the names, as of
            sections of a volume, instead of drawn.

    Returns:
        The references, in the order of the splits and names, `2.png` before `10.png`.

    Raises:
        InputError: A folder or a partner is absent, names are not unique, `kind` is unclear,
            or there are more than 255 classes.
    """
    if kind not in MASK_KINDS:
        raise InputError(f"The kind of masks {kind!r} must be one of {', '.join(MASK_KINDS)}.")
    if kind == "auto" and only_outlines(Path(masks)):
        kind = "rois"
    pairs = pair_files(Path(images), Path(masks), outlines=kind == "rois")
    if kind == "auto":
        kind = decide_kind(pairs)
        logger.info("%s: %d masks taken as %s", masks, len(pairs), kind)
        if left := outlines_below(Path(masks)):
            logger.warning(
                "%s holds outlines of ImageJ too, such as %s, which are left out: "
                "source.mask_kind=rois takes them instead",
                masks, left[0].name,
            )  # fmt: skip
    values = tuple(class_values) if kind == "classes" else ()
    if kind == "classes" and not values:
        values = tuple(sorted(set().union(*map(mask_values, pairs))))
    if len(values) > MOST_CLASSES:
        raise InputError(
            f"The masks in {masks} have {len(values)} classes, of which at most {MOST_CLASSES} can "
            "be kept; if each value is an instance, set source.mask_kind=labels."
        )
    groups = [group_of(pair.image.name, group_pattern) for pair in pairs]
    units = groups if split_by_group else None
    splits = _splits(pairs, units, fractions, lists, seed, in_order=split_in_order)
    references = [
        FolderReference(
            image_id=pair.name,
            file_name=pair.image.name,
            split=split,
            group=group,
            image_path=pair.image,
            mask_path=pair.mask,
            page=pair.page,
            mask_page=pair.mask_page,
            kind=kind,
            class_values=values,
        )
        for pair, group, split in zip(pairs, groups, splits, strict=True)
        if split
    ]
    return sorted(references, key=lambda reference: SPLITS.index(reference.split))


def _splits(
    pairs: Sequence[ImageMask],
    groups: Sequence[str] | None,
    fractions: tuple[float, float, float],
    lists: Mapping[str, Sequence[str]] | None,
    seed: int,
    *,
    in_order: bool,
) -> list[str]:
    """The split of each pair, empty for one that is left out."""
    if lists is not None:
        splits = listed_splits(pairs, lists)
        if "" in splits:
            logger.warning("%d images are in no list of a split, left out", splits.count(""))
        return splits
    by_folder = [pair.name.partition("/")[0] if "/" in pair.name else "" for pair in pairs]
    named, others = set(by_folder) & set(SPLITS), sorted(set(by_folder) - set(SPLITS))
    if named and not others:
        if groups is not None or in_order:
            key = "source.split_in_order" if in_order else "source.split_by_group"
            raise InputError(
                f"{key}=true has no effect where the folders {', '.join(sorted(named))} say which "
                "split an image is in: leave it out, or move the images into one folder"
            )
        return by_folder
    if named:  # drawn anew, an image of the folder `test` could be trained on
        raise InputError(
            f"Images are in {', '.join(sorted(named))}, which are splits, and in "
            f"{others[0] or 'no folder'}, which is none; name the folders {', '.join(SPLITS)}, "
            "or list the images of each split (source.lists)."
        )
    only_stack = groups is None and pairs[-1].page and pairs[0].image == pairs[-1].image
    if in_order or only_stack:
        what = f"{pairs[0].image} is the only stack" if only_stack else "images are split in order"
        units = [pair.name for pair in pairs] if only_stack else files_of(pairs)
        splits = cut_in_order(units, fractions)
        if len(set(splits)) > 1:
            logger.warning(
                "%s: the first %d are for train, those behind them for val and test; where the "
                "parts meet, they may resemble each other",
                what, splits.count("train"),
            )  # fmt: skip
        return splits
    if groups is not None:
        demand_enough_groups(groups, fractions)
    return draw_splits(groups if groups is not None else files_of(pairs), fractions, seed=seed)
