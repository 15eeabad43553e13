"""Which image goes into which split, where no folder tells."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from unet_keras.errors import InputError
from unet_keras.sources.base import SPLITS
from unet_keras.sources.folder_pairs import ImageMask
from unet_keras.sources.listing import SUFFIXES


def draw_splits(
    units: Sequence[str], fractions: tuple[float, float, float], *, seed: int
) -> list[str]:
    """Draw a split for each image; images of one unit go together.

    Args:
        units: What each image belongs to: its group, or its file.
        fractions: Share of the images for train, val and test, in [0, 1]; they add up to 1.
        seed: Decides the draw.

    Returns:
        The split of each image. Sizes are the fractions' to within a unit; a split with a
        fraction above 0 gets a unit at least, as long as there are enough.
    """
    sizes = Counter(units)
    order = [str(unit) for unit in np.random.default_rng(seed).permutation(sorted(sizes))]
    wanted = dict(zip(SPLITS, fractions, strict=True))
    filled = dict.fromkeys(SPLITS, 0)
    chosen: dict[str, str] = {}
    for unit in order:
        empty = [split for split in SPLITS if wanted[split] > 0 and not filled[split]]
        split = max(empty or SPLITS, key=lambda s: wanted[s] * len(units) - filled[s])
        chosen[unit] = split
        filled[split] += sizes[unit]
    return [chosen[unit] for unit in units]


def demand_enough_groups(groups: Sequence[str], fractions: tuple[float, float, float]) -> None:
    """Refuse to split by groups that do not go round.

    Args:
        groups: Of each image.
        fractions: Share of the images for train, val and test.

    Raises:
        InputError: Names the groups.
    """
    names, splits = sorted(set(groups)), sum(fraction > 0 for fraction in fractions)
    if len(names) < splits:
        raise InputError(
            f"source.split_by_group needs a group for each of {splits} splits, but the "
            f"{len(groups)} images are of {len(names)} ({', '.join(names)}): give another "
            "source.group_pattern, or source.fractions with a 0"
        )


def files_of(pairs: Sequence[ImageMask]) -> list[str]:
    """Name the file of each image, which pages of a stack share: neighbors resemble each other."""
    return [pair.name if pair.page is None else pair.name.rpartition("-")[0] for pair in pairs]


def cut_in_order(units: Sequence[str], fractions: tuple[float, float, float]) -> list[str]:
    """Cut images in their order into as many runs of neighbors as splits.

    Args:
        units: What each image belongs to: its file, or a page by itself; those of one follow each
            other and go together.
        fractions: Share of the units for train, val and test, in [0, 1]; they add up to 1.

    Returns:
        The split of each image: the first ones train.
    """
    order = list(dict.fromkeys(units))
    sizes = Counter(draw_splits(order, fractions, seed=0))
    runs = [split for split in SPLITS for _ in range(sizes[split])]
    chosen = dict(zip(order, runs, strict=True))
    return [chosen[unit] for unit in units]


def read_lists(folder: Path) -> dict[str, list[str]]:
    """Read which images belong to which split.

    Args:
        folder: Holds train.txt, and val.txt and test.txt where there are such images: a name a
            line; empty lines and those that begin with # do not count.

    Returns:
        The names by split.

    Raises:
        InputError: There is no train.txt, or a file is no text.
    """
    lists = {}
    for split in SPLITS:
        file = folder / f"{split}.txt"
        if not file.is_file():
            continue
        try:
            lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines()]
        except UnicodeDecodeError as error:
            raise InputError(f"{file} is no text in UTF-8 ({error.reason}); save it so.") from error
        lists[split] = [line for line in lines if line and not line.startswith("#")]
    if not lists.get("train"):
        raise InputError(
            f"source.lists={folder} holds no train.txt with names in it; write one file name a "
            "line into train.txt, val.txt and test.txt."
        )
    return lists


def listed_splits(pairs: Sequence[ImageMask], lists: Mapping[str, Sequence[str]]) -> list[str]:
    """Look each image up in lists of names.

    Args:
        pairs: The images.
        lists: Names by split, with or without folders and suffix. A page of a stack is named by
            its number, `stack-3`; the stack's own name stands for all its pages.

    Returns:
        The split of each image, empty where no list names it.

    Raises:
        InputError: A list is of no split, names an absent image or several of one name, or two
            lists name the same.
    """
    unknown = sorted(set(lists) - set(SPLITS))
    if unknown:
        raise InputError(f"{unknown[0]!r} is no split; lists are for {', '.join(SPLITS)}.")
    places = _places(pairs)
    splits = [""] * len(pairs)
    absent = []
    for split, names in lists.items():
        for name in names:
            found = places.get(_without_suffix(name), [])
            if len({pairs[k].image for k in found}) > 1:
                raise InputError(
                    f"{name}, listed for {split}, could be {pairs[found[0]].image} or "
                    f"{pairs[found[-1]].image}; list it with its folder."
                )
            for k in found:
                if splits[k] not in ("", split):
                    raise InputError(
                        f"{name} is listed for {splits[k]} and for {split}; an image belongs to "
                        "one split."
                    )
                splits[k] = split
            absent += [] if found else [f"{name} ({split})"]
    if absent:
        raise InputError(
            f"{len(absent)} listed images are not there, the first is {absent[0]}; correct the "
            "list or add the image."
        )
    return splits


def _places(pairs: Sequence[ImageMask]) -> dict[str, list[int]]:
    """Positions of images by every name that a list may give them."""
    whole: dict[str, list[int]] = {}
    short: dict[str, list[int]] = {}
    for k, pair in enumerate(pairs):
        folder = pair.name.rpartition("/")[0]
        stack = f"{folder}/{pair.image.stem}" if folder else pair.image.stem
        for name in {pair.name, stack}:
            whole.setdefault(name, []).append(k)
        for name in {pair.name.rpartition("/")[2], pair.image.stem}:
            short.setdefault(name, []).append(k)
    return short | whole


def _without_suffix(name: str) -> str:
    """A listed name as images are named; a dot need not begin a suffix."""
    name = name.replace("\\", "/").removeprefix("./")
    suffix = Path(name).suffix
    return name.removesuffix(suffix) if suffix.lower() in SUFFIXES else name
