"""What the data report says: figures of all images added up, and what a user should look at.

figures   one `ImageFigures` an image
overview  strings, finite numbers, None, lists, dictionaries: what `report.json` holds
"""

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import PurePosixPath
from statistics import fmean, median
from typing import Any

from unet_keras.records.figures import ImageFigures
from unet_keras.records.manifest import Manifest
from unet_keras.sources.base import SPLITS, counted

# An image is suspicious with less than this share of the instances its type has in the median,
# where that many images show what the type is like.
FEW_SHARE, FEW_IMAGES = 0.1, 5
MOST_LEFT = 0.5  # of a class's pixels, for a remark
_NAMED = 3  # in a sentence


def overview(
    manifest: Manifest,
    figures: Sequence[ImageFigures],
    *,
    notes: Mapping[str, Any] | None = None,
    remarks: Sequence[str] = (),
) -> dict[str, Any]:
    """Add up what was counted.

    Args:
        manifest: Of the records.
        figures: One an image.
        notes: What is irregular in the source, as the source reports it; JSON values.
        remarks: The same in sentences.

    Returns:
        What `report.json` holds: shares and accuracies in [0, 1], areas in pixels, None where there
        is nothing to tell; `remarks` are the source's and those on what was found here.
    """
    group_names = sorted({one.group for one in figures})
    of_group = {name: [one for one in figures if one.group == name] for name in group_names}
    medians = {name: median(one.instances for one in some) for name, some in of_group.items()}
    found: dict[str, Any] = {
        "overlaps": _overlaps(manifest, figures),
        "without_pixels": [
            {**_name(one), "instances": one.without_pixels} for one in figures if one.without_pixels
        ],
        "mostly_outside": [
            {**_name(one), "outside": one.without_pixels, "instances": one.instances}
            for one in figures
            if one.without_pixels > one.instances
        ],
        "identical_images": _identical(figures),
        "suspicious_images": [
            {**_name(one), "instances": one.instances, "median_of_group": medians[one.group]}
            for one in figures
            if _is_suspicious(one, medians[one.group], len(of_group[one.group]))
        ],
    }
    return {
        "remarks": [
            *remarks,
            *_remarks(found),
            *_on_masks(figures),
            *(_on_classes(figures) if manifest.separate and manifest.num_classes > 1 else []),
        ],
        "total": _totals(figures),
        "groups": {name: _totals(some) for name, some in of_group.items()},
        **found,
        "source": dict(notes or {}),
        "images": [asdict(one) for one in figures],
    }


def _totals(figures: Sequence[ImageFigures]) -> dict[str, dict[str, Any]]:
    """Sums over each split that has images, and over all."""
    parts = {split: [one for one in figures if one.split == split] for split in SPLITS}
    return {name: _sum(some) for name, some in (("all", figures), *parts.items()) if some}


def _sum(figures: Sequence[ImageFigures]) -> dict[str, Any]:
    pixels = sum(one.height * one.width for one in figures)
    instances = sum(one.instances for one in figures)
    labeled = sum(one.labeled_pixels for one in figures)
    touching = sum(one.touching_instances for one in figures)
    scored = [one for one in figures if one.instances]  # nothing to find is no merit
    return {
        "images": len(figures),
        "instances": instances,
        "pixels": pixels,
        "labeled_pixels": labeled,
        "labeled_share": labeled / pixels if pixels else None,
        "mean_instance_pixels": labeled / instances if instances else None,
        "touching_instances": touching,
        "touching_share": touching / instances if instances else None,
        "accuracy_connected": _mean(one.accuracy_connected for one in scored),
        "accuracy_separated": _mean(one.accuracy_separated for one in scored),
    }


def _mean(values: Iterable[float]) -> float | None:
    listed = list(values)
    return fmean(listed) if listed else None


def _overlaps(manifest: Manifest, figures: Sequence[ImageFigures]) -> dict[str, Any]:
    named = {one.image_id: _name(one) for one in figures}
    counted = asdict(manifest.overlaps)
    counted["vanished"] = [
        {
            **named.get(image_id, {"image_id": image_id, "file_name": image_id}),
            "numbers": list(numbers),
        }
        for image_id, numbers in manifest.overlaps.vanished.items()
    ]
    return counted


def _identical(figures: Sequence[ImageFigures]) -> list[list[dict[str, Any]]]:
    """Images whose pixels are equal, in the order of their first."""
    copies: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for one in figures:
        copies[one.pixels_digest].append(_name(one))
    return [some for some in copies.values() if len(some) > 1]


def _is_suspicious(one: ImageFigures, usual: float, images: int) -> bool:
    few = images >= FEW_IMAGES and one.instances < FEW_SHARE * usual
    return few or one.instances == 0


def _name(one: ImageFigures) -> dict[str, Any]:
    names = ("image_id", "file_name", "split", "group")
    return {name: getattr(one, name) for name in names}


def page_name(one: Mapping[str, Any]) -> str:
    """Name an image of the overview: as its file; a page of a stack by its id, which counts it."""
    page = re.escape(PurePosixPath(one["file_name"]).stem) + r"-\d+"
    is_page = re.fullmatch(page, PurePosixPath(one["image_id"]).name)
    return str(one["image_id" if is_page else "file_name"])


def _remarks(found: Mapping[str, Any]) -> list[str]:
    """Say in a sentence each what was found; nothing where there is nothing."""
    overlaps, suspicious = found["overlaps"], found["suspicious_images"]
    sentences = []
    if overlaps["vanished"]:
        listed = _some(
            overlaps["vanished"],
            lambda one: f"{page_name(one)}: {', '.join(map(str, one['numbers']))}",
        )
        sentences.append(
            f"{counted(overlaps['vanished_instances'], 'instance')} vanished under others "
            f"(targets.overlap={overlaps['rule']}), by image and number: {listed}"
        )
    if found["without_pixels"]:
        listed = _some(found["without_pixels"], lambda one: f"{page_name(one)}: {one['instances']}")
        number = sum(one["instances"] for one in found["without_pixels"])
        sentences.append(
            f"{counted(number, 'annotated instance')} without a pixel of the image, left out, "
            f"by image: {listed}"
        )
    if found["mostly_outside"]:
        listed = _some(
            found["mostly_outside"],
            lambda one: (
                f"{one['file_name']} (id {one['image_id']}) has {one['outside']} of "
                f"{one['outside'] + one['instances']}"
            ),
        )
        sentences.append(
            f"{counted(len(found['mostly_outside']), 'image')} with most annotated instances "
            "outside of the picture, or too small for a pixel; x and y may be exchanged, or the "
            f"annotations be of another image: {listed}"
        )
    if found["identical_images"]:
        leaks = sum(len({one["split"] for one in some}) > 1 for some in found["identical_images"])
        listed = _some(
            found["identical_images"],
            lambda some: " = ".join(f"{page_name(one)} ({one['split']})" for one in some),
        )
        sentences.append(
            f"{counted(len(found['identical_images']), 'image')} found several times, "
            f"pixel by pixel, {leaks} of them in several splits: {listed}"
        )
    if suspicious:
        listed = _some(
            suspicious,
            lambda one: (
                f"{page_name(one)} has {one['instances']} "
                f"({one['group']}: {one['median_of_group']:g})"
            ),
        )
        sentences.append(
            f"{counted(len(suspicious), 'image')} with very few instances beside the median "
            f"of their type: {listed}"
        )
    return sentences


def _on_masks(figures: Sequence[ImageFigures]) -> list[str]:
    """Say which masks can hardly mean what they were taken for."""
    in_pieces = [one for one in figures if one.pieces > 1]
    full = [
        one
        for one in figures
        if one.instances == 1 and one.labeled_pixels == one.height * one.width
    ]
    sentences = []
    if in_pieces:
        listed = _some(in_pieces, lambda one: f"{page_name(_name(one))} in {one.pieces}")
        sentences.append(
            f"{counted(len(in_pieces), 'image')} with a single instance that lies in several "
            "pieces, as from a binary mask among label maps (source.mask_kind=binary would make "
            f"each piece an instance): {listed}"
        )
    if full:
        listed = _some(full, lambda one: page_name(_name(one)))
        sentences.append(
            f"{counted(len(full), 'image')} with a single instance from edge to edge, as from a "
            f"mask that is full: {listed}"
        )
    train = [one for one in figures if one.split == "train"]
    if train and not any(one.instances for one in train):
        sentences.append(
            f"no instance in any of {counted(len(train), 'training image')}: nothing can be "
            "learned from them"
        )
    return sentences


def _on_classes(figures: Sequence[ImageFigures]) -> list[str]:
    """Say which classes lose most of what they have where they touch others, as lines do."""
    owned, left = Counter[int](), Counter[int]()
    for one in figures:
        for index, (painted, kept) in enumerate(one.class_pixels, 1):
            owned[index] += painted
            left[index] += kept
    return [
        f"class {index} loses {1 - left[index] / pixels:.0%} of its pixels where it touches other "
        "instances, which are separated there: targets.separate_touching=false keeps them"
        for index, pixels in sorted(owned.items())
        if left[index] < MOST_LEFT * pixels
    ]


def _some(items: Sequence[Any], text: Callable[[Any], str]) -> str:
    more = "; ..." if len(items) > _NAMED else ""
    return "; ".join(map(text, items[:_NAMED])) + more
